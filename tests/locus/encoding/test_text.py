"""Encoding texts: once each, and the same whatever comes with them."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from small_map import SUMS, publish_small
from transformers import PreTrainedModel

from locus.encoding import DEFAULT_ENCODER, TextEncoder, encoder_identity, precision_of
from locus.encoding import text as encoding
from locus.routing.router import Router


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


def test_threads_that_load_at_once_leave_the_library_as_it_was() -> None:
    before = PreTrainedModel.tie_weights
    ready = threading.Barrier(4)

    def load() -> None:
        ready.wait()
        TextEncoder()._load()

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            for one in [pool.submit(load) for _ in range(4)]:
                one.result()
        assert PreTrainedModel.tie_weights is before


def test_texts_that_are_cut_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    words = "extraordinarily " * 50  # 800 characters, few tokens
    TextEncoder().encode(["a " * 300, words, "Why?"])
    assert "1 of 3 texts are longer than the 256 tokens" in caplog.text


def test_another_precision_is_another_encoder_of_nearly_the_same_vectors(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["What is 5 plus 9?", "Name a river in Peru, and the sea that it ends in. " * 9, "Why?"]
    plain = TextEncoder(precision="float32").encode(texts)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, False)
    half = TextEncoder(precision="bfloat16").encode(texts)
    assert half.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)
    assert 0.999 < (half * plain).sum(axis=1).min() < 1 - 1e-6
    usual, other = (encoder_identity(DEFAULT_ENCODER, p) for p in ("float32", "bfloat16"))
    assert usual == encoder_identity(DEFAULT_ENCODER)
    assert [precision_of(usual), precision_of(other)] == ["float32", "bfloat16"]
    with pytest.raises(ValueError, match=r"'int8'.*float32, bfloat16"):
        TextEncoder(precision="int8")
    assert not caplog.records
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, False)
    with caplog.at_level(logging.WARNING, "locus"):
        assert TextEncoder(precision="bfloat16").dim == 384
    assert "float32 is faster here" in caplog.text


def test_a_router_reads_texts_in_the_precision_of_its_map(tmp_path: Path) -> None:
    publish_small(tmp_path, each=1, precision="bfloat16")
    text = [SUMS.format(a=2, b=4)]
    features = Router.load(tmp_path).encode(text)
    np.testing.assert_array_equal(features[:, :384], TextEncoder(precision="bfloat16").encode(text))
