"""The released EmbedLLM format, in folders generated here: the real files are too large to keep."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from locus import ids
from locus.imports.bundle import SCHEMAS, ReadResult
from locus.imports.embedllm import read_embedllm

HEADER = ["prompt_id", "model_id", "category_id", "label", "model_name", "prompt", "category"]
HOSTILE_TEXT = [
    'He said "2,5"\nand left,\r\n\r\nfor good',
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>\u202e\x00 שלום",
    "'; DROP TABLE score; --",
]


def row(
    prompt: int, model: int, label: object, category: str = "piqa", **change: object
) -> dict[str, Any]:
    text = HOSTILE_TEXT[prompt % len(HOSTILE_TEXT)]
    return {
        "prompt_id": prompt,
        "model_id": model,
        "category_id": 3,
        "label": label,
        "model_name": f"org/model-{model}",
        "prompt": f"{prompt}: {text}",
        "category": category,
    } | change


def sound() -> dict[str, list[dict[str, Any]]]:
    return {
        "train": [row(p, m, (p + m) % 2) for p in range(6) for m in range(3)],
        "val": [row(p, m, 1) for p in (10, 11) for m in range(3)],
        "test": [row(p, m, 0) for p in (20, 21) for m in range(3)],
    }


def write(
    folder: Path, parts: dict[str, list[dict[str, Any]]], header: Iterable[str] = HEADER
) -> Path:
    folder.mkdir(exist_ok=True)
    for split, rows in parts.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(header), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    return folder


def read(folder: Path, **options: Any) -> ReadResult:
    return read_embedllm(folder, "run-1", **options)


def test_a_sound_folder(tmp_path: Path) -> None:
    write(tmp_path, sound())
    (tmp_path / "model_order.csv").write_text(
        "model_id,model_name\n" + "".join(f"{m},org/model-{m}\n" for m in range(4))
    )
    result = read(tmp_path)
    assert result.n_problems == 0, result.problems.rows()
    assert result.notes == ["1 models of model_order.csv have no label and are not imported"]
    bundle = result.bundle
    assert bundle is not None
    for name, schema in SCHEMAS.items():
        assert dict(getattr(bundle, name).schema) == schema
    assert bundle.models.select("model_id", "org", "metadata").row(1) == (
        "org/model-1",
        "org",
        '{"embedllm_model_id": 1}',
    )
    assert json.loads(bundle.models.item(0, "metadata")) == {"embedllm_model_id": 0}
    texts = dict(bundle.queries.select("source_id", "text").iter_rows())
    assert texts == {str(r["prompt_id"]): r["prompt"] for part in sound().values() for r in part}
    splits = dict(bundle.queries.select("source_id", "split").iter_rows())
    assert splits == {str(r["prompt_id"]): split for split, part in sound().items() for r in part}
    first = bundle.queries.row(0, named=True)
    assert first["query_id"] == ids.query_id("piqa", "1", {"source_id": "0"}, first["text"])
    back = bundle.scores.join(bundle.queries, on="query_id").select(
        "model_id", "source_id", "score"
    )
    assert sorted(back.rows()) == sorted(
        (r["model_name"], str(r["prompt_id"]), float(r["label"]))
        for part in sound().values()
        for r in part
    )


def test_order_of_columns_and_a_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path, sound(), header=[*reversed(HEADER), "unknown"])
    path = tmp_path / "val.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n\n")
    result = read(tmp_path)
    assert result.n_problems == 0, result.problems.rows()
    assert result.bundle is not None
    assert result.bundle.scores.height == 30


def test_several_labels_for_one_cell(tmp_path: Path) -> None:
    parts = sound()
    parts["train"] = [
        row(0, 0, 1),
        row(0, 0, 1),  # agree
        row(1, 0, 1),
        row(1, 0, 0),
        row(1, 0, 1),  # majority: right
        row(2, 0, 0),
        row(2, 0, 1),
        row(2, 0, 0),  # majority: wrong
        row(3, 0, 0),
        row(3, 0, 1),  # tie
        row(4, 0, 1),
    ]
    result = read(write(tmp_path, parts))
    assert result.n_problems == 0, result.problems.rows()
    assert result.bundle is not None
    train = result.bundle.scores.join(
        result.bundle.queries.filter(pl.col("split") == "train"), on="query_id"
    )
    found = dict(train.select("source_id", "score").iter_rows())
    assert found == {"0": 1.0, "1": 1.0, "2": 0.0, "4": 1.0}
    note = (
        "4 (model, prompt) pairs have several labels: 1 agree and are collapsed, "
        "2 are decided by majority, 1 are ties and stay missing"
    )
    assert note in result.notes


def test_variants_of_a_benchmark_are_one_task(tmp_path: Path) -> None:
    parts = sound()
    parts["train"] = [
        row(0, 0, 1, "gpqa_main_n_shot"),
        row(0, 0, 1, "gpqa_diamond_zeroshot"),
        row(1, 0, 1, "mmlu_abstract_algebra"),
        row(2, 0, 0, "social_iqa"),
    ]
    bundle = read(write(tmp_path, parts)).bundle
    assert bundle is not None
    rows = bundle.queries.filter(pl.col("split") == "train").select("task", "category").rows()
    assert rows == [
        ("gpqa", "gpqa_diamond_zeroshot|gpqa_main_n_shot"),
        ("mmlu", "mmlu_abstract_algebra"),
        ("social_iqa", "social_iqa"),
    ]


CASES = [
    # change of the fifth record of train.csv, item, part of the reason
    ({"label": 2}, "prompt 1", "label 2: expected 0 or 1"),
    ({"label": ""}, "prompt 1", "label (empty)"),
    ({"label": "yes"}, "prompt 1", "label yes"),
    ({"label": "nan"}, "prompt 1", "expected 0 or 1"),
    ({"prompt_id": "x"}, "prompt x", "prompt_id: expected a whole number"),
    ({"prompt_id": ""}, "prompt (empty)", "prompt_id: expected a whole number"),
    ({"model_id": "1.5"}, "prompt 1", "model_id: expected a whole number"),
    ({"model_name": ""}, "prompt 1", "model_name is empty"),
    ({"model_name": "org/other"}, "model 1: org/other", "more than one name"),
    ({"model_id": 9}, "model 9: org/model-1", "more than one model_id"),
    ({"prompt": "another"}, "prompt 1", "another text"),
    ({"prompt": ""}, "prompt 1", "prompt is empty"),
    ({"category": ""}, "prompt 1", "category is empty"),
    ({"category": "asdiv"}, "prompt 1", "another benchmark"),
    ({"category": "a\x1bb"}, "prompt 1", "printable"),
]


@pytest.mark.parametrize(("change", "item", "reason"), CASES)
def test_what_is_wrong_is_named(
    tmp_path: Path, change: dict[str, object], item: str, reason: str
) -> None:
    parts = sound()
    parts["train"][4] |= change
    result = read(write(tmp_path, parts))
    assert result.bundle is None
    found = [p for p in result.problems.rows(named=True) if reason in p["reason"]]
    # Record 6, counting the header: the prompts before it run over several lines.
    assert ("train.csv", 6, item) in [(p["file"], p["line"], p["item"]) for p in found]
    assert any("counts records" in note for note in result.notes)
    kept = read(tmp_path, skip_bad=True)
    assert kept.n_problems == result.n_problems
    assert kept.bundle is not None
    assert 0 < kept.bundle.scores.height < 30


@pytest.mark.parametrize(
    "name", ["../../x", "a'b", "a\nb", "x" * 10_000, "\u202eevil", "a b", '"', "=1+1"]
)
def test_hostile_model_names(tmp_path: Path, name: str) -> None:
    parts = sound()
    for part in parts.values():
        for one in part:
            if one["model_id"] == 2:
                one["model_name"] = name
    result = read(write(tmp_path, parts))
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert (problem["file"], problem["line"]) == ("train.csv", 4)
    assert problem["item"].isprintable()
    kept = read(tmp_path, skip_bad=True).bundle
    assert kept is not None
    assert kept.models.get_column("model_id").to_list() == ["org/model-0", "org/model-1"]


def test_a_prompt_in_two_splits(tmp_path: Path) -> None:
    parts = sound()
    parts["test"].append(row(2, 0, 1))
    result = read(write(tmp_path, parts))
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert (problem["file"], problem["line"], problem["item"]) == ("test.csv", 8, "prompt 2")
    assert "another split" in problem["reason"]
    kept = read(tmp_path, skip_bad=True).bundle
    assert kept is not None
    assert "2" not in kept.queries.get_column("source_id").to_list()


def test_the_models_order_contradicts(tmp_path: Path) -> None:
    write(tmp_path, sound())
    (tmp_path / "model_order.csv").write_text("model_id,model_name\n1,org/else\n")
    result = read(tmp_path)
    (problem,) = result.problems.rows(named=True)
    assert problem["item"] == "model 1: org/model-1"
    assert "model_order.csv: org/else" in problem["reason"]


@pytest.mark.parametrize(
    ("content", "n_problems"),
    [
        (",model_name\n0,org/model-0\n1,org/model-1\n2,org/model-2\n", 0),
        ("model\norg/model-0\norg/model-1\norg/model-2\n", 0),
        ("what,ever\n1,2\n", 0),
        ("", 1),
    ],
)
def test_shapes_of_the_models_order(tmp_path: Path, content: str, n_problems: int) -> None:
    write(tmp_path, sound())
    (tmp_path / "model_order.csv").write_text(content)
    assert read(tmp_path).n_problems == n_problems


def test_missing_files_and_columns(tmp_path: Path) -> None:
    write(tmp_path, sound())
    (tmp_path / "val.csv").unlink()
    write(tmp_path, {"test": sound()["test"]}, header=[c for c in HEADER if c != "label"])
    result = read(tmp_path, skip_bad=True)
    assert result.bundle is None
    assert result.problems.select("file", "line", "item").rows() == [
        ("val.csv", None, "val.csv"),
        ("test.csv", 1, "label"),
    ]
    assert all("prompt_id, model_id" in reason for reason in result.problems["reason"])


@pytest.mark.parametrize(
    ("tail", "line", "reason"),
    [
        (b"1,0,3,1,org/model-0,text,piqa,more\n", 20, "8 fields where the header has 7"),
        (b"1,0,3,1,org/model-0,\xff\xfe,piqa\n", 20, "not UTF-8"),
        (b'1,0,3,1,org/model-0,"open,piqa\n', 20, "broken quoting"),
    ],
)
def test_broken_csv(tmp_path: Path, tail: bytes, line: int, reason: str) -> None:
    write(tmp_path, sound())
    path = tmp_path / "train.csv"
    path.write_bytes(path.read_bytes() + tail)
    result = read(tmp_path)
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert (problem["file"], problem["line"]) == ("train.csv", line)
    assert reason in problem["reason"]


@pytest.mark.parametrize("content", [b"", b"\n", bytes(50), b"\xff\xfe\x00"])
def test_files_that_are_no_csv(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, sound())
    (tmp_path / "train.csv").write_bytes(content)
    result = read(tmp_path, skip_bad=True)
    assert result.bundle is None
    assert set(result.problems.get_column("file")) == {"train.csv"}


def test_a_large_folder(tmp_path: Path) -> None:
    """200,000 rows whose prompts run over lines: read in parallel, every score in its place."""
    n_models, n_prompts = 100, 2_000
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (n_prompts, n_models))
    prompts = np.repeat(np.arange(n_prompts), n_models)
    models = np.tile(np.arange(n_models), n_prompts)
    frame = pl.DataFrame(
        {"prompt_id": prompts, "model_id": models, "label": labels.ravel()}
    ).with_columns(
        category_id=pl.lit(1),
        model_name=pl.format("org/m{}", "model_id"),
        prompt=pl.format('question {},\n\n"yes"\r\nor no', "prompt_id"),
        category=pl.lit("piqa"),
    )
    frame.write_csv(tmp_path / "train.csv")
    write(tmp_path, {name: part for name, part in sound().items() if name != "train"})
    for name in ("val", "test"):
        other = frame.head(3).with_columns(
            pl.col("prompt_id") + {"val": 10**6, "test": 10**7}[name]
        )
        other.write_csv(tmp_path / f"{name}.csv")
    result = read(tmp_path)
    assert result.n_problems == 0, result.problems.head().rows()
    assert result.bundle is not None
    back = result.bundle.scores.join(
        result.bundle.queries.filter(pl.col("split") == "train"), on="query_id"
    ).select(
        prompt=pl.col("source_id").cast(pl.Int64),
        model=pl.col("model_id").str.strip_prefix("org/m").cast(pl.Int64),
        score="score",
    )
    assert back.height == n_models * n_prompts
    found = np.full(labels.shape, -1.0)
    found[back["prompt"].to_numpy(), back["model"].to_numpy()] = back["score"].to_numpy()
    np.testing.assert_array_equal(found, labels)
