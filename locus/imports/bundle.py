"""What every reader of evaluation data hands over: frames of fixed columns, and what was wrong.

Here belong the contracts of the frames, the list of problems and its report. How a format is read
belongs in a module of its own; how frames reach a database is none of this package's business.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from locus import frames, ids

TIME = pl.Datetime("us", "UTC")
_SCORE_STATUSES = ("ok", "error", "refused", "empty", "truncated")
SPLITS = ("train", "val", "test")

# Columns of every frame, in order. The names of those that may be null are in `NULLABLE`.
SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    "models": {
        "model_id": pl.String(),
        "org": pl.String(),
        "family": pl.String(),
        "params_b": pl.Float64(),
        "released": pl.String(),
        "license": pl.String(),
        "price_in_usd_per_mtok": pl.Float64(),
        "price_out_usd_per_mtok": pl.Float64(),
        "source": pl.String(),
        "metadata": pl.String(),
        "added_at": TIME,
    },
    "revisions": {
        "model_id": pl.String(),
        "revision": pl.String(),
        "backend": pl.String(),
        "backend_args": pl.String(),
        "seen_at": TIME,
    },
    "tasks": {**frames.TASKS, "added_at": TIME},
    "queries": {**frames.QUERIES, "added_at": TIME},
    "scores": {"run_id": pl.String(), **frames.SCORES},
}

NULLABLE: dict[str, frozenset[str]] = {
    "models": frozenset(SCHEMAS["models"]) - {"model_id", "source", "added_at"},
    "revisions": frozenset(),
    "tasks": frozenset({"output_type", "primary_metric"}),
    "queries": frozenset({"category", "choices", "target", "doc", "source_id"}),
    "scores": frozenset(SCHEMAS["scores"])
    - {"run_id", "model_id", "revision", "query_id", "status", "scored_at"},
}

PROBLEM_SCHEMA: dict[str, pl.DataType] = {
    "file": pl.String(),
    "line": pl.Int64(),
    "item": pl.String(),
    "reason": pl.String(),
}

_ITEM_MAX = 200
_REASON_MAX = 500
_KEPT_PROBLEMS = 10_000
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,99}")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what was read.

    Attributes:
        file: name of the file, relative to the folder that was read.
        line: 1-based line (text) or row (table) in that file; None where it concerns the whole.
        item: the model, query, column or metric in question.
        reason: what is wrong and what is expected.
    """

    file: str
    line: int | None
    item: str
    reason: str


@dataclass(frozen=True)
class ImportBundle:
    """The frames of one import, with exactly the columns and types of `SCHEMAS`.

    Attributes:
        models: one row a model.
        revisions: one row a model revision.
        tasks: one row a (task, version).
        queries: one row a query.
        scores: one row a scored (model, query, time); `score` is within [0, 1] and null unless
            `status` is 'ok'.
        settings: what is known about how the scores came about, for the record.

    Raises:
        ValueError: a frame breaks its contract; that is a fault of the reader, never of the data.
    """

    models: pl.DataFrame
    revisions: pl.DataFrame
    tasks: pl.DataFrame
    queries: pl.DataFrame
    scores: pl.DataFrame
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, schema in SCHEMAS.items():
            frame: pl.DataFrame = getattr(self, name)
            if dict(frame.schema) != schema:
                raise ValueError(f"{name}: columns {dict(frame.schema)} are not {schema}")
            for column in set(schema) - NULLABLE[name]:
                if frame.get_column(column).null_count():
                    raise ValueError(f"{name}.{column} holds nulls; it may not")
        score = self.scores.get_column("score")
        if not bool(score.is_between(0, 1).fill_null(True).all()):
            raise ValueError("scores.score has a value outside [0, 1]")
        wrong = self.scores.select(
            ((pl.col("status") == "ok") != pl.col("score").is_not_null()).any()
            | ~pl.col("status").is_in(_SCORE_STATUSES).all()
        ).item()
        if wrong:
            raise ValueError("scores: a score is given exactly where the status is 'ok'")
        if not bool(self.queries.get_column("split").is_in(SPLITS).all()):
            raise ValueError(f"queries.split has a value other than {SPLITS}")


@dataclass(frozen=True)
class ReadResult:
    """What a reader found.

    Attributes:
        bundle: the data; None if anything was wrong (or, with ``skip_bad``, if nothing sound is
            left or the input as a whole can't be used).
        problems: columns file, line, item, reason; the first 10,000.
        n_problems: how many there were, stored or not.
        notes: decisions taken on the way that a reader of the import should know.
    """

    bundle: ImportBundle | None
    problems: pl.DataFrame
    n_problems: int
    notes: list[str]


