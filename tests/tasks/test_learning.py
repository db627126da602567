"""From imported scores to places and predictions, by both kinds of map, on a real warehouse."""

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest

from locus.embedding import checkpoint
from locus.encoding import Precision
from tasks.embed import NoEncoderError, NotEnoughScoresError, embed_models, train_if_needed
from tasks.encode import encode_queries
from tasks.importing import import_folder
from tasks.score import score_pool
from tasks.settings import Settings, TrainingSettings
from warehouse.store import Warehouse

KINDS = {"sum": "What is {} plus {}?", "word": "Spell the word number {} of list {} backwards."}


def write_matrix(folder: Path, n_models: int = 14) -> Path:
    """Models that are good at sums, at words, or at neither."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    queries = [
        (f"{kind}-{i}", kind, text.format(i, 3 * i + 1), split)
        for kind, text in KINDS.items()
        for i in range(40)
        for split in [("train", "train", "val", "test")[i % 4]]
    ]
    skill = rng.uniform(0.1, 0.9, (n_models, 2))
    scores = [
        (f"org/m{m}", query, float(rng.random() < skill[m, list(KINDS).index(kind)]))
        for m in range(n_models)
        for query, kind, _, _ in queries
    ]
    pl.DataFrame({"model_id": [f"org/m{m}" for m in range(n_models)]}).write_parquet(
        folder / "models.parquet"
    )
    pl.DataFrame(
        queries, schema=["query_id", "benchmark", "text", "split"], orient="row"
    ).write_parquet(folder / "queries.parquet")
    pl.DataFrame(scores, schema=["model_id", "query_id", "score"], orient="row").write_parquet(
        folder / "scores.parquet"
    )
    return folder


def settings(home: Path, method: Literal["factors", "attention"]) -> Settings:
    # One of them in the other precision.
    precision: Precision = "bfloat16" if method == "factors" else "float32"
    return Settings(
        home=home,
        encoder_precision=precision,
        training=TrainingSettings(method=method, steps=4),
    )


@pytest.mark.parametrize("method", ["factors", "attention"])
def test_a_map_is_learned_once_and_says_how_sure_it_is(
    tmp_path: Path, method: Literal["factors", "attention"]
) -> None:
    ours = settings(tmp_path / "home", method)
    with pytest.raises(NotEnoughScoresError, match="0 models"):
        train_if_needed.fn(ours)
    import_folder(ours, "matrix", write_matrix(tmp_path / "matrix"))
    encode_queries.fn(ours)
    with pytest.raises(NoEncoderError, match="nightly"):
        train_if_needed.fn(ours, may_train=False)
    made, new = train_if_needed.fn(ours)
    assert new
    assert train_if_needed.fn(ours) == (made, False)
    flipped = "float32" if ours.encoder_precision == "bfloat16" else "bfloat16"
    other = ours.model_copy(update={"encoder_precision": flipped})
    with pytest.raises(NoEncoderError, match=other.encoder_identity.replace("+", r"\+")):
        train_if_needed.fn(other, may_train=False)
    assert checkpoint.load(ours.checkpoints / made).map.kind == method
    assert len(embed_models.fn(ours, made)) == 14
    assert embed_models.fn(ours, made) == []
    assert score_pool.fn(ours, made) == 14 * 80
    with Warehouse.open(ours.warehouse) as warehouse:
        row = warehouse.checkpoints.active()
        embeddings = warehouse.vectors.embeddings(made)
        predictions = warehouse.vectors.predictions(made)
    assert row is not None
    assert (row["config"]["method"], row["n_models"], row["n_scores"]) == (method, 14, 14 * 40)
    assert 0 < row["metrics"]["val_bce"] < 1
    assert embeddings["dim"].unique().to_list() == [128]
    knows = method == "factors"
    assert embeddings["uncertainty"].null_count() == (0 if knows else 14)
    assert predictions["deviation"].null_count() == (0 if knows else predictions.height)
    if knows:
        assert embeddings["uncertainty"].is_between(0, 0.5).all()
        apart = predictions.group_by("query_id").agg(
            pl.col("p_correct").max() - pl.col("p_correct").min()
        )
        assert apart["p_correct"].max() > 0.1  # type: ignore[operator]
