"""Buckets of queries learned from their encodings, beside those that benchmarks make.

Spherical k-means on the sentence encodings. How many buckets is measured, not set: by how well the
model that is best in a bucket answers queries that the bucket was not learned from.

Shape letters: T queries, M models, G buckets, p width of an encoding.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locus.bank import Array

Ints = NDArray[np.int64]

COUNTS = (4, 8, 16, 32)
"""Numbers of buckets that are tried."""

FEWEST = 20
"""Queries of a bucket on average; with fewer, its figures say nothing."""

WORDS = 4
"""Words that name a bucket."""

FAR = 0.01
"""Share of the queries learned from that would have been far from every bucket."""

_FILE = "buckets.safetensors"
_WORD = re.compile(r"[^\W\d_]{3,20}")
_MOST_TEXT = 2000  # characters of a query that its bucket's words are looked for in


@dataclass(frozen=True)
class Buckets:
    """Learned buckets.

    Attributes:
        centres_Gp: unit vectors.
        words: for each bucket the words that tell it from the others, the most telling first.
        edge: cosine to the nearest centre below which a query is far from every bucket.
    """

    centres_Gp: Array
    words: tuple[tuple[str, ...], ...]
    edge: float

    def __len__(self) -> int:
        return len(self.centres_Gp)

    def assign(self, phi_Tp: Array) -> Ints:
        """The bucket of each query: that of the nearest centre, int64 [T]."""
        return np.asarray(cosines(phi_Tp, self.centres_Gp).argmax(axis=1), dtype=np.int64)

    def names(self, taken: Sequence[str] = ()) -> list[str]:
        """A name for each bucket, ``topic 01`` and so on, none of those that are ``taken``."""
        return bucket_names(len(self), taken)

    def write(self, folder: Path) -> None:
        """Write centres and edge; names and words are in the routing table's JSON."""
        from safetensors.numpy import save_file

        content = {
            "centres": np.ascontiguousarray(self.centres_Gp),
            "edge": np.array([self.edge], dtype=np.float32),
        }
        save_file(content, folder / _FILE)


def bucket_names(count: int, taken: Sequence[str] = ()) -> list[str]:
    """A name for each of some buckets; see `Buckets.names`."""
    used, names = set(taken), []
    for number in range(1, count + 1):
        name = f"topic {number:02d}"
        while name in used:
            name += "'"
        names.append(name)
    return names


def cosines(phi_Tp: Array, centres_Gp: Array) -> Array:
    """Cosine of each query with each centre, float32 [T, G]; the centres are unit vectors."""
    return np.asarray(_unit(phi_Tp) @ centres_Gp.T)


def read_centres(folder: Path) -> tuple[Array, float] | None:
    """Centres [G, p] and edge that `Buckets.write` wrote.

    None if there are no buckets, or if they were published before buckets had an edge.
    """
    from safetensors.numpy import load_file

    path = folder / _FILE
    content = load_file(path) if path.exists() else {}
    if "edge" not in content:
        return None
    return content["centres"], float(content["edge"][0])


def learn_buckets(
    phi_Tp: Array,
    texts: Sequence[str],
    p_TM: Array,
    y_TM: Array,
    *,
    counts: Sequence[int] = COUNTS,
    seed: int = 0,
) -> Buckets | None:
    """Learn buckets from queries.

    Each count is tried by two-fold cross-fitting: buckets and their best models (by mean ``p_TM``)
    come from one half, the score of those models on the other half is what counts. The smallest
    count is taken that is no more than one standard error below the best.

    Args:
        phi_Tp: encodings of the queries; test queries must not be among them.
        texts: the queries, for the words.
        p_TM: predicted P(correct).
        y_TM: scores, NaN where missing.
        counts: numbers of buckets to try.
        seed: of everything random.

    Returns:
        Buckets, numbered from the largest; None if there are too few queries for two.
    """
    fit = [k for k in sorted(counts) if k > 1 and len(texts) >= k * FEWEST]
    if not fit:
        return None
    unit_Tp = _unit(phi_Tp)
    k = fit[0] if len(fit) == 1 else _best_count(unit_Tp, p_TM, y_TM, fit, seed)
    centres_Gp, label_T = _cluster(unit_Tp, k, seed)
    order = np.argsort(-np.bincount(label_T, minlength=k), kind="stable")
    rank = np.empty(k, dtype=np.int64)
    rank[order] = np.arange(k)
    edge = _edge(unit_Tp, centres_Gp, label_T)
    return Buckets(centres_Gp[order], _words(texts, rank[label_T], k), edge)


