"""Each gate lets through what is usual and blocks what is not."""

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from locus.gates.accuracy import ALPHA, LEAST_QUERIES, worse_by_chance
from locus.gates.facts import Asked, Beside, GateFailedError, GateResult, Holds, Watched
from locus.gates.rules import check
from locus.gates.settings import GATES, GateSettings, UnknownGateError

MODELS = [f"org/m{i}" for i in range(20)]
TASKS = ["arc", "gsm8k", "mmlu"]
NOTHING = Beside(np.zeros(0), np.zeros(0))


def holds(
    answers: dict[tuple[str, str], int] | None = None,
    models: list[str] = MODELS,
    checkpoint: str = "aa",
    routed: tuple[float, float, float, int] | None = None,
) -> Holds:
    """A snapshot of 20 models with 100 answers to each of three tasks, unless said otherwise."""
    counts = {(m, t): 100 for m in models for t in TASKS} | (answers or {})
    rows = [(m, t, n) for (m, t), n in counts.items() if n]
    frame = pl.DataFrame(rows, schema=["model_id", "task", "n"], orient="row")
    row = dict(zip(("hit1", "low", "high", "n"), routed, strict=True)) if routed else None
    return Holds("now", checkpoint, frozenset(models), frame.cast({"n": pl.Int64}), row)


def one(name: str, results: list[GateResult]) -> GateResult:
    [found] = [r for r in results if r.name == name]
    return found


def blocked(results: list[GateResult]) -> list[str]:
    return [r.name for r in results if r.blocks]


def paired(n: int, better: int, worse: int) -> Beside:
    """Choices on n queries, of which some became right and some wrong."""
    before, now = np.ones(n), np.ones(n)
    before[:better] = 0
    now[better : better + worse] = 0
    return Beside(now, before)


def test_an_unchanged_snapshot_passes_every_gate() -> None:
    results = check(holds(), holds(), paired(200, 0, 0), GateSettings())
    assert [r.name for r in results] == ["empty", *GATES]
    assert all(r.passed for r in results)
    assert all(r.verdict == "passed" for r in results)


def test_the_first_snapshot_passes_what_needs_a_parent() -> None:
    lame = holds({(m, "arc"): 0 for m in MODELS[1:]}, routed=(0.1, 0.05, 0.15, 200))
    assert not blocked(check(lame, None, None, GateSettings()))


def test_an_empty_one_is_never_published() -> None:
    empty = holds({(m, t): 0 for m in MODELS for t in TASKS})
    results = check(empty, None, None, GateSettings(), accept=GATES)
    assert blocked(results) == ["empty"]
    assert "locus run nightly" in one("empty", results).reason


def test_coverage_that_falls_below_the_limit_blocks_and_names_the_task() -> None:
    some = holds({(m, "gsm8k"): 0 for m in MODELS[:12]})
    results = check(some, holds(), NOTHING, GateSettings())
    found = one("coverage", results)
    assert found.blocks
    assert found.value == pytest.approx(0.4)
    assert "'gsm8k' 40% (was 100%)" in found.reason
    almost = holds({(m, "gsm8k"): 0 for m in MODELS[:10]})
    assert one("coverage", check(almost, holds(), NOTHING, GateSettings())).passed
    # Published once, it is what later ones are held against.
    assert one("coverage", check(some, some, NOTHING, GateSettings())).passed


def test_a_new_task_and_a_few_new_models_do_not_touch_coverage() -> None:
    new_task = holds({(m, "new"): 5 for m in MODELS[:2]})
    assert one("coverage", check(new_task, holds(), NOTHING, GateSettings())).passed
    more = [*MODELS, "org/late"]
    late = holds({("org/late", t): 0 for t in TASKS[1:]}, models=more)
    assert not blocked(check(late, holds(), NOTHING, GateSettings()))


def test_one_bad_model_does_not_block_the_others() -> None:
    asked = {"org/m1": Asked(128, 3), "org/m2": Asked(128, 128), "org/m3": Asked(128, 0)}
    found = one("errors", check(holds(), holds(), NOTHING, GateSettings(), asked=asked))
    assert found.passed
    assert "'org/m2'" in found.reason
    alone = {"org/m2": Asked(128, 128)}
    assert one("errors", check(holds(), holds(), NOTHING, GateSettings(), asked=alone)).passed


