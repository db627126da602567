"""A snapshot that was published by the first release is read for ever, as it lies in `released/`.

Its map is of four models that know sums or capitals (`tests/small_map.py`); the report and a copy
of the warehouse are left out, which are for people.
"""

import json
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from safetensors.numpy import load_file

from locus.publication.changes import changes
from locus.routing import predictor
from locus.routing.router import Router
from locus.snapshots import all_snapshots, current, verify

PUBLISHED = Path(__file__).parent / "released" / "published"


def test_it_is_whole_and_says_what_it_said() -> None:
    snapshot = current(PUBLISHED)
    assert verify(snapshot.folder, snapshot.manifest_sha256) == snapshot
    assert all_snapshots(PUBLISHED) == [snapshot]
    assert snapshot.manifest["schema_version"] == 1
    assert snapshot.manifest["counts"]["models"] == 4
    same = changes(snapshot, snapshot)
    assert same.flips.height == 0
    assert same.added == same.gone == same.revised == []


def test_programs_read_its_table() -> None:
    routing = current(PUBLISHED).folder / "routing"
    table = json.loads((routing / "table.json").read_text())
    jsonschema.validate(table, json.loads((routing / "table.schema.json").read_text()))
    rows = pl.read_parquet(routing / "table.parquet")
    assert set(rows["bucket"]) >= {"all", "sums", "capitals"}
    best = rows.filter(pl.col("rank") == 1, pl.col("bucket") == "sums")["model_id"].item()
    assert best.startswith("sums/")


def test_it_still_routes() -> None:
    folder = current(PUBLISHED).folder / "routing" / "predictor"
    predictor.read(folder, check=True)  # held to its own test vectors
    examples = load_file(folder / "test_vectors.safetensors")
    routed = Router.load_encoded(PUBLISHED).decide_encoded(examples["features"], k=4)
    for choices, p_M in zip(routed.choices, examples["probabilities"], strict=True):
        assert {c.model_id for c in choices} == {
            "sums/m0", "sums/m1", "capitals/m0", "capitals/m1",
        }  # fmt: skip
        assert [c.p_correct for c in choices] == pytest.approx(sorted(p_M, reverse=True), abs=1e-5)
