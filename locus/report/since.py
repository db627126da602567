"""What changed since the last snapshot, as the page tells it.

Models that are gone are in no other table of the page, so everything here goes by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from locus.report.digits import significant, thousandths
from locus.report.tidy import COUNT, REAL, TEXT, tidy, visible

ROWS = 200
NAMES = 12
# A move this many times as far as the doubt about both places is more than new answers explain.
BEYOND = 2.0

MOVED: dict[str, pl.DataType] = {
    "model_id": TEXT,
    "moved": REAL,
    "n_scores_old": COUNT,
    "n_scores_new": COUNT,
    "doubt_old": REAL,
    "doubt_new": REAL,
}
FLIPS: dict[str, pl.DataType] = {
    "bucket": TEXT,
    "old_best": TEXT,
    "new_best": TEXT,
    "p_old": REAL,
    "p_new": REAL,
}
RANKS: dict[str, pl.DataType] = {
    "model_id": TEXT,
    "rank_old": COUNT,
    "rank_new": COUNT,
    "p_old": REAL,
    "p_new": REAL,
}


@dataclass(frozen=True)
class Since:
    """What differs from the last snapshot.

    Attributes:
        snapshot: the last snapshot's id.
        same_map: whether one map made both; without it places can't be compared.
        added: models that are new.
        gone: models that are no longer there.
        revised: models of another revision, or placed by another number of scores.
        moved: `MOVED`, the farthest first: Euclidean distance between a model's two places, the
            scores behind each, and the doubt about each (NULL where unknown).
        flips: `FLIPS`: buckets with another first choice, and the chance of the new one before and
            now.
        ranks: `RANKS`: over all queries, the largest change first.
        quality: method -> hit@1 before and now.
    """

    snapshot: str
    same_map: bool
    added: Sequence[str]
    gone: Sequence[str]
    revised: Sequence[str]
    moved: pl.DataFrame
    flips: pl.DataFrame
    ranks: pl.DataFrame
    quality: Mapping[str, tuple[float, float]]

    def checked(self) -> "Since":
        """A copy with nothing invisible in its text and its frames as described.

        Raises:
            ReportDataError: a frame lacks a column, or has one of another type.
        """
        return Since(
            visible(self.snapshot),
            self.same_map,
            [visible(name) for name in self.added],
            [visible(name) for name in self.gone],
            [visible(name) for name in self.revised],
            tidy(self.moved, MOVED, "since.moved", "model_id"),
            tidy(self.flips, FLIPS, "since.flips", "bucket"),
            tidy(self.ranks, RANKS, "since.ranks", "model_id"),
            {visible(method): both for method, both in self.quality.items()},
        )

    @property
    def other_ranks(self) -> pl.DataFrame:
        """Rows of ``ranks`` whose rank is another one."""
        return self.ranks.filter(pl.col("rank_old") != pl.col("rank_new"))


def pack_since(since: Since | None) -> dict[str, Any]:
    """Tables of a checked `Since` as compact columns; empty ones where there is nothing."""
    if since is None:
        return {"moved": [], "flips": [], "ranks": []}
    moved = since.moved.head(ROWS)
    flips, ranks = since.flips.head(ROWS), since.other_ranks.head(ROWS)

    def rows(*columns: Sequence[object]) -> list[list[object]]:
        return [list(row) for row in zip(*columns, strict=True)]

    return {
        "moved": rows(
            moved["model_id"].to_list(),
            [significant(value) for value in moved["moved"]],
            moved["n_scores_old"].to_list(),
            moved["n_scores_new"].to_list(),
            [significant(value, 3) for value in moved["doubt_old"]],
            [significant(value, 3) for value in moved["doubt_new"]],
            _beyond(moved).to_list(),
        ),
        "flips": rows(
            flips["bucket"].to_list(),
            flips["old_best"].to_list(),
            flips["new_best"].to_list(),
            thousandths(flips["p_old"]),
            thousandths(flips["p_new"]),
        ),
        "ranks": rows(
            ranks["model_id"].to_list(),
            ranks["rank_old"].to_list(),
            ranks["rank_new"].to_list(),
            thousandths(ranks["p_old"]),
            thousandths(ranks["p_new"]),
        ),
    }


def caps_of(since: Since | None) -> dict[str, str]:
    """Sentences on rows that were left out, by table."""
    if since is None:
        return {"moved": "", "flips": "", "ranks": ""}
    given = {"moved": since.moved, "flips": since.flips, "ranks": since.other_ranks}
    return {
        name: f"The first {ROWS} of {frame.height:,} are shown." if frame.height > ROWS else ""
        for name, frame in given.items()
    }


def _beyond(moved: pl.DataFrame) -> pl.Series:
    """Whether a move is more than doubt explains; NULL where a doubt is unknown.

    Two places with independent errors differ by the root of the sum of their variances. Places
    before and now share answers, which makes them differ less: this is the cautious side.
    """
    doubt = (pl.col("doubt_old") ** 2 + pl.col("doubt_new") ** 2).sqrt()
    return moved.select(beyond=pl.col("moved") > BEYOND * doubt)["beyond"]


def in_words(since: Since) -> list[dict[str, Any]]:
    """Lists of names with a heading; the first `NAMES` of each, and how many there are."""
    return [
        {
            "title": title,
            "names": names[:NAMES],
            "more": max(0, len(names) - NAMES),
            "n": len(names),
        }
        for title, names in (
            ("New", since.added),
            ("Gone", since.gone),
            ("Answered more, or another revision", since.revised),
        )
    ]