def test_errors_of_many_models_block() -> None:
    asked = {f"org/m{i}": Asked(128, 64) for i in range(4)}
    found = one("errors", check(holds(), holds(), NOTHING, GateSettings(), asked=asked))
    assert found.blocks
    assert found.value == pytest.approx(0.5)
    assert "256 of 512 queries" in found.reason
    few = {f"org/m{i}": Asked(3, 2) for i in range(2)}
    assert one("errors", check(holds(), holds(), NOTHING, GateSettings(), asked=few)).passed


def test_scores_that_are_gone_block_though_others_came() -> None:
    later = {(m, "mmlu"): 5000 for m in MODELS}
    less = holds({(m, "arc"): 50 for m in MODELS} | later)
    found = one("rows", check(less, holds(), NOTHING, GateSettings()))
    assert found.blocks
    assert found.value == pytest.approx(1000 / 6000)
    assert "'arc'" in found.reason
    assert one("rows", check(holds(later), holds(), NOTHING, GateSettings())).passed
    barely = holds({(m, "arc"): 90 for m in MODELS})
    assert one("rows", check(barely, holds(), NOTHING, GateSettings())).passed


def test_models_that_are_gone_block_but_not_their_scores() -> None:
    fewer = holds(models=MODELS[3:])
    results = check(fewer, holds(), NOTHING, GateSettings())
    assert blocked(results) == ["models"]
    assert "'org/m0', 'org/m1', 'org/m2'" in one("models", results).reason
    assert one("rows", results).value == 0
    accepted = check(fewer, holds(), NOTHING, GateSettings(), accept=["models"])
    assert not blocked(accepted)
    assert one("models", accepted).verdict == "accepted"
    # Not for ever: the accepted one is the next one's parent.
    assert not blocked(check(fewer, fewer, NOTHING, GateSettings()))
    assert not blocked(check(holds(models=MODELS[2:]), holds(), NOTHING, GateSettings()))


@pytest.mark.parametrize(
    ("better", "worse", "blocks"),
    [
        (0, 0, False),
        (10, 14, False),  # as chance has it
        (0, 4, False),  # surely worse, and hardly
        (5, 25, True),
        (0, 12, True),
        (25, 5, False),
    ],
)
def test_routing_blocks_on_a_drop_that_is_large_and_no_chance(
    better: int, worse: int, blocks: bool
) -> None:
    results = check(holds(), holds(), paired(256, better, worse), GateSettings())
    found = one("routing", results)
    assert found.blocks is blocks
    assert found.value == pytest.approx((worse - better) / 256)
    assert ("checkpoints rollback" in found.reason) is blocks


def test_few_held_out_queries_are_not_judged() -> None:
    lost = paired(LEAST_QUERIES - 1, 0, LEAST_QUERIES - 1)
    assert one("routing", check(holds(), holds(), lost, GateSettings())).passed


def test_routing_falls_back_on_published_intervals() -> None:
    parent = holds(routed=(0.80, 0.75, 0.85, 256))
    for now, blocks in (((0.78, 0.73, 0.83, 256), False), ((0.60, 0.54, 0.66, 256), True)):
        results = check(holds(routed=now), parent, None, GateSettings())
        assert one("routing", results).blocks is blocks
    # An interval of all right has no width; that is not certainty.
    perfect = holds(routed=(1.0, 1.0, 1.0, 30))
    nearly = holds(routed=(29 / 30, 0.9, 1.0, 30))
    assert one("routing", check(nearly, perfect, None, GateSettings())).passed
    assert one("routing", check(holds(), parent, None, GateSettings())).passed


def test_a_few_drifted_models_are_their_own_affair() -> None:
    names = ["org/a", "org/b", "org/c", "org/d"]
    for n, drifted, blocks in ((2, 2, False), (10, 4, False), (4, 3, True), (10, 6, True)):
        watched = Watched(n, [f"org/m{i}" for i in range(drifted)])
        results = check(holds(), holds(), NOTHING, GateSettings(), watched=watched)
        assert one("canaries", results).blocks is blocks
    results = check(holds(), holds(), NOTHING, GateSettings(), watched=Watched(4, names))
    assert "'org/a', 'org/b', 'org/c' and 1 more" in one("canaries", results).reason


