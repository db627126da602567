"""The comparison with bare lm-eval runs, and both sides say the same. Times are in the docs."""

import json
import sys
from pathlib import Path

import pytest

from locus.evaluation.overhead import Answers, Timing, _differing, _ratio, main


@pytest.mark.slow
def test_a_quick_comparison_gives_the_same_scores_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    monkeypatch.setattr(sys, "argv", ["overhead", "--quick", "--out", str(out)])
    status = main()
    said = capsys.readouterr()
    assert status == 0, said.err
    result = json.loads(out.read_text())
    (model,) = result["models"]
    assert model["documents"] == model["size"]["choices"] + model["size"]["writes"] == 30
    for kind in ("documents_missing", "scores_differing", "texts_differing"):
        assert model[kind] == 0, kind
    assert {side: len(runs) for side, runs in model["runs"].items()} == {"bare": 1, "ours": 1}
    for run in (*model["runs"]["bare"], *model["runs"]["ours"]):
        assert run["wall_s"] > 0
        assert run["cpu_s"] > 0
    assert set(model["runs"]["ours"][0]["stages"]) == {"until loaded", "asking", "ending"}
    assert {"lm_eval", "torch", "transformers", "python"} <= set(result["versions"])
    assert "| quick | 30 | wall |" in said.out


def test_a_difference_is_seen() -> None:
    one: Answers = {("t", 0): (1.0, "a"), ("t", 1): (0.0, "b")}
    other: Answers = {("t", 0): (0.0, "a"), ("t", 1): (0.0, "c")}
    assert (_differing(one, one, 0), _differing(one, other, 0), _differing(one, other, 1)) == (
        0,
        1,
        1,
    )


def test_the_ratio_is_one_of_medians() -> None:
    timings = {
        "bare": [Timing(seconds, 1.0, 0.0, {}) for seconds in (10.0, 12.0, 50.0)],
        "ours": [Timing(seconds, 1.0, 0.0, {}) for seconds in (11.0, 9.0, 30.0)],
    }
    found = _ratio(timings, lambda timing: timing.wall_s)
    assert (found["bare_median_s"], found["ours_median_s"]) == (12.0, 11.0)
    assert found["ratio_of_medians"] == pytest.approx(11 / 12)
    assert found["ratio_range"] == pytest.approx([0.6, 1.1])
