"""Imports: all or nothing, and the same content once."""

from typing import Any

import polars as pl
import pytest
from warehouse_sample import hours, models, queries, revisions, score_row, scores, tasks

from warehouse.errors import ContractError, WarehouseError
from warehouse.store import Warehouse

MODELS = models("a/alpha", "b/beta", source="import")
REVISIONS = revisions(("a/alpha", "import", hours(0)), ("b/beta", "import", hours(0)))
SCORES = scores(
    *[
        score_row(m, "import", q, s)
        for m in ("a/alpha", "b/beta")
        for q, s in [("q1", 1.0), ("q2", 0.0), ("q5", None)]
    ]
)
TABLES = ("model", "model_revision", "task", "query", "score", "score_part", "evaluation_run")


def put(w: Warehouse, run_id: str = "imp", score_frame: pl.DataFrame = SCORES) -> dict[str, int]:
    return w.import_bundle(
        run_id, "import", MODELS, REVISIONS, tasks(), queries(), score_frame, {"from": "matrix"}
    )


def sizes(w: Warehouse) -> dict[str, Any]:
    sql = "SELECT count(*) AS n FROM {}"
    return {table: w.read(sql.format(table)).item() for table in TABLES}


def test_import_counts_what_is_new(empty: Warehouse) -> None:
    assert put(empty) == {"models": 2, "revisions": 2, "tasks": 2, "queries": 6, "scores": 6}
    run = empty.scores.run("imp")
    assert run is not None
    assert (run["status"], run["model_id"], run["n_ok"], run["n_other"]) == (
        "finished",
        None,
        4,
        2,
    )


@pytest.mark.parametrize(
    "again",
    [
        SCORES,
        SCORES.reverse(),
        SCORES.drop("response", "latency_ms"),
        SCORES.with_columns(pl.col("scored_at").dt.offset_by("1d")),
    ],
    ids=["same", "other order", "optional columns left out", "read a day later"],
)
def test_importing_the_same_content_again_inserts_nothing(
    empty: Warehouse, again: pl.DataFrame
) -> None:
    put(empty)
    before = sizes(empty)
    assert set(put(empty, "imp-2", again).values()) == {0}
    assert sizes(empty) == before
    assert empty.scores.run("imp-2") is None


def test_any_other_content_is_inserted(empty: Warehouse) -> None:
    put(empty)
    first = pl.int_range(pl.len()) == 0
    changed = SCORES.with_columns(pl.when(first).then(0.5).otherwise("score").alias("score"))
    assert put(empty, "imp-2", changed)["scores"] == 6
    assert put(empty, "imp-3", SCORES.head(3))["scores"] == 3
    run = empty.scores.run("imp-3")
    assert run is not None
    assert run["model_id"] == "a/alpha"  # scores of one model only: the run names it
    with pytest.raises(WarehouseError, match="run imp is there already"):
        put(empty, "imp", SCORES.head(2))


@pytest.mark.parametrize(
    "bad",
    [
        score_row("a/alpha", "import", "unknown query", 1.0),
        score_row("z/zeta", "import", "q1", 1.0),
        score_row("a/alpha", "import", "q3", 2.0),
    ],
    ids=["unknown query", "unknown model", "score out of range"],
)
def test_a_bad_row_keeps_the_whole_bundle_out(empty: Warehouse, bad: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        put(empty, score_frame=pl.concat([SCORES, scores(bad)]))
    assert set(sizes(empty).values()) == {0}
    assert put(empty)["scores"] == 6


def test_a_real_matrix_imports_and_reads_back(empty: Warehouse, shared_data: Any) -> None:
    folder = shared_data / "mmlu-pro-cot"
    matrix = pl.read_parquet(folder / "scores.parquet")
    ids = matrix["model_id"].unique().sort().to_list()
    asked = pl.read_parquet(folder / "queries.parquet").select(
        "query_id",
        "text",
        task=pl.lit("mmlu-pro"),
        task_version=pl.lit("1"),
        split=pl.lit("train"),
    )
    frame = matrix.select(
        "model_id",
        "query_id",
        revision=pl.lit("import"),
        status=pl.lit("ok"),
        score=pl.col("score").cast(pl.Float64),
        metric=pl.lit("acc"),
        scored_at=pl.lit(hours(0)).dt.cast_time_unit("us"),
    )
    revs = revisions(*[(i, "import", hours(0)) for i in ids])
    counts = empty.import_bundle(
        "mmlu", "import", models(*ids, source="import"), revs, tasks(), asked, frame, {}
    )
    assert counts["scores"] == matrix.height
    means = frame.group_by("model_id").agg(pl.col("score").mean(), pl.len().alias("n"))
    got = empty.read("SELECT model_id, accuracy AS score, n FROM model_accuracy")
    assert got.height == len(ids)
    both = got.join(means, on="model_id", suffix="_true")
    assert both["n"].to_list() == both["n_true"].to_list()
    assert both["score"].to_list() == pytest.approx(both["score_true"].to_list())
