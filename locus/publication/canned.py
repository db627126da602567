"""Canned queries of a snapshot: encodings, and whom its own predictor chose when it was built.

`routing/canned.json` lets anybody route them again, from the published files alone, and compare.
Some are the encodings of reference queries, others are fixed and like no text at all: what a router
does with these is not good or bad, but it must be finite and the same everywhere.

Shape letters: C canned queries, M models, T reference queries, f width of query features, p of an
encoding.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from locus.encoding.surface import SURFACE
from locus.publication.content import Array, SnapshotContent
from locus.routing.predictor import TOLERANCE

CANNED = Path("routing", "canned.json")

REFERENCE = 8
"""Reference queries among them."""

CHOICES = 3
"""Models that are named of each, the most probable first."""

_LONGEST = 12.0  # log(1 + x) of 160,000 characters
_ABOUT = (
    "Queries to check a router with: features (an encoding, then surface features) and the models "
    "that are most probable to answer correctly, as computed when the snapshot was built. "
    "p_correct must come out within the tolerance. Queries without an id are made up and mean "
    "nothing."
)


def write_canned(content: SnapshotContent, p_TM: Array, folder: Path) -> None:
    """Write the canned queries of a snapshot.

    Args:
        content: what is published.
        p_TM: predicted P(correct) of the reference queries.
        folder: the snapshot; its folder ``routing`` is there.
    """
    spread = np.linspace(0, len(content.x_Tf) - 1, REFERENCE).round()
    rows_R = np.unique(spread.astype(np.int64))
    made = _made(content.x_Tf)
    made_p_CM = content.predictor.probabilities(content.z_Md, np.stack(list(made.values())))
    ids = content.models["model_id"].to_list()
    known = content.reference.select("query_id", "task").rows()
    queries = [
        _entry(f"reference query {n}", known[row], content.x_Tf[row], p_TM[row], ids)
        for n, row in enumerate(rows_R.tolist(), start=1)
    ] + [
        _entry(name, (None, None), x_f, p_M, ids)
        for (name, x_f), p_M in zip(made.items(), made_p_CM, strict=True)
    ]
    document = {
        "about": _ABOUT,
        "encoder": content.predictor.encoder,
        "tolerance": TOLERANCE,
        "queries": queries,
    }
    (folder / CANNED).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _made(x_Tf: Array) -> dict[str, Array]:
    """Features that are like no text: without anything, without direction, far off, very long."""
    width = x_Tf.shape[1] - len(SURFACE)
    even_p = np.full(width, width**-0.5)
    signs_p = np.where(np.arange(width) % 2, -1.0, 1.0)
    first_p, usual_s = x_Tf[0, :width], x_Tf[:, width:].mean(axis=0)
    made = {
        "nothing": (np.zeros(width), np.zeros(len(SURFACE))),
        "an encoding of nothing but zeros": (np.zeros(width), usual_s),
        "every coordinate the same": (even_p, usual_s),
        "coordinates of alternating sign": (even_p * signs_p, usual_s),
        "the opposite of a query": (-first_p, usual_s),
        "a very long text": (first_p, np.full(len(SURFACE), _LONGEST)),
    }
    return {name: np.concatenate(parts).astype(np.float32) for name, parts in made.items()}


def _entry(
    name: str, query: tuple[str | None, str | None], x_f: Array, p_M: Array, ids: list[str]
) -> dict[str, Any]:
    best = pl.DataFrame({"model_id": ids, "p": p_M}).sort("p", "model_id", descending=[True, False])
    return {
        "name": name,
        "query_id": query[0],
        "task": query[1],
        "choices": [
            {"model_id": model, "p_correct": _number(p)}
            for model, p in zip(best["model_id"].head(CHOICES), best["p"].to_numpy(), strict=False)
        ],
        "features": [_number(x) for x in x_f],
    }


def _number(value: np.float32) -> float:
    """The shortest decimal that gives the same float32 back."""
    return float(str(value))
