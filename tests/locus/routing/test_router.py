"""The router on encodings, its fast way beside its full one, its graph, and how it is timed."""

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from locus import snapshots
from locus.bank import Array
from locus.routing import predictor as predictors
from locus.routing import speed
from locus.routing.policy import Policy
from locus.routing.pool import places
from locus.routing.predictor import TOLERANCE, Predictor
from locus.routing.router import Router, RoutingError

POLICIES = [
    Policy(),
    Policy("cost-aware", price_weight=0.2),
    Policy("budget", budget=150.0),
    Policy("lower-bound"),
    Policy(price_cap=1.0, abstain_below=0.6, abstain_on="lower"),
]


def made(kind: str) -> tuple[Predictor, pl.DataFrame, Array]:
    """A predictor, 12 models of which two are alike and one has no price, and 300 queries."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(6, 384))
    predictor: Predictor
    if kind != "attention":
        predictor = factors = speed.factor_predictor(rng, 60, centres)
        if kind == "no surface":
            none = {"surface_Ls": np.zeros((60, 0)), "centre_s": np.zeros(0)}
            text = replace(factors.text, **none, scale_s=np.ones(0))
            predictor = replace(factors, text=text)
        models = speed.pool(rng, 12, factors.to_public_ke.shape[1], covariances=True)
    else:
        predictor = speed.attention_predictor(rng)
        models = speed.pool(rng, 12, 128, covariances=False)
    vectors, costs = models["vector"].to_list(), models["price_in_usd_per_mtok"].to_list()
    vectors[9], costs[4] = vectors[2], None
    models = models.with_columns(
        pl.Series("vector", vectors), pl.Series("price_in_usd_per_mtok", costs, pl.Float64)
    )
    return predictor, models, speed.features(rng, 300, centres)[0]


@pytest.mark.parametrize("kind", ["factors", "attention"])
def test_selecting_is_deciding_without_the_rest(kind: str) -> None:
    predictor, models, x = made(kind)
    router = Router("s", predictor, models, None, {})
    middle = float(np.median(router.select(x).p_T))
    asked = [p for p in POLICIES if kind == "factors" or not p.asks_lower]
    asked.append(Policy("abstain", abstain_below=middle))
    kept = {"exclude": ["made/up-1"], "unavailable": ["made/up-3"]}
    for policy in asked:
        for names in ({}, kept):
            fast = router.select(x, policy, **names)
            full = router.decide_encoded(x, 1, policy=policy, **names)
            assert [router.models[i] if i >= 0 else None for i in fast.chosen_T] == [
                c[0].model_id if c else None for c in full.choices
            ]
            first = [c[0] if c else None for c in full.choices]
            for name, found in (("p_correct", fast.p_T), ("lower_bound", fast.lower_T)):
                said = [None if c is None else getattr(c, name) for c in first]
                if found is not None:
                    np.testing.assert_allclose(found, np.array(said, dtype=float), atol=1e-6)
            assert (fast.lower_T is None) == (kind == "attention")
            assert len(set(fast.chosen_T.tolist())) > 1
    one = router.decide_encoded(x[:1], explain=False)
    assert one.reasons == [""]
    assert one.choices == router.decide_encoded(x[:1]).choices
    assert len(router.select(x[:0]).chosen_T) == 0
    if kind == "attention":
        with pytest.raises(RoutingError, match="no lower bounds"):
            router.select(x, Policy("lower-bound"))
    with pytest.raises(RoutingError, match=r"\[queries, 389\]"):
        router.select(x[:, 1:])
    with pytest.raises(RoutingError, match="not in snapshot s"):
        router.select(x, only=["made/up-99"])
    with pytest.raises(RoutingError, match="without a sentence encoder"):
        router.decide(["What?"])


@pytest.mark.parametrize("kind", ["factors", "no surface", "attention"])
def test_folding_changes_nothing(kind: str) -> None:
    predictor, models, x = made(kind)
    z, covariance = places(models)
    pool = predictor.prepare(z, covariance)
    p = pool.probabilities(x)
    np.testing.assert_allclose(p, predictor.probabilities(z, x), atol=TOLERANCE)
    np.testing.assert_array_equal(p[:, 2], p[:, 9])  # twins stay twins
    read = pool.read(x)
    np.testing.assert_allclose(pool.chances(read[7:8]), p[7:8], atol=TOLERANCE)
    doubts, plain = pool.doubts(read), predictor.deviations(covariance, x)
    if kind == "attention":
        assert doubts is None
        return
    assert plain is not None
    np.testing.assert_allclose(doubts, plain, atol=TOLERANCE)
    np.testing.assert_allclose(pool.doubts(read, np.full(300, 5)), plain[:, 5], atol=TOLERANCE)
    assert predictor.prepare(z).doubts(read) is None


@pytest.mark.parametrize("kind", ["factors", "attention"])
def test_the_graph_says_what_the_predictor_says(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    predictor, models, x = made(kind)
    z, _ = places(models)
    published = tmp_path / "state" / "published"
    building = snapshots.building_folder(published)
    predictors.write(predictor, z[:3], x[:4], building / "routing" / "predictor")
    (building / "routing" / "table.json").write_text('{"stand_ins": {}}')
    (building / "similarity").mkdir()
    models.write_parquet(building / "similarity" / "embeddings.parquet")
    facts = {"lineage": {"encoder_name": "made up"}}
    sealed = snapshots.seal(building, facts, datetime.now(UTC))
    snapshots.make_current(published, sealed)
    (tmp_path / "locus.toml").write_text('home = "state"\n')
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "locus.toml"))

    file = tmp_path / "router.onnx"
    done = CliRunner().invoke(app, ["export", "onnx", str(file)])
    assert done.exit_code == 0, done.output
    assert f"12 models of snapshot {sealed.snapshot_id}" in done.stdout
    again = CliRunner().invoke(app, ["export", "onnx", str(file)])
    assert "is there already" in str(again.exception)
    session = runtime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    (p,) = session.run(None, {"features": x})
    np.testing.assert_allclose(p, predictor.probabilities(z, x), atol=TOLERANCE)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["models"]) == models["model_id"].to_list()
    assert (told["snapshot_id"], told["encoder"]) == (sealed.snapshot_id, "made up")

    router = Router.load_encoded(published)
    assert router.models[router.select(x[:1]).chosen_T[0]] == models["model_id"][int(p[0].argmax())]
    # A snapshot without topics is as good as any.
    told = router.decide_encoded(x[:1])
    assert told.topics == [None] and told.choices[0][0].in_topic is None


def test_the_benchmark_times_two_ways_to_the_same_choices() -> None:
    options = argparse.Namespace(bank=60, seed=1, quick=True, repetitions=1, threads=2)
    for kind in ("factors", "attention"):
        row = speed.compare(kind, 12, options, lambda _: None)
        assert row["choices_differing"] == 0
        assert row["largest_difference_of_p"] < TOLERANCE
        assert min(row["per_s"]["plain"] + row["per_s"]["folded"]) > 0
        assert set(row["single"]) == {"plain", "folded", "decide, top 3 with reasons"}
