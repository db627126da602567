"""What a warehouse and a snapshot hold, without what may differ between two runs on equal inputs.

Left out are ids of runs and snapshots, times, latencies, the commit, and the notes of who ran when.
"""

import json
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import polars.selectors as cs
from safetensors.numpy import load_file

# By table the columns that must agree. A checkpoint's id covers the seconds that training took.
_TABLES = {
    "schema_version": "version, name, sha256",
    "model": "* EXCLUDE (added_at)",
    "model_revision": "* EXCLUDE (seen_at)",
    "price": "*",
    "task": "* EXCLUDE (added_at)",
    "query": "* EXCLUDE (added_at)",
    "query_encoding": "* EXCLUDE (encoded_at)",
    "score": "* EXCLUDE (run_id, scored_at, latency_ms)",
    "latest_score": "* EXCLUDE (run_id, scored_at, latency_ms)",
    "checkpoint": "state, encoder, n_models, n_queries, n_scores, config",
    "checkpoint_decision": "kind, promoted, reason",
    "model_embedding": "* EXCLUDE (checkpoint_id, embedded_at)",
    "prediction": "* EXCLUDE (checkpoint_id, predicted_at)",
    "nearest_models": "*",
    "coverage": "*",
    "model_accuracy": "*",
}
_TIMES_AND_IDS = {
    "snapshot_id", "parent", "created_at", "checkpoint_id", "git_sha", "latency_ms", "files",
}  # fmt: skip


def of_warehouse(database: Path) -> dict[str, pl.DataFrame]:
    """Rows of every table that must be the same, in one order."""
    with duckdb.connect(str(database), read_only=True) as con:
        return {
            name: con.sql(f"SELECT {columns} FROM {name} ORDER BY ALL").pl()  # noqa: S608
            for name, columns in _TABLES.items()
        }


def of_snapshot(folder: Path) -> dict[str, Any]:
    """Tables, predictor and manifest of a snapshot, and of its copy of the warehouse."""
    tables = {
        path.relative_to(folder).as_posix(): pl.read_parquet(path)
        for path in sorted(folder.glob("*/*.parquet"))
    }
    return {
        **{name: _sorted(frame) for name, frame in tables.items()},
        **{f"copy: {k}": v for k, v in of_warehouse(folder / "warehouse.duckdb").items()},
        "predictor": {
            path.name: {name: array.tolist() for name, array in sorted(load_file(path).items())}
            for path in sorted((folder / "routing" / "predictor").glob("*.safetensors"))
        },
        "predictor.json": json.loads(
            (folder / "routing" / "predictor" / "predictor.json").read_text()
        ),
        "table.json": _timeless(json.loads((folder / "routing" / "table.json").read_text())),
        "manifest.json": _timeless(json.loads((folder / "manifest.json").read_text())),
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what is not the same in both."""
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if not _same(one.get(name), other.get(name))
    ]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, pl.DataFrame) and isinstance(other, pl.DataFrame):
        return one.equals(other)
    return type(one) is type(other) and bool(one == other)


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.drop("latency_ms", strict=False)
    keys = [name for name, kind in frame.schema.items() if kind in (pl.String, pl.Int64)]
    # A mean of costs depends in its last digit on the order in which they are added.
    return frame.with_columns(cs.by_name("cost_usd", require_all=False).round_sig_figs(12)).sort(
        keys
    )


def _timeless(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in _TIMES_AND_IDS}
    return [_timeless(v) for v in value] if isinstance(value, list) else value
