"""Surface features: what they count, and that they take any text."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from locus.encoding.surface import SURFACE, surface


def test_by_hand() -> None:
    found = np.expm1(surface(["Add 12 and 7.\nA) 19", ""]))
    np.testing.assert_allclose(found[0], [19, 6, 5, 1, 14 / 6], rtol=1e-5)
    np.testing.assert_allclose(found[1], np.zeros(len(SURFACE)))


@given(st.lists(st.text(), max_size=4))
def test_any_text(texts: list[str]) -> None:
    found = surface(texts)
    assert found.shape == (len(texts), len(SURFACE))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
