"""Decisions against counts by hand and against the methods they are made of."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from decided_world import TASKS, World, scores

from locus.decisions import DecisionError, PublishedMap
from locus.decisions.comparison import compare
from locus.decisions.curves import curve, default_lambdas
from locus.decisions.groups import as_frame, find_clusters
from locus.decisions.identity import identify
from locus.decisions.profile import find_models, parse_wanted
from locus.decisions.replacement import replacements
from locus.decisions.sets import choose_set
from locus.names import hint
from locus.portfolio import PortfolioError, greedy_best_of_set
from locus.proxies import nearest_neighbours, stand_ins
from locus.similarity import group_tree, usual_groups


@pytest.fixture(scope="module")
def world() -> World:
    values = scores(30, 150)
    values[1] = values[0]  # one model behind two ids
    values[2, 30:] = np.nan
    values[3, :] = np.nan
    values[3, 100:] = scores(30, 150)[5, 100:]
    return World(values)


@pytest.fixture(scope="module")
def published(world: World) -> PublishedMap:
    return world.published


def test_parts_must_fit(published: PublishedMap) -> None:
    with pytest.raises(ValueError, match="don't fit"):
        replace(published, z_Md=published.z_Md[1:])
    with pytest.raises(DecisionError, match="did you mean m05"):
        published.index("m055")
    assert hint("quite else", ["m05"], "look") == "look"


def test_prices_and_accuracy(published: PublishedMap) -> None:
    assert np.isnan(published.price_M[0])
    assert published.price_M[1:4].tolist() == [2.5, 2.5, 3.5]  # 1.5 read and 1 written
    assert np.isnan(published.params_M[-1])
    accuracy = published.accuracy("x")
    assert accuracy[5] == pytest.approx(published.values_MQ[5, ::3].mean())
    empty = replace(published, values_MQ=np.full_like(published.values_MQ, np.nan))
    assert np.isnan(empty.accuracy()).all()


def test_a_comparison_counts(published: PublishedMap) -> None:
    pair, tasks = compare(published, "m05", "m06")
    a, b = published.values_MQ[5], published.values_MQ[6]
    assert pair.observed_disagreement == pytest.approx((a != b).mean())
    assert pair.n_common == 150
    p, q = published.p_TM[:, 5], published.p_TM[:, 6]
    assert pair.predicted_disagreement == pytest.approx((p * (1 - q) + q * (1 - p)).mean())
    y = tasks.row(by_predicate=pl.col("task") == "y", named=True)
    assert y["observed_disagreement"] == pytest.approx((a[1::3] != b[1::3]).mean())
    assert pair.disagreement_at_distance is not None
    assert 0 < pair.disagreement_at_distance < 1
    twins, _ = compare(published, "m00", "m01")
    assert (twins.observed_disagreement, twins.low) == (0, 0)
    apart, rows = compare(published, "m02", "m03")
    assert (apart.n_common, apart.observed_disagreement, apart.low) == (0, None, None)
    assert rows["observed_disagreement"].null_count() == len(TASKS)
    with pytest.raises(DecisionError, match="twice"):
        compare(published, "m02", "m02")


@pytest.mark.parametrize("k", [1, 3, 7, 30])
def test_clusters_are_stretches_of_the_tree(published: PublishedMap, k: int) -> None:
    found = find_clusters(published, k)
    assert len(found) == k
    order = [published.ids[i] for i in group_tree(published.z_Md).order]
    start = 0
    for cluster in found:
        assert set(order[start : start + cluster.size]) == set(cluster.members)
        start += cluster.size
    assert start == 30


def test_what_a_cluster_is_good_at(published: PublishedMap) -> None:
    found = find_clusters(published, 6)
    largest = max(found, key=lambda c: c.size)
    rows = [published.index(m) for m in largest.members]
    leads = {
        task: published.p_TM[published.task_T == task][:, rows].mean()
        - published.p_TM[published.task_T == task].mean()
        for task in TASKS
    }
    assert largest.best_task == max(leads, key=lambda t: leads[t])
    assert largest.lead == pytest.approx(max(leads.values()))
    assert as_frame([largest], 1)["others"][0] == (
        f"{largest.members[1]} and {largest.size - 2} more"
    )
    assert as_frame([largest])["members"][0].to_list() == largest.members
    assert [usual_groups(n) for n in (1, 9, 2277)] == [2, 3, 8]
    with pytest.raises(DecisionError, match="ask for 1 to 30"):
        find_clusters(published, 31)


def test_a_set_is_chosen_without_test_queries(published: PublishedMap) -> None:
    chosen = choose_set(published, size=3)
    train = ~published.test_T
    expected = greedy_best_of_set(published.p_TM[train], 3)
    assert chosen.rows["model_id"].to_list() == published.name(expected.chosen)
    blind = published.p_TM.copy()
    blind[published.test_T] = 1 - blind[published.test_T]
    again = choose_set(replace(published, p_TM=blind), size=3)
    assert again.rows["model_id"].equals(chosen.rows["model_id"])
    assert chosen.rows["n_test"].to_list()[-1] == 30
    no_test = replace(published, queries=published.queries.with_columns(split=pl.lit("train")))
    unjudged = choose_set(no_test, size=2, method="k-center")
    assert unjudged.rows["hit1"].null_count() == 2
    assert unjudged.rows["n_test"].to_list() == [0, 0]


def test_sets_under_a_budget(published: PublishedMap) -> None:
    bought = choose_set(published, budget=5)
    assert bought.unknown_cost == ["m29"]
    assert bought.rows["params_b_so_far"].max() <= 5  # type: ignore[operator]
    assert choose_set(published, budget=5, size=1).rows.height == 1
    assert choose_set(published, budget=9, unit="price").unknown_cost == ["m00"]
    with pytest.raises(PortfolioError, match="buys no model"):
        choose_set(published, budget=0.2)
    unknown = replace(
        published, models=published.models.with_columns(params_b=pl.lit(None, dtype=pl.Float64))
    )
    with pytest.raises(DecisionError, match="number of parameters"):
        choose_set(unknown, budget=5)
    with pytest.raises(DecisionError, match="size"):
        choose_set(published)


def test_stand_ins_are_those_of_the_library(published: PublishedMap) -> None:
    d = published.distances()
    found = replacements(published, "m05")
    near = published.name([int(nearest_neighbours(d)[5, 0])])[0]
    assert set(found.filter(pl.col("why").str.contains("nearest"))["stand_in"]) == {near}
    best = stand_ins(published.p_TM, published.task_T.tolist(), d, by="quality")
    for g, task in enumerate(best.buckets):
        row = found.filter(pl.col("bucket") == task, pl.col("why").str.contains("best"))
        assert row["stand_in"][0] == published.name([int(best.models_GMk[g, 5, 0])])[0]
    unseen = replace(published, values_MQ=np.full_like(published.values_MQ, np.nan))
    agreed = stand_ins(published.p_TM, published.task_T.tolist(), d)
    for g, task in enumerate(agreed.buckets):
        row = replacements(unseen, "m05", task).filter(pl.col("why").str.contains("should agree"))
        assert row["stand_in"][0] == published.name([int(agreed.models_GMk[g, 5, 0])])[0]
        assert row["expected_agreement"][0] == pytest.approx(agreed.worth_GMk[g, 5, 0])
        assert row["observed_agreement"][0] is None
    twin = replacements(published, "m00").filter(pl.col("why").str.contains("agreed most"))
    assert set(twin.filter(bucket="all")["stand_in"]) == {"m01"}


def test_finding_a_profile(world: World, published: PublishedMap) -> None:
    wanted = parse_wanted(["x=0.9", "y=0.3"])
    found = find_models(published, wanted, world.bank, world.place, 5)
    assert found["accuracy x"].min() > found["accuracy y"].max()  # type: ignore[operator]
    assert found["distance"].is_sorted()
    with pytest.raises(DecisionError, match="without training queries of 'z'"):
        kept = [q for q in world.bank if int(q[1:]) % 3 != 2]
        find_models(published, {"z": 0.5}, kept, world.place, 5)
    for word in ("x", "x=", "=0.4", "x=nan", "x=-0.1", "x=1e9"):
        with pytest.raises(DecisionError, match="TASK=ACCURACY"):
            parse_wanted([word])
    assert parse_wanted(["a=b=0.5"]) == {"a=b": 0.5}


def test_curves(published: PublishedMap) -> None:
    points, unknown = curve(published)
    assert unknown == ["m00"]
    assert points["cost"].is_sorted(descending=True)
    assert points["cost"][-1] == pytest.approx(0.5)
    assert default_lambdas(np.array([1.0, np.nan, 3.0]))[-1] == pytest.approx(0.5)
    free = published.models.with_columns(price_in_usd_per_mtok=pl.lit(None, dtype=pl.Float64))
    with pytest.raises(DecisionError, match="two or more"):
        curve(replace(published, models=free))
    with pytest.raises(DecisionError, match="no test query"):
        curve(replace(published, queries=published.queries.with_columns(split=pl.lit("val"))))


def test_one_model_behind_two_ids(world: World, published: PublishedMap) -> None:
    same = identify(published, "m00", "m01", world.bank, world.posterior)
    assert same.verdict == "same"
    assert same.n == same.n_common == same.n_agree == 120
    other = identify(published, "m00", "m08", world.bank, world.posterior)
    assert other.verdict == "different"
    assert other.calibration_models == 26  # the two, and the two with few answers, are out
    assert identify(published, "m00", "m08", world.bank, world.posterior) == other


def test_too_little_to_tell(world: World, published: PublishedMap) -> None:
    """A model with few answers, against one of its own kind that answered other queries."""
    found = identify(published, "m02", "m03", world.bank, world.posterior, error_rate=0.02)
    assert (found.n_common, found.n_agree) == (0, None)
    assert found.n == 24
    assert found.verdict == "undecided"
    assert "ask both the same queries" in found.advice
    few = published.values_MQ.copy()
    few[2, 6:] = np.nan
    with pytest.raises(DecisionError, match="'m02' has 5 answers"):
        identify(replace(published, values_MQ=few), "m02", "m03", world.bank, world.posterior)
    small = World(scores(12, 60))
    with pytest.raises(DecisionError, match="fewer than 20 other models"):
        identify(small.published, "m02", "m03", small.bank, small.posterior)
