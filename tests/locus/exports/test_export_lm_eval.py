"""Logs that are written are read back by the project's own reader as what they were."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from export_rows import TIME, answer, frame

from locus.exports.files import write_file
from locus.exports.lm_eval import lm_eval_files
from locus.imports.lm_eval_logs import read_lm_eval

HOSTILE = '\x1b[31m"\n\u2028\u202e{"doc_id": 1}\r\n\\ </script> =cmd|!A1 \ud7ff\U0001f600'


def export(folder: Path, rows: list[dict[str, Any]], **model: Any) -> dict[str, int]:
    notes: dict[str, int] = {}
    for file in lm_eval_files(frame(rows), model.get("params_b"), "org__model", notes):
        assert not write_file(folder, file)
    return notes


def back(folder: Path, **options: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """What the reader makes of a folder: (model, text) -> score joined with its query."""
    read = read_lm_eval(folder, "run", **options)
    assert read.bundle is not None, read.problems
    joined = read.bundle.scores.join(
        read.bundle.queries.rename({"query_id": "id"}), left_on="query_id", right_on="id"
    )
    rows = {
        (r["model_id"], r["text"]): r | {"query_id": q}
        for r, q in zip(joined.to_dicts(), joined["query_id"], strict=True)
    }
    assert len(rows) == read.bundle.scores.height
    return rows


def check(folder: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    found = back(folder, **options)
    assert {key: (r["status"], r["score"]) for key, r in found.items()} == {
        (row["model_id"], row["text"].strip()): (row["status"], row["score"]) for row in rows
    }


def test_scores_status_and_all_that_is_known_come_back(tmp_path: Path) -> None:
    rows = [answer(n, n / 4, doc_hash=f"h{n}") for n in range(5)]
    rows.append(answer(5, None, metrics=None))
    nothing = {"status": "empty", "response": "", "metrics": '{"exact_match,strict": 0.0}'}
    rows.append(answer(6, None, **nothing))
    rows = [row | {"backend": "hf", "backend_args": '{"dtype": "auto"}'} for row in rows]
    assert export(tmp_path, rows, params_b=1.5) == {}
    check(tmp_path, rows)
    read = read_lm_eval(tmp_path, "run").bundle
    assert read is not None
    assert read.models["params_b"].to_list() == [1.5]
    assert read.revisions.select("backend", "backend_args").row(0) == ("hf", '{"dtype": "auto"}')
    assert read.tasks.select("task", "task_version", "output_type", "primary_metric").row(0) == (
        "sums",
        "3.0",
        "generate_until",
        "exact_match",
    )
    for row in rows:
        told = back(tmp_path)[row["model_id"], row["text"]]
        for column in ("filter", "metric", "response", "doc_hash", "scored_at", "source_id"):
            assert told[column] == row[column], column
        assert (told["target"], json.loads(told["doc"])) == (row["target"], json.loads(row["doc"]))


def test_the_files_are_the_harness_own(tmp_path: Path) -> None:
    export(tmp_path, [answer(7, 0.5), answer(12, 1.0)])
    stamp = "2025-03-04T05-06-07.089000"
    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.json*"))
    assert names == [f"org__model/results_{stamp}.json", f"org__model/samples_sums_{stamp}.jsonl"]
    lines = (tmp_path / names[1]).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["doc_id"], r["filter"], r["exact_match"]) for r in records] == [
        (7, "strict", 0.5),
        (7, "loose", 1.0),
        (12, "strict", 1.0),
        (12, "loose", 1.0),
    ]
    assert records[0]["prompt_hash"] is None
    assert "arguments" not in records[0]
    assert "filtered_resps" not in records[0]
    results = json.loads((tmp_path / names[0]).read_text())
    assert results["results"]["sums"]["exact_match,strict"] == 0.75
    assert results["date"] == TIME.timestamp()
    assert results["lm_eval_version"] is None


def test_no_key_of_a_backend_goes_out(tmp_path: Path) -> None:
    args = {"api_key": "very-secret", "base_url": "http://me:very-secret@host/v1"}
    export(tmp_path, [answer(1, backend="x", backend_args=json.dumps(args))])
    (results,) = tmp_path.rglob("results_*.json")
    assert "very-secret" not in results.read_text()
    assert json.loads(results.read_text())["config"]["model_args"]["api_key"] == "(redacted)"


def test_hostile_texts_stay_data(tmp_path: Path) -> None:
    rows = [
        answer(
            n,
            0.0,
            response=HOSTILE * n,
            target=HOSTILE,
            text=f"{n}{HOSTILE}?",
            doc=json.dumps({"question": f"{n}{HOSTILE}?", "answer": HOSTILE}),
        )
        for n in range(1, 4)
    ]
    export(tmp_path, rows)
    check(tmp_path, rows)
    for row in rows:
        assert back(tmp_path)[row["model_id"], row["text"]]["response"] == row["response"]


def test_questions_that_their_document_does_not_ask_come_back_too(tmp_path: Path) -> None:
    odd = [None, '"a text"', "[1, 2]", '{"sentence": "other"}', '{"question": "Which?"}', "3"]
    choices = ["red", "green"]
    rows = [
        answer(n, 1.0, doc=doc, text=f"Which {n}?\nA. red\nB. green", choices=choices)
        for n, doc in enumerate(odd)
    ]
    rows += [answer(30, 0.0, text="  In white  ", doc=None)]
    notes = export(tmp_path, rows)
    check(tmp_path, rows)
    assert sorted(notes.values()) == [1, 7]


def test_two_queries_of_one_document_and_text_stay_two(tmp_path: Path) -> None:
    rows = [answer(n, 0.0, text="Same?", doc='{"question": "Same?"}') for n in (1, 2)]
    export(tmp_path, rows)
    read = read_lm_eval(tmp_path, "run").bundle
    assert read is not None
    assert read.scores.height == read.queries.height == 2


def test_log_likelihoods_come_back(tmp_path: Path) -> None:
    doc = {"query": "Pick one", "choices": ["red", "green"]}
    rows = [
        answer(
            1,
            1.0,
            doc=json.dumps(doc),
            text="Pick one\nA. red\nB. green",
            choices=doc["choices"],
            output_type="multiple_choice",
            metric="acc",
            filter="none",
            # The better-known metric is not the score here, and must not become it.
            metrics='{"acc,none": 1.0, "acc_norm,none": 0.0}',
            response='[[["-1.5", "False"]], [["-0.5", "True"]]]',
            primary_metric="acc",
        )
    ]
    assert export(tmp_path, rows) == {}
    check(tmp_path, rows)
    (told,) = back(tmp_path).values()
    assert (told["metric"], told["response"]) == ("acc", rows[0]["response"])


def test_scores_of_a_matrix_without_metric_or_document(tmp_path: Path) -> None:
    bare = dict.fromkeys(
        ["metric", "filter", "metrics", "response", "doc", "output_type", "primary_metric"]
    )
    rows = [answer(n, n / 2, **bare, source="matrix", task_version="1") for n in range(3)]
    export(tmp_path, rows)
    check(tmp_path, rows)
    assert {row["metric"] for row in back(tmp_path).values()} == {"score"}


@pytest.mark.parametrize("status", ["refused", "truncated", "empty"])
def test_no_status_ever_becomes_a_score(tmp_path: Path, status: str) -> None:
    lost = answer(1, None, status=status, metrics='{"exact_match,strict": 1.0}', response="no")
    notes = export(tmp_path, [lost, answer(2)])
    assert notes == {f"answers with status {status} are told as errors": 1}
    told = back(tmp_path)["org/model", lost["text"]]
    assert (told["status"], told["score"]) == ("error", None)


def test_an_empty_answer_that_counted_as_wrong_stays_wrong(tmp_path: Path) -> None:
    rows = [answer(1, 0.0, response=""), answer(2)]
    assert list(export(tmp_path, rows).values()) == [1]
    check(tmp_path, rows)


def test_versions_and_tasks_that_began_together_keep_their_own_files(tmp_path: Path) -> None:
    second = TIME + timedelta(microseconds=1)
    rows = [
        answer(1),
        answer(2, task="../evil task"),
        answer(3, revision="abc123"),
        answer(4, task_version="4"),
        answer(5, scored_at=second, revision="def"),
        answer(6, filter="loose"),
    ]
    export(tmp_path, rows)
    stamps = [p.name for p in (tmp_path / "org__model").glob("results_*.json")]
    assert len(stamps) == 5
    assert {p.parent for p in tmp_path.rglob("*.json*")} == {tmp_path / "org__model"}
    check(tmp_path, rows)
    by_text = {text: row for (_, text), row in back(tmp_path).items()}
    assert by_text[rows[2]["text"]]["revision"] == "abc123"
    assert by_text[rows[3]["text"]]["task_version"] == "4"
    assert by_text[rows[4]["text"]]["scored_at"] == second
    assert by_text[rows[1]["text"]]["task"].startswith("_evil_task@")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="lack the columns doc_hash"):
        list(lm_eval_files(pl.DataFrame(frame([answer(1)])).drop("doc_hash"), None, "x", {}))
