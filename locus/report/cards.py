"""What a model's card says that no table of the page holds: every rank, and facts about the model.

Two thousand models in nine buckets are 18,000 ranks. They travel deflated, as base64, and are
unpacked when the first card is opened; everything else on a card is in the page's tables already.
"""

import json
from typing import Any

import polars as pl

from locus.report.digits import significant, thousandths
from locus.report.tidy import REAL, TEXT, deflated

FACTS: dict[str, pl.DataType] = {
    "model_id": TEXT,
    "revision": TEXT,
    "price_in_usd_per_mtok": REAL,
    "price_out_usd_per_mtok": REAL,
    "cost_usd": REAL,
    "latency_ms": REAL,
    "uncertainty": REAL,
}

RANKED_CELLS = 18_000
STAND_INS = 5
"""Nearest models that stand in for one that is down; as many as a snapshot's chains hold."""

_SHA_SHOWN = 10


def pack_cards(
    facts: pl.DataFrame, routing: pl.DataFrame, buckets: pl.DataFrame, at: pl.DataFrame
) -> tuple[dict[str, Any], str]:
    """Pack ranks and facts, and say what was left out.

    Args:
        facts: `FACTS`, one row a model at most.
        routing: bucket, model_id, rank, p_correct, lower_bound of all models.
        buckets: bucket and its number ``in`` the order of the page.
        at: model_id and its position ``at`` in the page's list.

    Returns:
        Content for the page's script, and the sentence that states the cap ("" where all fits).
        Its ``packed`` holds per bucket four columns in the order of rank: model, steps of the rank,
        falls of p_correct and how far the lower bound lies below it, both in thousandths: small
        numbers deflate to a third of the plain ones.
    """
    sizes = buckets.join(routing.group_by("bucket").len(), on="bucket", maintain_order="left")
    fits = int((sizes["len"].cum_sum() <= RANKED_CELLS).sum())
    shown = sizes.head(max(fits, 1))
    ranked = (
        routing.drop_nulls("rank")
        .join(shown.select("bucket", "in"), on="bucket")
        .join(at, on="model_id")
        .sort("in", "rank", "at")
        .partition_by("in", maintain_order=True)
    )
    known = at.join(facts, on="model_id", how="left", maintain_order="left")
    content = {
        "ranked": [_ranked(rows) for rows in ranked],
        "facts": {
            "revision": [_short(revision) for revision in known["revision"]],
            **{
                name: [significant(value, 3) for value in known[name]]
                for name, kind in FACTS.items()
                if kind == REAL
            },
        },
    }
    cap = ""
    if shown.height < sizes.height:
        cap = (
            f"With {at.height:,} models a card shows ranks in the first {shown.height} of "
            f"{sizes.height} buckets; routing/table.parquet has all of them."
        )
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return {"packed": deflated(text), "stand_ins": STAND_INS}, cap


def _ranked(rows: pl.DataFrame) -> list[list[int | None]]:
    p, low = (pl.Series(thousandths(rows[c]), dtype=pl.Int64) for c in ("p_correct", "lower_bound"))
    return [
        rows["at"].to_list(),
        rows["rank"].diff().fill_null(rows["rank"]).to_list(),
        _falls(p.to_list()),
        (p - low).to_list(),
    ]


def _falls(values: list[int | None]) -> list[int | None]:
    """How far each value lies below the last known one before it, which is 1,000 at first."""
    falls: list[int | None] = []
    last = 1000
    for value in values:
        falls.append(None if value is None else last - value)
        last = last if value is None else value
    return falls


def _short(revision: str | None) -> str | None:
    """The first letters of a commit, enough to find it by; anything else as it is."""
    if revision is None or len(revision) < 40 or not set(revision) <= set("0123456789abcdef"):
        return revision
    return revision[:_SHA_SHOWN]
