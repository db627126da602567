"""Whatever is in the files: a result, never a traceback, and imports that keep the contract."""

import json
from pathlib import Path
from typing import Any

from hostile import PATIENCE, damaged, fuzz, texts, values
from hypothesis import strategies as st
from lm_eval_files import STAMP, generated, rated
from taken_in import read_in, ways

from locus.imports.lm_eval_logs import read_lm_eval
from locus.imports.lm_eval_text import options_of, prompt_text, question_text
from warehouse.store import Warehouse

pytestmark = [PATIENCE]

KEYS = [*generated(0, 1.0), "acc", "acc_norm", "task_name"]
records = st.builds(
    lambda base, change, drop: {k: v for k, v in (base | change).items() if k not in drop},
    st.integers(0, 3).map(lambda i: generated(i, 1.0))
    | st.integers(0, 3).map(lambda i: generated(i, 0.0, None))
    | st.integers(0, 3).map(lambda i: rated(i, 1.0)),
    st.dictionaries(st.sampled_from(KEYS) | texts, values, max_size=3),
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


def test_any_lines(ground: Path, home: Path, warehouse: Warehouse) -> None:
    folder = home / "org__m"
    folder.mkdir()

    def check(content: list[bytes], results: bytes | None, is_given: bool, way: str) -> str:
        (folder / f"samples_t_{STAMP}.jsonl").write_bytes(b"\n".join(content))
        (folder / f"results_{STAMP}.json").unlink(missing_ok=True)
        if results is not None:
            (folder / f"results_{STAMP}.json").write_bytes(results)
        model = "org/m" if is_given else None
        return read_in(way, read_lm_eval, folder, ground, warehouse, model=model)

    hurt = st.lists(damaged(lines), max_size=6)
    fuzz(check, hurt, st.none() | damaged(results_files), st.booleans(), ways, share=0.7)


def test_a_date_that_no_float_can_hold(tmp_path: Path) -> None:
    (tmp_path / f"samples_t_{STAMP}.jsonl").write_text(json.dumps(generated(0, 1.0)))
    (tmp_path / f"results_{STAMP}.json").write_text(json.dumps({"results": {}, "date": 10**400}))
    assert read_lm_eval(tmp_path, "r", model="org/m").bundle is not None


def test_any_bytes(ground: Path, home: Path, warehouse: Warehouse) -> None:
    def check(samples: bytes, results: bytes, way: str) -> str:
        (home / f"samples_t_{STAMP}.jsonl").write_bytes(samples)
        (home / f"results_{STAMP}.json").write_bytes(results)
        said = read_in(way, read_lm_eval, home, ground, warehouse)
        return f"{said}, {'some' if samples.strip() else 'no'} lines"

    fuzz(check, st.binary(max_size=300), st.binary(max_size=300), ways, share=0.1)


def test_any_document_has_some_text(ground: Path) -> None:
    def check(doc: Any, argument: Any, continuations: list[str]) -> str:
        options = options_of(doc, continuations)
        assert options is None or len(options) >= 2
        assert isinstance(question_text(doc, prompt_text(argument), options), str)
        return "no options" if options is None else "options"

    fuzz(check, values, values, st.lists(texts, max_size=3), share=0.2)
