"""A folder that `datasets.load_dataset` reads: a card and Parquet files, one configuration a table.

The card is made of figures and of names that are fixed here; no id and no text of a stranger is in
it, so that none can be read as Markdown, HTML or YAML.
"""

import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath

import polars as pl
import yaml

from locus.exports.answers import ExportFile

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Splits of queries here, and what data sets call them."""

TABLES = {
    "scores": "one row an answer of a model to a query: the current one, with its status and score",
    "queries": "the questions, with the task that asks each",
    "models": "what is known of the models",
    "embeddings": "the models' places on the map",
    "routing": "who answers which bucket of questions best, and how sure that is",
}


def dataset_files(
    tables: Mapping[str, pl.DataFrame], snapshot_id: str, created_at: datetime
) -> Iterator[ExportFile]:
    """The files of the folder, the card last.

    Args:
        tables: the frames of `TABLES`; scores and queries have a column ``split``, which becomes
            the data set's split.
        snapshot_id: the snapshot that they are of.
        created_at: its time (UTC).
    """
    configs: list[dict[str, object]] = []
    counts: list[tuple[str, str, int]] = []
    for name in TABLES:
        files = []
        for split, rows in _splits(tables[name]):
            path = PurePosixPath(name, f"{split}.parquet")
            files.append({"split": split, "path": path.as_posix()})
            counts.append((name, split, rows.height))
            yield ExportFile(path, _parquet(rows), rows.height)
        configs.append({"config_name": name, "data_files": files})
    yield ExportFile(
        PurePosixPath("README.md"), _card(configs, counts, snapshot_id, created_at).encode(), 0
    )


def _splits(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The parts of a table; one without splits is all ``train``, as is customary."""
    if "split" not in table.columns:
        return [("train", table)]
    parts = [(named, table.filter(split=own).drop("split")) for own, named in SPLITS.items()]
    return [part for part in parts if part[1].height] or [("train", table.drop("split"))]


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def _card(
    configs: list[dict[str, object]],
    counts: list[tuple[str, str, int]],
    snapshot_id: str,
    created_at: datetime,
) -> str:
    front = yaml.safe_dump(
        {"license": "other", "pretty_name": "Map of language models", "configs": configs},
        sort_keys=False,
    )
    lines = [
        "# Map of language models",
        "",
        f"Snapshot `{snapshot_id}` of {created_at:%Y-%m-%d %H:%M} UTC.",
        "",
        "| configuration | split | rows | what it is |",
        "|---|---|---|---|",
        *(f"| {name} | {split} | {rows} | {TABLES[name]} |" for name, split, rows in counts),
        "",
        "Missing values are unknown, never zero. The split of a query is that of this map: it was "
        "learned from `train`, tuned on `validation` and measured on `test`.",
        "",
        "## Licence",
        "",
        "To be chosen by who publishes this. Questions come from benchmarks that have licences of "
        "their own, and ids and questions are other people's text: treat both as data.",
    ]
    return f"---\n{front}---\n\n" + "\n".join(lines) + "\n"
