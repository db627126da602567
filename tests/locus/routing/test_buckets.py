"""Buckets of queries learned from encodings."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from locus.bank import Array
from locus.routing.buckets import FAR, Buckets, cosines, learn_buckets, read_centres

WORDS = ("triangle angle area", "verb noun grammar", "enzyme protein cell", "court law appeal")


def world(seed: int, n: int = 400) -> tuple[Array, list[str], Array, Array]:
    """Four kinds of queries, each with a model that is good at it; answers are drawn from p."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, n)
    phi = rng.normal(0, 0.25, (n, 16)).astype(np.float32)
    phi[np.arange(n), kind] += 1.0
    p = np.full((n, 4), 0.2, dtype=np.float32)
    p[np.arange(n), kind] = 0.9
    y = (rng.random((n, 4)) < p).astype(np.float32)
    texts = [f"{WORDS[k]} question number {i}" for i, k in enumerate(kind.tolist())]
    return phi, texts, p, y


@pytest.mark.parametrize("seed", range(3))
def test_kinds_are_found_and_named(seed: int) -> None:
    phi, texts, p, y = world(seed)
    found = learn_buckets(phi, texts, p, y)
    assert found is not None
    # One model is best in each kind, so more buckets than kinds gain nothing.
    assert len(found) == 4
    labels = found.assign(phi)
    for words in WORDS:
        mine = labels[[words in text for text in texts]]
        share = np.bincount(mine, minlength=4) / len(mine)
        bucket = int(share.argmax())
        assert share[bucket] > 0.9
        assert set(words.split()) <= set(found.words[bucket])
    sizes = np.bincount(labels, minlength=4)
    assert (np.diff(sizes) <= 0).all()  # numbered from the largest


def test_of_new_queries_as_many_are_far_as_was_said() -> None:
    # Few and wide: here a query pulls its own centre most.
    phi, texts, p, y = world(4, n=100)
    found = learn_buckets(phi, texts, p, y)
    assert found is not None
    nearest = cosines(world(5, n=20_000)[0], found.centres_Gp).max(axis=1)
    assert FAR / 4 < (nearest < found.edge).mean() < FAR * 4
    other = np.random.default_rng(6).normal(0, 0.25, (1000, 16)).astype(np.float32)
    other[:, 9] += 1.0
    assert (cosines(other, found.centres_Gp).max(axis=1) < found.edge).mean() > 0.3


def test_the_same_queries_give_the_same_buckets() -> None:
    phi, texts, p, y = world(1)
    one, two = learn_buckets(phi, texts, p, y), learn_buckets(phi, texts, p, y)
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.centres_Gp, two.centres_Gp)
    assert one.words == two.words


def test_answers_may_be_missing_and_words_too() -> None:
    phi, texts, p, y = world(2)
    y[:] = np.nan
    found = learn_buckets(phi, ["1 + 1 = ?"] * len(texts), p, y)
    assert found is not None
    assert len(found) == 4  # nothing speaks for more
    assert found.words == ((),) * 4


def test_too_few_queries_make_no_buckets() -> None:
    phi, texts, p, y = world(0, n=79)
    assert learn_buckets(phi, texts, p, y) is None


def test_names_keep_clear_of_tasks_and_centres_come_back(tmp_path: Path) -> None:
    found = Buckets(np.eye(2, 3, dtype=np.float32), (("a",), ("b",)), 0.25)
    assert found.names(["topic 02"]) == ["topic 01", "topic 02'"]
    assert read_centres(tmp_path) is None
    found.write(tmp_path)
    back = read_centres(tmp_path)
    assert back is not None
    np.testing.assert_array_equal(back[0], found.centres_Gp)
    assert back[1] == found.edge
    # As snapshots were published before there was an edge.
    save_file({"centres": found.centres_Gp}, tmp_path / "buckets.safetensors")
    assert read_centres(tmp_path) is None