def visible(text: str, limit: int = _REASON_MAX) -> str:
    """Show untrusted ``text`` on one line: control and bidirectional characters are escaped.

    Longer text is cut to ``limit`` characters and says how long it was.
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text[: limit + 1]
    )
    if len(text) > limit:
        return f"{shown[:limit]}… ({len(text)} characters)"
    return shown


class ProblemLog:
    """Collects problems: counts all, keeps the first ``keep``."""

    def __init__(self, keep: int = _KEPT_PROBLEMS) -> None:
        self._keep = keep
        self._kept: list[Problem] = []
        self.total = 0

    @property
    def kept(self) -> tuple[Problem, ...]:
        """The problems that are kept, in the order of their finding."""
        return tuple(self._kept)

    def add(self, file: str, item: str, reason: str, line: int | None = None) -> None:
        """Count a problem, and keep it if there is room."""
        self.total += 1
        if len(self._kept) < self._keep:
            self._kept.append(
                Problem(visible(file), line, visible(item, _ITEM_MAX), visible(reason))
            )

    def add_rows(self, file: str, rows: pl.DataFrame) -> None:
        """Count a problem for every row of a frame with the columns line, item and reason."""
        room = max(self._keep - len(self._kept), 0)
        for line, item, reason in rows.head(room).select("line", "item", "reason").iter_rows():
            self.add(file, "(null)" if item is None else str(item), str(reason), line)
        self.total += max(rows.height - room, 0)

    def frame(self) -> pl.DataFrame:
        """The kept problems as a table with the columns of `PROBLEM_SCHEMA`."""
        rows = [(p.file, p.line, p.item, p.reason) for p in self._kept]
        return pl.DataFrame(rows, schema=PROBLEM_SCHEMA, orient="row")

    def result(self, bundle: ImportBundle | None, notes: list[str], skip_bad: bool) -> ReadResult:
        """Apply the rule of all or nothing: without ``skip_bad``, one problem stops the import."""
        usable = bundle if bundle is not None and bundle.scores.height else None
        if self.total and not skip_bad:
            usable = None
        return ReadResult(usable, self.frame(), self.total, notes)


def build_frame(name: str, data: pl.DataFrame) -> pl.DataFrame:
    """Bring ``data`` into the contract of frame ``name``: columns that are not there become null.

    Raises:
        polars.exceptions.PolarsError: a column can't be cast (a fault of the reader).
    """
    return data.select(
        (pl.col(column) if column in data.columns else pl.lit(None)).cast(dtype).alias(column)
        for column, dtype in SCHEMAS[name].items()
    )


def empty_frame(name: str) -> pl.DataFrame:
    """Frame ``name`` without rows."""
    return pl.DataFrame(schema=SCHEMAS[name])


def now_utc(now: datetime | None = None) -> datetime:
    """``now`` in UTC, or the present time.

    Raises:
        ValueError: ``now`` has no time zone, so that nobody can know which instant is meant.
    """
    if now is None:
        return datetime.now(UTC)
    if now.tzinfo is None:
        raise ValueError(f"time {now} has no time zone: give one, for example UTC")
    return now.astimezone(UTC)


def model_id_reason(text: str) -> str | None:
    """Why ``text`` is no model id; None if it is one."""
    try:
        ids.model_id(text)
    except ids.InvalidIdError as error:
        return str(error)
    return None


def model_id_reasons(texts: Iterable[str]) -> dict[str, str]:
    """The ids among ``texts`` that are refused, each with the reason."""
    reasons = {text: model_id_reason(text) for text in texts}
    return {text: reason for text, reason in reasons.items() if reason is not None}


def is_revision(text: str) -> bool:
    """Whether ``text`` can be a revision: up to 100 of letters, digits and ``. _ / + -``."""
    return bool(_REVISION.fullmatch(text)) and ".." not in text


TASK_RULE = "expected a name of at most 200 printable characters"


def is_task_name(name: pl.Expr) -> pl.Expr:
    """Whether a task's name is fit to be shown: no control characters, at most 200 characters."""
    return (name.str.len_chars() <= 200) & ~name.str.contains(r"\p{C}")


def org_of(model: str) -> str | None:
    """The part of a model id before the first ``/``; None if it has no such part."""
    return model.split("/", 1)[0] if "/" in model else None


# A spreadsheet takes a cell that starts so for a formula, white space and look-alikes included.
_FORMULA = r"^[\s'\"]*[=+\-@\t\r\n|%\uff1d\uff0b\uff0d\uff20]"


def write_problem_report(problems: pl.DataFrame, path: Path) -> None:
    """Write problems as CSV that a spreadsheet opens without running anything in it.

    Args:
        problems: columns file, line, item, reason, as in `ReadResult`.
        path: the file to write; it is replaced if it is there.
    """
    text = pl.col(pl.String)
    safe = problems.with_columns(
        pl.when(text.str.contains(_FORMULA)).then(pl.lit("'") + text).otherwise(text).name.keep()
    )
    path.write_text(safe.write_csv(), encoding="utf-8")
