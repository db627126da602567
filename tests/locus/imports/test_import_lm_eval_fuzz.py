"""Whatever is in the files: a result, never a traceback, and imports that keep the contract."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval_files import STAMP, generated, rated

from locus.imports.bundle import ReadResult, write_problem_report
from locus.imports.lm_eval_logs import read_lm_eval
from locus.imports.lm_eval_text import options_of, prompt_text, question_text

text = st.text(st.characters(exclude_categories=[]), max_size=20)  # lone surrogates included
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
KEYS = [*generated(0, 1.0), "acc", "acc_norm", "task_name"]
records = st.builds(
    lambda base, change, drop: {k: v for k, v in (base | change).items() if k not in drop},
    st.integers(0, 3).map(lambda i: generated(i, 1.0))
    | st.integers(0, 3).map(lambda i: generated(i, 0.0, None))
    | st.integers(0, 3).map(lambda i: rated(i, 1.0)),
    st.dictionaries(st.sampled_from(KEYS) | text, values, max_size=3),
    st.sets(st.sampled_from(KEYS), max_size=2),
)
lines = (
    (records | values).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
    | records.map(lambda record: json.dumps(record).encode()[:-7])
)
results_keys = ["results", "configs", "versions", "config", "date", "model_name", "model_source"]
results_files = st.dictionaries(st.sampled_from(results_keys), values).map(
    lambda change: json.dumps({"results": {}} | change).encode()
) | st.binary(max_size=60)


def read_both(folder: Path, **options: Any) -> None:
    """Read with and without the bad rows; check what can be said of any result."""
    strict = read_lm_eval(folder, "r", **options)
    lenient = read_lm_eval(folder, "r", skip_bad=True, **options)
    for result in (strict, lenient):
        assert isinstance(result, ReadResult)
        assert result.problems.height == min(result.n_problems, 10_000)
        assert all(note.isprintable() for note in result.notes)
        for row in result.problems.rows(named=True):
            assert all(row[key].isprintable() for key in ("file", "item", "reason"))
        write_problem_report(result.problems, folder / "report.csv")
        if result.bundle is not None:
            assert result.bundle.scores.height
            asked = set(result.bundle.queries.get_column("query_id"))
            assert set(result.bundle.scores.get_column("query_id")) == asked
            json.dumps(result.bundle.settings, allow_nan=False).encode()
    assert strict.n_problems == lenient.n_problems
    if strict.n_problems:
        assert strict.bundle is None
    else:
        assert strict.bundle is not None


@settings(max_examples=300, deadline=None)
@given(st.lists(lines, max_size=6), st.none() | results_files, st.booleans())
def test_any_lines(content: list[bytes], results: bytes | None, is_given: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "org__m"
        folder.mkdir()
        (folder / f"samples_t_{STAMP}.jsonl").write_bytes(b"\n".join(content))
        if results is not None:
            (folder / f"results_{STAMP}.json").write_bytes(results)
        read_both(folder, model="org/m" if is_given else None)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes(samples: bytes, results: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"samples_t_{STAMP}.jsonl").write_bytes(samples)
        (folder / f"results_{STAMP}.json").write_bytes(results)
        read_both(folder)


@settings(max_examples=200, deadline=None)
@given(values, values, st.lists(text, max_size=3))
def test_any_document_has_some_text(doc: Any, argument: Any, continuations: list[str]) -> None:
    options = options_of(doc, continuations)
    assert options is None or len(options) >= 2
    assert isinstance(question_text(doc, prompt_text(argument), options), str)