def _unit(phi_Tp: Array) -> Array:
    norm = np.linalg.norm(phi_Tp, axis=1, keepdims=True)
    return np.asarray(phi_Tp / np.maximum(norm, 1e-12), dtype=np.float32)


def _cluster(unit_Tp: Array, k: int, seed: int) -> tuple[Array, Ints]:
    from sklearn.cluster import KMeans

    found: Any = KMeans(k, n_init=4, random_state=seed).fit(unit_Tp)
    centres_Gp = _unit(found.cluster_centers_)
    return centres_Gp, np.asarray((unit_Tp @ centres_Gp.T).argmax(axis=1), dtype=np.int64)


def _edge(unit_Tp: Array, centres_Gp: Array, label_T: Ints) -> float:
    """The share `FAR` of the queries is less like its nearest centre than this.

    A query pulls its own centre towards it, which no new query does: so each is compared with the
    centre of the others in its bucket.
    """
    cosine_TG = unit_Tp @ centres_Gp.T
    rows = np.arange(len(unit_Tp))
    member_GT = (label_T == np.arange(len(centres_Gp))[:, None]).astype(np.float32)
    others_Tp = (member_GT @ unit_Tp)[label_T] - unit_Tp
    cosine_TG[rows, label_T] = (_unit(others_Tp) * unit_Tp).sum(axis=1)
    return float(np.quantile(cosine_TG.max(axis=1), FAR))


def _best_count(unit_Tp: Array, p_TM: Array, y_TM: Array, counts: Sequence[int], seed: int) -> int:
    half_T = np.random.default_rng(seed).permutation(len(unit_Tp)) % 2
    gained_KT = np.full((len(counts), len(unit_Tp)), np.nan)
    for row, k in enumerate(counts):
        for half in (0, 1):
            on, off = half_T == half, half_T != half
            centres_Gp, label_T = _cluster(unit_Tp[on], k, seed)
            member_GT = (label_T == np.arange(k)[:, None]).astype(np.float32)
            best_G = (member_GT @ p_TM[on]).argmax(axis=1)  # of a sum as of a mean
            chosen = best_G[(unit_Tp[off] @ centres_Gp.T).argmax(axis=1)]
            gained_KT[row, off] = y_TM[off, chosen]
    known_T = ~np.isnan(gained_KT).any(axis=0)
    if known_T.sum() < 2:
        return counts[0]
    gained_KT = gained_KT[:, known_T]
    best = int(gained_KT.mean(axis=1).argmax())
    lost_KT = gained_KT[best] - gained_KT
    error_K = lost_KT.std(axis=1, ddof=1) / np.sqrt(lost_KT.shape[1])
    return counts[int((lost_KT.mean(axis=1) <= error_K).argmax())]


def _words(texts: Sequence[str], label_T: Ints, k: int) -> tuple[tuple[str, ...], ...]:
    """Words that are frequent in a bucket and rare in others (tf-idf with a bucket as document).

    A word counts once a query, so that one long query can't name its bucket.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts: dict[str, Ints] = {}
    for text, label in zip(texts, label_T.tolist(), strict=True):
        for word in set(_WORD.findall(text[:_MOST_TEXT].lower())) - ENGLISH_STOP_WORDS:
            counts.setdefault(word, np.zeros(k, dtype=np.int64))[label] += 1
    if not counts:
        return ((),) * k
    vocabulary = np.array(sorted(counts))
    count_WG = np.stack([counts[word] for word in vocabulary.tolist()])
    size_G = np.maximum(np.bincount(label_T, minlength=k), 1)
    share_WG = count_WG / size_G
    weight_WG = share_WG * np.log(share_WG.clip(1e-9) / share_WG.mean(axis=1, keepdims=True))
    named = []
    for g in range(k):
        order = np.lexsort((vocabulary, -weight_WG[:, g]))[:WORDS]
        named.append(tuple(vocabulary[[w for w in order if weight_WG[w, g] > 0]].tolist()))
    return tuple(named)
