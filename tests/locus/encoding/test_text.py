"""Encoding texts: once each, and the same whatever comes with them."""

import numpy as np
import pytest

from locus.encoding import TextEncoder
from locus.encoding import text as encoding


def test_a_text_goes_through_the_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_LATEST", 3)
    encoder = TextEncoder()
    went: list[str] = []
    network = encoder._load()
    plain = network.encode
    monkeypatch.setattr(network, "encode", lambda t, **k: went.extend(t) or plain(t, **k))
    texts = ["What is 5 plus 9?", "Name a river in Peru, and the sea that it ends in.", "Why?"]
    first = encoder.encode([*texts, texts[0]])
    assert sorted(went) == sorted(texts)
    np.testing.assert_array_equal(first[0], first[3])
    again = encoder.encode([texts[2], "How?", texts[1]])
    assert went[3:] == ["How?"]
    np.testing.assert_array_equal(again[[0, 2]], first[[2, 1]])
    np.testing.assert_allclose(first[:3], plain(texts), atol=1e-5)
    # Three are kept, the latest.
    encoder.encode([texts[0]])
    assert went[4:] == [texts[0]]
    assert encoder.encode([]).shape == (0, first.shape[1])
