"""Equal budgets for every method, nothing hidden that is read, and what is left out is said."""

from dataclasses import replace

import numpy as np

from locus.benchmark.data import BenchmarkData, Models
from locus.benchmark.protocols import (
    Cell,
    bank_of,
    columns_of,
    ladders,
    plan_jobs,
    situation_of,
    some,
)


def widened(data: BenchmarkData, times: int) -> BenchmarkData:
    """The same with more training queries."""

    def more(models: Models) -> Models:
        scores = {**models.scores, "train": np.tile(models.scores["train"], (1, times))}
        return replace(models, scores=scores)

    train = data.queries["train"]
    queries = replace(
        train, phi_Qp=np.tile(train.phi_Qp, (times, 1)), benchmark=train.benchmark * times
    )
    return replace(
        data,
        queries={**data.queries, "train": queries},
        pool=more(data.pool),
        held=more(data.held),
    )


def test_budgets_are_kept_and_the_same_for_everybody() -> None:
    values = np.random.default_rng(0).random((4, 50)).astype(np.float32)
    values[0, :45] = np.nan
    kept = some(values, 16, 1)
    assert (~np.isnan(kept)).sum(1).tolist() == [5, 16, 16, 16]
    np.testing.assert_array_equal(kept, some(values, 16, 1))
    assert not np.array_equal(kept, some(values, 16, 2), equal_nan=True)
    assert some(values, 0, 1) is values
    second = some(values, 16, 1, part=1)
    assert (~np.isnan(second)).sum(1).tolist() == [0, 16, 16, 16]
    assert not (~np.isnan(kept) & ~np.isnan(second)).any()


def test_p1_hides_the_rest_of_the_pool(small: BenchmarkData) -> None:
    bank = bank_of(small, "P1", 8, 0)
    placed = situation_of(small, Cell("P1", "any", 8, 0)).scores_Bn
    np.testing.assert_array_equal(bank.values_MQ, placed)
    assert bank.n_labels == 16 * 8


def test_p2_learns_from_one_set_of_256_queries_and_p2_all_from_every_one(
    small: BenchmarkData,
) -> None:
    data = widened(small, 8)
    columns = columns_of(data, "P2", 0)
    assert len(np.unique(columns)) == 256
    assert not np.array_equal(columns, columns_of(data, "P2", 1))
    bank = bank_of(data, "P2", 8, 0)
    np.testing.assert_array_equal(bank.values_MQ, data.pool.scores["train"][:, columns])
    situation = situation_of(data, Cell("P2", "any", 32, 0))
    known = ~np.isnan(situation.scores_Bn)
    assert known.sum(axis=1).tolist() == [32] * 8
    truth = data.held.scores["train"][:, columns]
    np.testing.assert_array_equal(situation.scores_Bn[known], truth[known])
    assert situation.again_Bn is not None
    assert not (known & ~np.isnan(situation.again_Bn)).any()
    assert bank_of(data, "P2-all", 8, 0).n_labels == 16 * 400


def test_a_model_with_too_few_scores_is_not_placed_twice(small: BenchmarkData) -> None:
    data = widened(small, 8)
    scores = data.held.scores["train"].copy()
    scores[3, 40:] = np.nan
    held = replace(data.held, scores={**data.held.scores, "train": scores})
    again = situation_of(replace(data, held=held), Cell("P2-all", "any", 32, 0)).again_Bn
    assert again is not None
    assert np.flatnonzero(np.isnan(again).all(axis=1)).tolist() == [3]


def test_what_the_data_can_not_bear_is_left_out_and_said(small: BenchmarkData) -> None:
    ladder, notes = ladders(small, quick=False)
    assert ladder == {"P1": [0], "P2": [4, 8, 16, 32]}
    text = "; ".join(notes)
    assert "P1: budgets 64, 256, 512 are left out" in text
    assert "P2-all is left out: P2 has all 50 training queries" in text
    assert "P3 is left out" in text
    few = replace(
        small.held,
        ids=small.held.ids[:2],
        scores={n: v[:2] for n, v in small.held.scores.items()},
        params_b=small.held.params_b[:2],
    )
    ladder, notes = ladders(replace(small, held=few), quick=False)
    assert list(ladder) == ["P1"]
    assert any("2 held-out models, 3 are needed" in note for note in notes)


def test_p3_learns_from_all_and_places_all(small: BenchmarkData) -> None:
    wide = replace(small, wide_pool=small.pool, wide_held=small.held)
    ladder, _ = ladders(wide, quick=False)
    assert ladder["P3"] == [8, 32]
    assert "P3" not in ladders(wide, quick=True)[0]
    assert bank_of(wide, "P3", 8, 0).values_MQ.shape == (16, 50)
    assert situation_of(wide, Cell("P3", "any", 8, 0)).scores_Bn.shape == (8, 50)


def test_jobs_share_a_fit_where_the_bank_is_the_same() -> None:
    jobs = plan_jobs({"P1": [64, 0], "P2": [4, 8]}, ["a", "b"], seeds=2)
    assert [len(job.cells) for job in jobs if job.protocol == "P1"] == [1] * 8
    assert [len(job.cells) for job in jobs if job.protocol == "P2"] == [2] * 4
    keys = [cell.key for job in jobs for cell in job.cells]
    assert len(keys) == len(set(keys)) == 16
    assert {job.seed for job in jobs[: len(jobs) // 2]} == {0}
