"""Promise 5: every published number leads back to what it was made from."""

import json

import duckdb
import polars as pl
from nights import Pipeline, published, query, snapshot

from locus.embedding import checkpoint
from locus.encoding import encoder_identity
from locus.snapshots import current, file_sha256, verify
from tasks.lineage import git_sha, versions
from tasks.settings import Settings


def test_lineage(first_night: Pipeline, second_night: Pipeline) -> None:
    now = snapshot(second_night)
    lineage = now.manifest["lineage"]
    verify(now.folder, now.manifest_sha256)
    parent = current(published(first_night))
    assert lineage["parent"] == now.manifest["parent"] == parent.snapshot_id
    assert (lineage["versions"], lineage["git_sha"]) == (versions(), git_sha())
    assert lineage["encoder"] == encoder_identity(Settings().encoder)
    # The map whose files' hash is its name.
    made = checkpoint.load(
        second_night.folder / "state" / "checkpoints" / lineage["checkpoint_id"],
        lineage["encoder"],
    )
    assert made.encoder == lineage["encoder"]
    with duckdb.connect(str(now.folder / "warehouse.duckdb"), read_only=True) as con:
        places = con.execute(
            "SELECT model_id, revision, n_scores FROM model_embedding WHERE checkpoint_id = ? "
            "ORDER BY ALL", [lineage["checkpoint_id"]],
        ).fetchall()  # fmt: skip
        # Every score has its run, its version of the model and its question, as they were.
        orphans = con.sql(
            "SELECT count(*) FROM score s "
            "LEFT JOIN evaluation_run r ON r.run_id = s.run_id AND r.model_id = s.model_id "
            "AND r.revision = s.revision "
            "LEFT JOIN model_revision v ON v.model_id = s.model_id AND v.revision = s.revision "
            "LEFT JOIN query q ON q.query_id = s.query_id "
            "LEFT JOIN query_encoding e ON e.query_id = s.query_id "
            "WHERE r.run_id IS NULL OR v.model_id IS NULL OR q.query_id IS NULL "
            "OR e.query_id IS NULL OR s.prompt_hash IS NULL OR s.doc_hash IS NULL"
        ).fetchall()
        runs = con.sql("SELECT n_ok + n_other, versions, git_sha, settings FROM evaluation_run")
        runs_ = runs.fetchall()
        n_scores = con.sql("SELECT count(*) FROM score").fetchall()
    assert orphans == [(0,)]
    assert sum(row[0] for row in runs_) == n_scores[0][0] == now.manifest["counts"]["scores"]
    for _, made_with, sha, settings in runs_:
        assert json.loads(made_with)["lm_eval"] == versions()["lm_eval"]
        assert sha == git_sha()
        assert {"backend", "args"} <= json.loads(settings).keys()
    table = pl.read_parquet(now.folder / "routing" / "table.parquet")
    embeddings = pl.read_parquet(now.folder / "similarity" / "embeddings.parquet")
    assert embeddings.select("model_id", "revision", "n_scores").sort("model_id").rows() == places
    assert set(table["model_id"]) == {model for model, _, _ in places}
    predictor = json.loads((now.folder / "routing" / "predictor" / "predictor.json").read_text())
    assert predictor["encoder"] == lineage["encoder"]
    # The warehouse knows what it has published, by hash.
    rows = query(second_night, "SELECT snapshot_id, parent, manifest_sha256, checkpoint_id FROM "
                               "snapshot ORDER BY created_at")  # fmt: skip
    assert rows[-1] == (
        now.snapshot_id, parent.snapshot_id, file_sha256(now.folder / "manifest.json"),
        lineage["checkpoint_id"],
    )  # fmt: skip