def test_places_that_jump_block_on_one_map_only() -> None:
    unsure = dict.fromkeys(MODELS, 0.05)
    for by, unknown, blocks in ((0.1, False, False), (0.2, False, True), (0.2, True, False)):
        moved = Beside(
            np.zeros(0),
            np.zeros(0),
            dict.fromkeys(MODELS[:11], by) | dict.fromkeys(MODELS[11:], 0.0),
            {} if unknown else unsure,
        )
        results = check(holds(), holds(), moved, GateSettings())
        assert one("moved", results).blocks is blocks
        other_map = check(holds(checkpoint="bb"), holds(), moved, GateSettings())
        assert one("moved", other_map).passed


def test_other_best_models_are_said_and_block_nothing_by_default() -> None:
    many = Beside(np.zeros(0), np.zeros(0), n_reference=100, n_changed=60)
    found = one("choices", check(holds(), holds(), many, GateSettings()))
    assert (found.passed, found.blocks, found.verdict) == (False, False, "warned")
    strict = GateSettings.model_validate({"choices": {"level": "block"}})
    assert one("choices", check(holds(), holds(), many, strict)).blocks


def test_levels_and_limits_are_settings() -> None:
    fewer = holds(models=MODELS[3:])
    for text, names, verdict in (
        ({"level": "warn"}, True, "warned"),
        ({"limit": 0.2}, True, "passed"),
        ({"level": "off"}, False, ""),
    ):
        settings = GateSettings.model_validate({"models": text})
        results = check(fewer, holds(), NOTHING, settings)
        assert ("models" in [r.name for r in results]) is names
        if names:
            assert one("models", results).verdict == verdict
    assert GateSettings.model_validate({"models": {"level": "warn"}}).models.limit == 0.1
    for wrong in ({"modles": {}}, {"models": {"limit": 2}}, {"stale_after_hours": 0}):
        with pytest.raises(ValidationError):
            GateSettings.model_validate(wrong)
    assert all(GateSettings().gate(name).limit >= 0 for name in GATES)
    with pytest.raises(UnknownGateError, match="stale_after_hours"):
        GateSettings().gate("stale_after_hours")


def test_only_gates_can_be_accepted() -> None:
    with pytest.raises(UnknownGateError, match=r"'empty'.*coverage, errors"):
        check(holds(), None, None, GateSettings(), accept=["empty"])


def test_the_error_names_gates_values_limits_and_the_next_step() -> None:
    results = check(holds(models=MODELS[3:]), holds(), paired(256, 0, 30), GateSettings())
    error = GateFailedError(results, "20260101T000000000000Z-0123456789", Path("kept"))
    said = str(error)
    assert [r.name for r in error.failed] == ["models", "routing"]
    for part in (
        "gate models: 3 of 20 models are gone (15%, limit 10%)",
        "gate routing: right first choice on 256 held-out queries: 0.883, was 1.000",
        "kept/similarity/report.html",
        "`locus publish --accept models --accept routing`",
    ):
        assert part in said
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - how a task runner hands errors on
    assert (str(again), again.failed) == (said, error.failed)
    empty = check(holds(models=[]), None, None, GateSettings())
    assert "--accept" not in str(GateFailedError(empty, "x", Path("kept")))


def test_hostile_ids_stay_on_their_line() -> None:
    fewer = check(holds(), holds(models=[*MODELS, *"abc\n\x1b[2J"]), NOTHING, GateSettings())
    assert one("models", fewer).reason.isprintable()


def test_the_test_behind_the_routing_gate_keeps_its_level() -> None:
    """Two maps that are equally good: how often is the second called worse?"""
    rng = np.random.default_rng(11)
    rounds = 600
    called = 0
    for _ in range(rounds):
        ease = rng.beta(2, 1, 200)
        before, now = (rng.random((2, 200)) < ease).astype(float)
        called += worse_by_chance(now, before) <= ALPHA
    # Binomial(600, 0.005): more than 10 has a probability below 0.0005.
    assert called <= 10


def test_sign_flips_agree_with_the_exact_binomial_and_judge_graded_scores() -> None:
    from scipy.stats import binomtest

    for better, worse in ((2, 9), (5, 5), (0, 6)):
        pair = paired(100, better, worse)
        exact = binomtest(better, better + worse, alternative="less").pvalue
        assert worse_by_chance(pair.right_T, pair.right_parent_T) == pytest.approx(exact, abs=0.015)
    rng = np.random.default_rng(3)
    graded = rng.random(200)
    assert worse_by_chance(np.clip(graded - 0.1, 0, 1), graded) <= ALPHA
    assert worse_by_chance(graded, graded) == 1.0
    with pytest.raises(ValueError, match="pair them by query"):
        worse_by_chance(graded, graded[:3])
