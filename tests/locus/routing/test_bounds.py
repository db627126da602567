"""Lower bounds hold as often as they say, on data drawn from a known truth."""

import numpy as np
import pytest

from locus.routing.bounds import Floats, Ints, calibrate, check

N_BUCKETS, N_MODELS, PER_BUCKET = 10, 40, 60


def world(seed: int, misfit: float, doubt: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Predictions, true accuracy and two sets of answers [T, M].

    Truth differs from the prediction by a model's own error and by one of the bucket.
    """
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.35, 0.65, (N_BUCKETS, N_MODELS))
    p_TM = np.repeat(p, PER_BUCKET, axis=0)
    off = doubt * rng.normal(size=(1, N_MODELS)) + misfit * rng.normal(size=p.shape)
    truth_TM = np.repeat(np.clip(p + off, 0, 1), PER_BUCKET, axis=0)
    val, test = ((rng.random(truth_TM.shape) < truth_TM).astype(float) for _ in range(2))
    return p_TM, truth_TM, val, test


BUCKETS: list[Ints] = [
    np.arange(g * PER_BUCKET, (g + 1) * PER_BUCKET, dtype=np.int64) for g in range(N_BUCKETS)
]


@pytest.mark.parametrize(("misfit", "doubt"), [(0.0, 0.0), (0.1, 0.0), (0.05, 0.1)])
def test_the_bound_holds_for_95_percent_or_a_little_more(misfit: float, doubt: float) -> None:
    held, tested = [], []
    for seed in range(8):
        p, truth, val, test = world(seed, misfit, doubt)
        deviation = np.full_like(p, doubt)
        found = calibrate(p, val, deviation, BUCKETS)
        assert found is not None
        lower = found.lower(p[::PER_BUCKET], deviation[::PER_BUCKET])
        held.append((truth[::PER_BUCKET] >= lower - 1e-9).mean())
        tested_once = check(found, p, test, deviation, BUCKETS)
        assert tested_once is not None
        tested.append(tested_once.held)
    assert 0.94 <= np.mean(tested) < 0.995
    # Of an unbiased map without error the bound is the prediction itself.
    assert np.mean(held) >= (0.95 if misfit or doubt else 0.0)


def test_more_misfit_lowers_the_bound() -> None:
    bounds = []
    for misfit in (0.0, 0.1):
        p, _, val, _ = world(3, misfit, 0.0)
        found = calibrate(p, val, None, BUCKETS)
        assert found is not None
        bounds.append(float(found.lower(np.array(0.5), np.array(0.0))))
    assert bounds[1] < bounds[0] - 0.1


def test_missing_answers_are_no_evidence() -> None:
    p, _, val, _ = world(0, 0.1, 0.0)
    whole = calibrate(p, val, None, BUCKETS)
    val[:, 20:] = np.nan
    val[4:, :20] = np.where(np.arange(len(val) - 4)[:, None] % PER_BUCKET < 4, val[4:, :20], np.nan)
    assert whole is not None
    assert whole.pairs == N_BUCKETS * N_MODELS
    assert calibrate(p, val, None, BUCKETS) is None
    assert check(whole, p, val, None, BUCKETS) is None
