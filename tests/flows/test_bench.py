"""`locus bench`: what it prints and keeps, and that one subject's failure stops no other."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.bench import subjects
from flows.bench.plain import embed_one_by_one
from flows.bench.rows import growth
from flows.bench.subjects import Subject
from flows.bench.world import made, map_of
from flows.cli.app import app

SUBJECT = """
import os
from flows.bench.rows import Row, Side, in_turns

def rows(size, folder, say):
    say("sorting")
    print("what a library has to say")
    numbers = list(range(2000, 0, -1))
    ours, peer = in_turns(lambda: sorted(numbers), lambda: sorted(numbers * 8), 3)
    notes = {"size": size, "scratch": folder.is_dir()}
    yield Row("sort", Side("few", ours, 2000, "numbers"), Side("many", peer), "none", notes)
    {end}
"""
ENDS = {"sorting": "", "broken": "raise ValueError('no disk')", "killed": "os.kill(os.getpid(), 9)"}


def test_subjects_are_measured_and_failures_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, end in ENDS.items():
        (tmp_path / f"{name}_subject.py").write_text(SUBJECT.replace("{end}", end))
    table = {name: Subject(f"{name}_subject", f"about {name}") for name in (*reversed(ENDS), "no")}
    monkeypatch.setattr(subjects, "SUBJECTS", table)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    cli = CliRunner()
    listed = cli.invoke(app, ["bench", "--list"]).stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(reversed(ENDS))
    out = tmp_path / "speed.json"
    result = cli.invoke(app, ["bench", "--quick", "--json", str(out)])
    assert result.exit_code == 1
    assert "broken failed: ValueError: no disk" in result.stderr
    assert "killed failed: its process was ended by SIGKILL" in result.stderr
    assert "sorting failed" not in result.stderr
    assert result.stdout.count("| sort | few: ") == 3
    assert "a library" not in result.stdout
    told = json.loads(out.read_text())
    assert told["size"] == "quick"
    assert told["machine"]["cores"] > 0
    assert told["versions"]["numpy"] == np.__version__
    assert set(told["failed"]) == {"broken", "killed"}
    for name in ENDS:
        (row,) = told["rows"][name]
        assert row["notes"] == {"size": "quick", "scratch": True}
        assert len(row["ours"]["seconds"]) == 3
        speed = 2000 / np.median(row["ours"]["seconds"]) * np.median(row["peer"]["seconds"])
        assert row["ratio"] == pytest.approx(speed)
        assert told["peak_mb"][name] > 5
    assert cli.invoke(app, ["bench", "sorting", "--json", str(out)]).exit_code == 0
    unknown = cli.invoke(app, ["bench", "nothing"])
    assert "killed, broken, sorting" in str(unknown.exception)


def test_growth_is_the_exponent() -> None:
    assert growth({n: 3 * n**1.5 for n in (10, 40, 160)}) == pytest.approx(1.5)
    assert growth({1: 2.0, 4: 2.0}) == pytest.approx(0)


def test_the_plain_side_does_the_same_work() -> None:
    torch = pytest.importorskip("torch")
    from locus.embedding.config import ArchitectureConfig
    from locus.embedding.maps import AttentionMap
    from locus.embedding.network import Locus

    world = made(5, 30)
    torch.manual_seed(1)
    network = Locus(ArchitectureConfig(d_query=world.queries.phi_Qp.shape[1])).eval()
    plain = embed_one_by_one(network, world.queries.phi_Qp, world.values_MQ)
    fast = AttentionMap(network).embed(world.ids, world.x_Qf, world.values_MQ).z_Md
    np.testing.assert_allclose(plain, fast, atol=1e-5)
    # A map that nothing was learned for places copies together and others apart.
    values = np.concatenate([world.values_MQ, world.values_MQ[:1]])
    z = map_of(world).embed(world.ids, world.x_Qf, values).z_Md
    np.testing.assert_allclose(z[5], z[0], atol=1e-6)
    assert np.linalg.norm(z[1:5] - z[0], axis=1).min() > 1e-3
