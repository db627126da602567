"""The format of Every Eval Ever, held against the rules of its schema (0.2.2) in short."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from export_rows import answer, frame

from locus.exports.answers import ExportFile
from locus.exports.every_eval_ever import every_eval_ever_files

jsonschema = pytest.importorskip("jsonschema")

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def thing(required: str, closed: str = "", **properties: Any) -> dict[str, Any]:
    """Rules of an object: required names, then (if closed) those allowed beside them."""
    rules: dict[str, Any] = {
        "type": "object",
        "required": required.split(),
        "properties": properties,
    }
    if closed:
        allowed = {name: {} for name in [*required.split(), *closed.split()]}
        rules |= {"additionalProperties": False, "properties": allowed | properties}
    return rules


TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
TEXTS = {"type": "array", "items": TEXT}
TEXT_VALUES = {"type": "object", "additionalProperties": TEXT}
RESULT = thing(
    "evaluation_name source_data metric_config score_details",
    evaluation_result_id=TEXT,
    evaluation_name=TEXT,
    evaluation_timestamp=TEXT,
    source_data=thing(
        "dataset_name source_type",
        dataset_name=TEXT,
        source_type={"const": "other"},
        source_version=TEXT,
    ),
    metric_config=thing(
        "lower_is_better score_type min_score max_score",
        lower_is_better={"type": "boolean"},
        score_type={"const": "continuous"},
        min_score=NUMBER,
        max_score=NUMBER,
        metric_name=TEXT,
    ),
    score_details=thing(
        "score",
        score=NUMBER,
        details=TEXT_VALUES,
        uncertainty=thing(
            "",
            standard_error=thing("value", value=NUMBER, method=TEXT),
            standard_deviation=NUMBER,
            num_samples=WHOLE,
        ),
    ),
)
WHOLE_FILE = thing(
    "schema_version evaluation_id retrieved_timestamp source_metadata model_info eval_library "
    "evaluation_results",
    "evaluation_timestamp detailed_evaluation_results",
    schema_version=TEXT,
    evaluation_id=TEXT,
    retrieved_timestamp=TEXT,
    evaluation_timestamp=TEXT,
    source_metadata=thing(
        "source_type source_organization_name evaluator_relationship",
        source_name=TEXT,
        source_type={"enum": ["documentation", "evaluation_run"]},
        source_organization_name=TEXT,
        evaluator_relationship={"enum": ["first_party", "third_party", "collaborative", "other"]},
    ),
    model_info=thing("name id", name=TEXT, id=TEXT, developer=TEXT, additional_details=TEXT_VALUES),
    eval_library=thing("name version", name=TEXT, version=TEXT),
    evaluation_results={"type": "array", "items": RESULT},
    detailed_evaluation_results=thing(
        "format file_path",
        format={"const": "jsonl"},
        file_path=TEXT,
        hash_algorithm={"enum": ["sha256", "md5"]},
        checksum=TEXT,
        total_rows=WHOLE,
    ),
)
INSTANCE = thing(
    "schema_version evaluation_id model_id evaluation_name sample_id interaction_type input "
    "answer_attribution evaluation output",
    "evaluation_result_id sample_hash messages token_usage performance error metadata",
    schema_version=TEXT,
    sample_id=TEXT,
    sample_hash=TEXT,
    interaction_type={"const": "single_turn"},
    input=thing(
        "raw reference",
        raw=TEXT,
        reference=TEXTS,
        choices={"type": ["array", "null"], "items": TEXT},
    ),
    output=thing("raw", raw=TEXTS),
    answer_attribution={"type": "array"},
    evaluation=thing("score is_correct", score=NUMBER, is_correct={"type": "boolean"}),
    token_usage=thing(
        "input_tokens output_tokens total_tokens",
        input_tokens=WHOLE,
        output_tokens=WHOLE,
        total_tokens=WHOLE,
    ),
    performance=thing("", latency_ms={"type": "number", "minimum": 0}),
    metadata=TEXT_VALUES,
)


def export(
    rows: list[dict[str, Any]], notes: dict[str, int] | None = None, **about: Any
) -> list[ExportFile]:
    about = {"org": None, "params_b": None} | about
    told = {} if notes is None else notes
    return list(every_eval_ever_files(frame(rows), about, "org__model", "Our lab", NOW, told))


def parsed(files: list[ExportFile]) -> tuple[list[Any], list[Any]]:
    """All files about a whole and all lines about an answer, each held against its rules."""
    wholes = [json.loads(f.content) for f in files if f.path.suffix == ".json"]
    lines = [
        json.loads(line)
        for f in files
        if f.path.suffix == ".jsonl"
        for line in f.content.split(b"\n")[:-1]
    ]
    for value in wholes:
        jsonschema.validate(value, WHOLE_FILE)
    for value in lines:
        jsonschema.validate(value, INSTANCE)
    return wholes, lines


def test_every_variant_keeps_the_rules() -> None:
    bare = dict.fromkeys(["metric", "filter", "metrics", "response", "doc", "target", "source_id"])
    rows = [
        answer(1, 1.0, latency_ms=12.5, tokens_in=3, tokens_out=4),
        answer(2, 0.25, category="easy", choices=["a", "b"]),
        answer(3, 0.5, task="x/../y", task_version="?", source="matrix", **bare),
        answer(4, None),
    ]
    wholes, lines = parsed(export(rows, org="org", params_b=7.0))
    assert {w["evaluation_results"][0]["evaluation_name"] for w in wholes} == {"sums", "x/../y"}
    assert len(lines) == 3
    kinds = {w["evaluation_results"][0]["evaluation_name"]: w["source_metadata"] for w in wholes}
    assert kinds["sums"]["source_type"] == "evaluation_run"
    assert kinds["x/../y"]["source_type"] == "documentation"
    assert all(".." not in f.path.parts and not f.path.is_absolute() for f in export(rows))


def test_the_whole_is_what_its_answers_are() -> None:
    notes: dict[str, int] = {}
    files = export([answer(1, 1.0), answer(2, 0.25), answer(3, None)], notes)
    (whole,), lines = parsed(files)
    (result,) = whole["evaluation_results"]
    assert result["score_details"]["score"] == 0.625
    assert result["score_details"]["uncertainty"]["num_samples"] == 2
    assert result["score_details"]["uncertainty"]["standard_error"]["value"] == pytest.approx(0.375)
    assert [line["evaluation"] for line in lines] == [
        {"score": 1.0, "is_correct": True},
        {"score": 0.25, "is_correct": False},
    ]
    assert {line["evaluation_id"] for line in lines} == {whole["evaluation_id"]}
    assert list(notes.values()) == [1]
    details = whole["detailed_evaluation_results"]
    (answers,) = [f for f in files if f.path.name == details["file_path"]]
    assert details["checksum"] == hashlib.sha256(answers.content).hexdigest()
    assert details["total_rows"] == answers.n_rows == 2


@pytest.mark.parametrize(
    ("model", "folder", "place"),
    [
        ("org/model", "org__model", "data/sums/org/model"),
        ("a/b/c", "a__b__c", "data/sums/a/b__c"),
        ("gpt2", "gpt2", "data/sums/unknown/gpt2"),
        ("o:x/m", "o__x__m@0123", "data/sums/o__x/o__x__m@0123"),
    ],
)
def test_files_lie_by_developer_and_model(model: str, folder: str, place: str) -> None:
    about = {"org": None, "params_b": None}
    rows = frame([answer(1, model_id=model)])
    files = list(every_eval_ever_files(rows, about, folder, "Our lab", NOW, {}))
    assert {str(file.path.parent) for file in files} == {place}


def test_an_evaluation_without_any_score_is_left_out_and_told() -> None:
    notes: dict[str, int] = {}
    assert export([answer(1, None), answer(2, None)], notes) == []
    assert list(notes.values()) == [2]


def test_the_rules_would_notice() -> None:
    (whole,), _ = parsed(export([answer(1)]))
    del whole["model_info"]["id"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(whole, WHOLE_FILE)
