"""Logs are read the same whatever they are cut into, and whoever reads the parts."""

import json
import os
import select
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval_files import generated, rated, write_samples

from locus import ids
from locus.imports import lm_eval_parts
from locus.imports.bundle import ProblemLog, ReadResult
from locus.imports.lm_eval_documents import About, Entry, read_entries
from locus.imports.lm_eval_logs import read_lm_eval
from locus.imports.lm_eval_samples import read_samples

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files with all that lines have to do with each other."""
    named = [generated(i, float(i % 2), name) for name in ("strict", "loose") for i in range(40)]
    named[3]["metrics"] = ["exact_match", "nothing"]
    broken = [*named, named[0], named[7] | {"doc": {"question": "another"}}, "{", "", "[1]"]
    write_samples(tmp_path / "org__m", "named", [*broken, generated(50, float("nan"), "strict")])
    unnamed = [generated(i, 1.0, None) for i in range(20) for _ in "12"]
    first = json.dumps(rated(0, 2**70) | {"doc_id": 90, "doc": {"query": "ü" * 300}})
    write_samples(tmp_path / "org__m", "unnamed", ["\ufeff" + first, *unnamed], end="")
    return tmp_path


def told(result: ReadResult) -> list[Any]:
    assert result.bundle is not None
    frames = [result.bundle.queries, result.bundle.scores.drop("scored_at"), result.problems]
    return [*(frame.drop("added_at", strict=False).rows() for frame in frames), result.notes]


def judged(entries: Iterator[tuple[int, Entry | None]]) -> str:
    log = ProblemLog()
    samples = read_samples(entries, "f", log, [])
    assert samples.documents
    return f"{samples} {log.kept}"  # NaN is no other than itself


def test_cuts_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = told(read_lm_eval(folder, "r", skip_bad=True))
    assert [row[1] for row in whole[2]][:3] == [82, 83, 85]
    for size in (100, 4_321):
        monkeypatch.setattr(lm_eval_parts, "PART_BYTES", size)
        assert told(read_lm_eval(folder, "r", skip_bad=True)) == whole


@pytest.mark.parametrize("survive", [True, False])
def test_helpers_change_nothing(
    folder: Path, survive: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lm_eval_parts, "LARGE_BYTES", 0)
    monkeypatch.setattr(lm_eval_parts, "PART_BYTES", 2_000)
    monkeypatch.setattr(lm_eval_parts, "_cores", lambda: 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = [(path, About("t", "1", None)) for path in sorted(folder.rglob("*.jsonl"))]
    alone = [judged(read_entries(*file)) for file in files]
    with lm_eval_parts.in_parts(files) as reader:
        (helper,) = reader._helpers
        assert select.select([helper.tells], [], [], 60)[0], "it did not start"
        reader._listen(wait=True)
        assert list(helper.given) == [0, 1]
        if not survive:
            os.kill(helper._process.pid, signal.SIGKILL)
        together = [judged(reader.read(path)) for path, _ in files]
        assert (helper in reader._helpers) == survive
    assert together == alone
    assert not list(tmp_path.glob("locus-logs-*"))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), plain), st.text(min_size=1))
def test_identities_are_those_of_ids(doc: dict[str, Any], question: str) -> None:
    doc["question"] = question
    record = rated(0, 1.0) | {"doc": doc}
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(json.dumps(record).encode())
        (_, entry), _ = read_entries(Path(file.name), About("täsk", "1", None))
    assert entry is not None
    assert entry.document is not None
    # As it was written: `ids.query_id` has its own way to it.
    assert entry.document.doc == json.dumps(doc, sort_keys=True, ensure_ascii=False)
    assert entry.document.query_id == ids.query_id("täsk", "1", doc, entry.document.text)
