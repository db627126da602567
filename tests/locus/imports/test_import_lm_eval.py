"""Logs of lm-evaluation-harness: the genuine ones, and every variant that a reader meets."""

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lm_eval_files import GSM8K, STAMP, generated, rated, write_results, write_samples

from locus import ids
from locus.imports.bundle import SCHEMAS, ImportBundle, ReadResult
from locus.imports.lm_eval_logs import read_lm_eval

OTHER_STAMP = "2025-03-05T00-00-00"


def read(folder: Path, **options: Any) -> ReadResult:
    return read_lm_eval(folder, "run-1", **options)


def bundle_of(result: ReadResult) -> ImportBundle:
    assert result.n_problems == 0, result.problems.rows()
    assert result.bundle is not None
    return result.bundle


def logs_of(shared_data: Path, name: str) -> Path:
    folder = shared_data / "lm_eval_logs" / name
    if not folder.is_dir():
        pytest.skip(f"no lm_eval_logs/{name} in {shared_data}")
    return folder


# --- genuine logs


def test_genuine_logs_of_one_model(shared_data: Path) -> None:
    folder = logs_of(shared_data, "metabench_pythia-14m")
    result = read(folder, model="EleutherAI/pythia-14m")
    bundle = bundle_of(result)
    assert bundle.models.get_column("model_id").to_list() == ["EleutherAI/pythia-14m"]
    sizes = dict(bundle.queries.group_by("task").len().iter_rows())
    assert sizes == {
        "metabench_arc_secondary": 100,
        "metabench_gsm8k_secondary": 249,  # 498 lines: one for each of two filters
        "metabench_hellaswag_secondary": 58,
        "metabench_mmlu_secondary": 102,
        "metabench_truthfulqa_secondary": 136,
        "metabench_winogrande_secondary": 106,
    }
    assert bundle.scores.height == sum(sizes.values())
    found = _means(bundle)
    for path in folder.glob("*.jsonl"):
        task = path.name.removeprefix("samples_").rsplit("_", 1)[0]
        records = [json.loads(line) for line in path.read_text().splitlines()]
        metric = next(m for m in ("exact_match", "acc_norm", "acc") if m in records[0])
        first = {record["doc_id"]: record for record in reversed(records)}
        values = [record[metric] for record in first.values()]
        assert found["EleutherAI/pythia-14m", task] == pytest.approx(sum(values) / len(values))
        assert set(bundle.scores.get_column("status")) == {"ok"}


def _means(bundle: ImportBundle) -> dict[tuple[str, str], float]:
    joined = bundle.scores.join(bundle.queries, on="query_id")
    rows = joined.group_by("model_id", "task").agg(pl.col("score").mean()).iter_rows()
    return {(model, task): score for model, task, score in rows}


def test_genuine_filters_without_names(shared_data: Path) -> None:
    bundle = bundle_of(read(logs_of(shared_data, "metabench_pythia-14m"), model="a/b"))
    rows = bundle.scores.filter(pl.col("metric") == "exact_match")
    assert set(rows.get_column("filter")) == {"filter-1"}
    kinds = {tuple(json.loads(metrics)) for metrics in rows.get_column("metrics")}
    assert kinds == {("exact_match,filter-1", "exact_match,filter-2")}


def test_genuine_logs_of_several_models_in_one_folder(shared_data: Path) -> None:
    folder = logs_of(shared_data, "pyFade")
    bundle = bundle_of(read(folder))
    assert set(bundle.models.get_column("model_id")) == {
        "gemma3:12b-u1",
        "gemma3:12b-it-q4_K_M",
        "gemma3_12b_u2",
        "gemma-3-12b-it-base",
    }
    by_file: dict[str, list[float]] = defaultdict(list)
    for path in folder.rglob("*.jsonl"):
        by_file[path.name] += [json.loads(x)["exact_match"] for x in path.read_text().split("\n")]
    assert bundle.scores.height == sum(map(len, by_file.values()))
    assert bundle.scores.get_column("score").sum() == sum(map(sum, by_file.values()))
    mmlu = bundle.tasks.filter(pl.col("task") == "mmlu_pro_plus_health").row(0, named=True)
    assert (mmlu["task_version"], mmlu["output_type"]) == ("1.0", "generate_until")
    assert mmlu["primary_metric"] == "exact_match"
    gsm8k = bundle.scores.join(bundle.queries, on="query_id").filter(pl.col("task") == "gsm8k")
    assert set(gsm8k.get_column("filter")) == {"strict-match"}
    assert set(gsm8k.get_column("task_version")) == {"3.0"}
    # Both models were asked the same questions: the same rows of the frame of queries.
    assert gsm8k.get_column("query_id").n_unique() * 2 == gsm8k.height
    # The date of the results is the start in UTC, not the time of writing in the file's name.
    started = gsm8k.filter(pl.col("model_id") == "gemma3:12b-u1").item(0, "scored_at")
    assert started == datetime(2025, 9, 9, 13, 25, 33, 110303, tzinfo=UTC)
    runs = {run["model_id"]: run for run in bundle.settings["runs"]}
    assert runs["gemma3:12b-u1"]["lm_eval_version"] == "0.4.9.1"
    assert runs["gemma3:12b-u1"]["limit"] == 100.0
    assert runs["gemma3:12b-u1"]["n-shot"] == {"gsm8k": 5}
    assert runs["gemma3_12b_u2"]["model_name"] == "/workspace/gemma3_12b_u2"


def test_genuine_questions_are_found_in_their_prompts(shared_data: Path) -> None:
    logs_of(shared_data, "pyFade")
    bundle = bundle_of(read(shared_data / "lm_eval_logs"))
    for row in bundle.queries.iter_rows(named=True):
        doc = json.loads(row["doc"])
        question = doc.get("question") or doc.get("query") or doc.get("sentence")
        assert row["text"].startswith(question.strip())
        # No examples, no instructions: the question and its options.
        options = row["choices"] or []
        assert len(row["text"]) <= len(question) + sum(len(option) + 4 for option in options)
        assert all(option in row["text"] for option in options)
        assert (row["choices"] is None) == ("gsm8k" in row["task"])


# --- variants


def test_a_run_with_results(tmp_path: Path) -> None:
    strict = [generated(i, float(i < 3)) for i in range(5)]
    flexible = [generated(i, float(i < 4), "flexible-extract") for i in range(5)]
    write_samples(tmp_path / "org__model", "gsm8k", strict + flexible)
    write_results(tmp_path / "org__model", tasks=GSM8K)
    bundle = bundle_of(read(tmp_path))
    for name, schema in SCHEMAS.items():
        assert dict(getattr(bundle, name).schema) == schema
    assert bundle.scores.get_column("score").to_list() == [1, 1, 1, 0, 0]
    row = bundle.scores.row(3, named=True)
    assert json.loads(row["metrics"]) == {
        "exact_match,strict-match": 0.0,
        "exact_match,flexible-extract": 1.0,
    }
    assert row["response"] == "it is 4"
    assert (row["doc_hash"], row["prompt_hash"], row["target_hash"]) == ("d3", "p3", "t3")
    assert (row["metric"], row["filter"], row["run_id"]) == ("exact_match", "strict-match", "run-1")
    assert row["scored_at"] == datetime.fromtimestamp(1741064767.5, UTC)
    query = bundle.queries.row(3, named=True)
    doc = {"question": "What is 3 plus 1?", "answer": "4"}
    assert query["query_id"] == ids.query_id("gsm8k", "3.0", doc, "What is 3 plus 1?")
    assert query["split"] == ids.split_of(query["query_id"])
    assert (query["target"], query["source_id"]) == ("4", "3")
    assert bundle.models.select("model_id", "org").rows() == [("org/model", "org")]
    revision = bundle.revisions.row(0, named=True)
    assert (revision["backend"], revision["revision"]) == ("hf", "import")
    assert json.loads(revision["backend_args"]) == {"pretrained": "org/model", "dtype": "auto"}
    (run,) = bundle.settings["runs"]
    assert (run["git_hash"], run["chat_template_sha"]) == ("abc", "cafe")


@pytest.mark.parametrize("with_results", [True, False])
def test_filters_without_names(tmp_path: Path, with_results: bool) -> None:
    records = [generated(i, float(i == 0), None) for i in range(3)]
    records += [generated(i, 1.0, None) for i in range(3)]
    write_samples(tmp_path, "gsm8k", records)
    if with_results:
        write_results(tmp_path, tasks=GSM8K)
    bundle = bundle_of(read(tmp_path, model="org/model"))
    assert bundle.scores.get_column("score").to_list() == [1, 0, 0]
    expected = ("strict-match", "flexible-extract") if with_results else ("filter-1", "filter-2")
    assert list(json.loads(bundle.scores.item(0, "metrics"))) == [
        f"exact_match,{name}" for name in expected
    ]
    assert set(bundle.scores.get_column("filter")) == {expected[0]}


def test_a_lost_line_does_not_shift_filters_without_names(tmp_path: Path) -> None:
    records: list[Any] = [generated(i, 0.0, None) for i in range(3)]
    records[1] = json.dumps(records[1])[:40]
    records += [generated(i, 1.0, None) for i in range(3)]
    write_samples(tmp_path, "gsm8k", records)
    result = read(tmp_path, model="org/model", skip_bad=True)
    assert result.problems.get_column("line").to_list() == [2, 5]
    assert result.bundle is not None
    assert result.bundle.scores.get_column("score").to_list() == [0, 0]


def test_choosing_metric_and_filter(tmp_path: Path) -> None:
    records = [generated(0, 0.0), generated(0, 1.0, "flexible-extract")]
    write_samples(tmp_path, "gsm8k", records)
    write_samples(tmp_path, "arc", [rated(0, 0.0, acc_norm=1.0)])
    write_samples(tmp_path, "piqa", [rated(0, 1.0, acc_norm=0.0)])
    chosen = {"gsm8k": "exact_match,flexible-extract", "piqa": "acc"}
    bundle = bundle_of(read(tmp_path, model="a/b", metric=chosen))
    assert bundle.scores.get_column("score").to_list() == [1, 1, 1]
    assert bundle.tasks.select("task", "primary_metric").rows() == [
        ("arc", "acc_norm"),
        ("gsm8k", "exact_match"),
        ("piqa", "acc"),
    ]
    for wrong in ({"gsm8k": "bleu"}, {"gsm8k": "exact_match,other"}, {"mmlu": "acc"}):
        result = read(tmp_path, model="a/b", metric=wrong)
        assert result.bundle is None
        assert result.n_problems == 1


@pytest.mark.parametrize(
    ("listed", "values", "expected"),
    [
        ([], {"acc": 0.0, "acc_norm": 1.0}, "acc_norm"),
        (["acc", "acc_norm"], {"acc": 0.0, "acc_norm": 1.0}, "acc_norm"),
        (["f1", "acc"], {"acc": 0.0, "f1": 0.5}, "f1"),
        (["word_perplexity", "acc"], {"word_perplexity": -3.5, "acc": 1.0}, "acc"),
        (["bleu"], {"bleu": [["a"], ["b"]], "custom": 0.25}, "custom"),
        ([], {"custom": True, "other": 0.0}, "custom"),
    ],
)
def test_rule_of_the_primary_metric(
    tmp_path: Path, listed: list[str], values: dict[str, Any], expected: str
) -> None:
    record = {k: v for k, v in rated(0, 0.0).items() if k != "acc"} | values
    write_samples(tmp_path, "t", [record])
    write_results(tmp_path, tasks={"t": {"metric_list": [{"metric": m} for m in listed]}})
    row = bundle_of(read(tmp_path)).scores.row(0, named=True)
    assert (row["metric"], row["score"]) == (expected, float(values[expected]))
    assert json.loads(row["metrics"]) == {f"{m},none": v for m, v in values.items()}


def test_older_records_with_lists_and_other_targets(tmp_path: Path) -> None:
    write_samples(tmp_path, "t", [rated(0, 1.0), rated(1, 0.0)])
    bundle = bundle_of(read(tmp_path, model="a/b"))
    query = bundle.queries.row(0, named=True)
    assert query["text"] == "pick number 0\nA. red\nB. green"
    assert query["choices"] == ["red", "green"]
    assert query["target"] == "1"
    assert bundle.tasks.item(0, "output_type") == "multiple_choice"
    assert bundle.tasks.item(0, "task_version") == "?"
    assert bundle.scores.item(0, "filter") == "none"
    assert json.loads(bundle.scores.item(0, "response"))[0] == [["-1.5", "False"]]


def test_blank_lines_byte_order_mark_and_no_final_newline(tmp_path: Path) -> None:
    path = write_samples(tmp_path, "t", ["", rated(0, 1.0), "  ", rated(1, 0.0)], end="")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    results = write_results(tmp_path, tasks={"t": {}})
    results.write_bytes(b"\xef\xbb\xbf" + results.read_bytes())
    assert bundle_of(read(tmp_path)).scores.height == 2


@pytest.mark.parametrize(
    ("resps", "value", "status", "score", "response"),
    [
        ([["7"]], 0.0, "ok", 0.0, "7"),
        ([["7", "8"]], 1.0, "ok", 1.0, '["7", "8"]'),
        ([[""]], 0.0, "empty", None, ""),
        ([["None"]], 0.0, "empty", None, "None"),
        ([[None]], 0.0, "empty", None, None),
        ([["", None]], 0.0, "empty", None, '["", null]'),
        ([["\n"]], 0.0, "ok", 0.0, "\n"),
        ([["None"]], 1.0, "ok", 1.0, "None"),
        ([["x"]], None, "error", None, "x"),
        (None, 0.0, "ok", 0.0, None),
    ],
)
def test_what_no_answer_is(
    tmp_path: Path, resps: Any, value: Any, status: str, score: float | None, response: str | None
) -> None:
    write_samples(
        tmp_path, "t", [generated(0, value) | {"resps": resps}, generated(1, 1.0), generated(2, 0)]
    )
    row = bundle_of(read(tmp_path, model="a/b")).scores.row(0, named=True)
    assert (row["status"], row["score"], row["response"]) == (status, score, response)


def test_hostile_responses_are_only_data(tmp_path: Path) -> None:
    hostile = "<script>\x00\u202e</script> '; DROP TABLE score; -- \U0001f480"
    lone = '"half an emoji \\ud83d"'
    line = json.dumps(generated(1, 1.0)).replace('"it is 2"', lone)
    write_samples(tmp_path, "t", [generated(0, 1.0) | {"resps": [[hostile]]}, line])
    rows = bundle_of(read(tmp_path, model="a/b")).scores.get_column("response").to_list()
    assert rows == [hostile, "half an emoji \ufffd"]


# --- whose scores they are


@pytest.mark.parametrize(
    ("folder", "model"),
    [
        ("org__name", "org/name"),
        ("gpt2", "gpt2"),
        ("a__b__c", "a__b__c"),
    ],
)
def test_model_by_its_folder(tmp_path: Path, folder: str, model: str) -> None:
    write_samples(tmp_path / "x" / folder, "t", [rated(0, 1.0)])
    result = read(tmp_path)
    assert bundle_of(result).models.get_column("model_id").to_list() == [model]
    assert any("taken from the folder" in note for note in result.notes)


def test_results_belong_by_their_timestamp(tmp_path: Path) -> None:
    write_samples(tmp_path, "t", [rated(0, 1.0)])
    write_samples(tmp_path, "t", [rated(0, 0.0)], stamp=OTHER_STAMP)
    write_results(tmp_path, "org/one", tasks={"t": {}})
    write_results(tmp_path, "gemma3:12b-u1", stamp=OTHER_STAMP, tasks={"t": {}})
    write_results(tmp_path / "apart", "org/else", stamp="2025-03-06T00-00-00")
    bundle = bundle_of(read(tmp_path))
    found = dict(bundle.scores.select("model_id", "score").iter_rows())
    assert found == {"org/one": 1.0, "gemma3:12b-u1": 0.0}
    assert bundle.queries.height == 1


def test_results_of_another_name_and_folder(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples", "t", [rated(0, 1.0)])
    results = write_results(tmp_path / "out", "org/one", tasks={"t": {}})
    results.rename(results.with_name(f"my_output_{STAMP}.json"))
    assert bundle_of(read(tmp_path)).models.item(0, "model_id") == "org/one"


def test_a_local_path_is_shortened(tmp_path: Path) -> None:
    write_samples(tmp_path, "t", [rated(0, 1.0)])
    write_results(tmp_path, "/home/me/models/mine-7b/", tasks={"t": {}})
    result = read(tmp_path)
    bundle = bundle_of(result)
    assert bundle.models.item(0, "model_id") == "mine-7b"
    assert "/home/me/models/mine-7b/" in bundle.models.item(0, "metadata")
    assert any("local path" in note for note in result.notes)


def test_two_local_paths_of_the_same_name(tmp_path: Path) -> None:
    write_samples(tmp_path / "1", "t", [rated(0, 1.0)])
    write_samples(tmp_path / "2", "t", [rated(0, 1.0)], stamp=OTHER_STAMP)
    write_results(tmp_path / "1", "/a/model", tasks={"t": {}})
    write_results(tmp_path / "2", "/b/model", stamp=OTHER_STAMP, tasks={"t": {}})
    result = read(tmp_path)
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert problem["file"] == f"2/results_{OTHER_STAMP}.json"
    assert problem["item"] == "/b/model"


def test_a_given_model_stands_for_one(tmp_path: Path) -> None:
    write_samples(tmp_path / "1", "t", [rated(0, 1.0)])
    write_results(tmp_path / "1", "/a/model", tasks={"t": {}})
    bundle = bundle_of(read(tmp_path, model="org/real"))
    assert bundle.models.get_column("model_id").to_list() == ["org/real"]
    write_results(tmp_path / "2", "/b/model", stamp=OTHER_STAMP)
    result = read(tmp_path, model="org/real")
    assert result.bundle is None
    assert "one by one" in result.problems.item(0, "reason")


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/a/../../x",
        "a'b",
        'a"b',
        "a\nb",
        "a\x00b",
        "x" * 10_000,
        "\u202eevil",
        "עברית",
        "https://evil.example/x",
        "/",
    ],
)
def test_hostile_model_ids(tmp_path: Path, name: str) -> None:
    write_samples(tmp_path / "safe", "t", [rated(0, 1.0)])
    write_results(tmp_path / "safe", name, tasks={"t": {}})
    result = read(tmp_path)
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert problem["file"] == f"safe/results_{STAMP}.json"
    assert problem["item"].isprintable()
    assert len(problem["item"]) < 250
    (given,) = read(tmp_path / "safe", model=name).problems.rows(named=True)
    assert (given["file"], given["line"]) == ("safe", None)


def test_what_is_kept_of_the_settings_holds_no_secret(tmp_path: Path) -> None:
    write_samples(tmp_path, "t", [rated(0, 1.0)])
    secret = "sk-0123456789abcdefghijkl"
    arguments = {
        "pretrained": "org/model",
        "token": "secret-1",
        "api_key": "secret-2",
        "header": {"Authorization": "Bearer secret-3"},
        "base_url": "https://user:secret-4@host/v1?api_key=secret-5",
        "note": secret,
        "add_bos_token": True,
        "tokenizer": "org/tok",
        "revision": "abc123",
    }
    text = ",".join(f"{k}={v}" for k, v in arguments.items())
    for given in (arguments, text):
        write_results(
            tmp_path, tasks={"t": {}}, config={"model": "hf", "model_args": given, "limit": 3}
        )
        bundle = bundle_of(read(tmp_path))
        kept = json.dumps(bundle.settings) + bundle.revisions.item(0, "backend_args")
        assert "secret-" not in kept
        assert secret not in kept
        assert "org/tok" in kept
        assert (
            json.loads(bundle.revisions.item(0, "backend_args"))["add_bos_token"].lower() == "true"
        )
        assert bundle.revisions.item(0, "revision") == "abc123"


# --- what was logged twice


def test_two_runs_of_one_model_are_both_kept(tmp_path: Path) -> None:
    write_samples(tmp_path, "t", [rated(0, 1.0)])
    write_samples(tmp_path, "t", [rated(0, 0.0)], stamp=OTHER_STAMP)
    scores = bundle_of(read(tmp_path, model="a/b")).scores
    assert dict(scores.select("scored_at", "score").iter_rows()) == {
        datetime(2025, 3, 4, 5, 6, 7, 89000, tzinfo=UTC): 1.0,
        datetime(2025, 3, 5, tzinfo=UTC): 0.0,
    }


def test_a_copy_of_a_file_collapses(tmp_path: Path) -> None:
    write_samples(tmp_path / "1", "t", [rated(0, 1.0)])
    write_samples(tmp_path / "2", "t", [rated(0, 1.0)])
    result = read(tmp_path, model="a/b")
    assert bundle_of(result).scores.height == 1
    assert any("is also in 1/samples_t" in note for note in result.notes)
    write_samples(tmp_path / "2", "t", [rated(0, 0.0)])
    result = read(tmp_path, model="a/b")
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert problem["file"].startswith("2/")
    assert "another score" in problem["reason"]


def test_the_same_question_under_two_numbers(tmp_path: Path) -> None:
    write_samples(tmp_path, "t", [rated(0, 1.0), rated(0, 0.0) | {"doc_id": 1}])
    result = read(tmp_path, model="a/b")
    assert bundle_of(result).scores.get_column("score").to_list() == [1.0]
    assert any("ask what another" in note for note in result.notes)


def test_repeated_records(tmp_path: Path) -> None:
    write_samples(tmp_path, "t", [generated(0, 1.0), generated(0, 1.0)])
    result = read(tmp_path, model="a/b")
    assert bundle_of(result).scores.height == 1
    assert any("1 repeated records" in note for note in result.notes)


# --- what is wrong


BAD_LINES = [
    ('{"doc_id": 1', "ends in the middle of a record", 2),
    ("[1, 2]", "expected an object", 2),
    ("null", "expected an object", 2),
    ("{'doc_id': 1}", "not valid JSON", 2),
    ("[" * 100_000, "not valid JSON", 2),
    ('{"doc_id": 1, "doc": ' + "[" * 100 + "]" * 100 + ', "acc": 1}', "nested too deeply", 2),
    ('{"doc_id": ' + "1" * 5000 + "}", "not valid JSON", 2),
    (json.dumps(rated(1, 1.0) | {"doc_id": None}), "doc_id: expected", 2),
    (json.dumps(rated(1, 1.0) | {"doc_id": True}), "doc_id: expected", 2),
    (json.dumps(rated(1, 1.0) | {"doc": None}), "doc: expected", 2),
    (json.dumps(rated(1, 1.0) | {"filter": 3}), "filter: expected", 2),
    (json.dumps({k: v for k, v in rated(1, 1.0).items() if k != "acc"}), "no metric", 2),
    (json.dumps(rated(1, float("nan"))), "metric acc is nan", 2),
    (json.dumps(rated(1, 7)), "metric acc is 7", 2),
    (json.dumps(rated(1, -0.5)), "metric acc is -0.5", 2),
    (json.dumps(rated(1, "1.0")), "metric acc is of type str", 2),
    (json.dumps(rated(1, [1.0])), "metric acc is a list", 2),
    (json.dumps(rated(1, 1.0) | {"doc": {"n": 1}, "arguments": []}), "nothing is asked", 2),
    (json.dumps(rated(0, 0.0)), "different metrics for filter none", 2),
    (json.dumps(rated(1, 1.0) | {"doc_id": 0}), "another document has the same doc_id", 2),
]


@pytest.mark.parametrize(("line", "reason", "number"), BAD_LINES)
def test_what_is_wrong_is_named(tmp_path: Path, line: str, reason: str, number: int) -> None:
    named = '"filter"' in line or '{"doc_id": 0' in line
    good = [rated(i, 1.0) | ({"filter": "none"} if named else {}) for i in (0, 2)]
    if named and '"filter": 3' not in line:
        line = line.removesuffix("}") + ', "filter": "none"}'
    write_samples(tmp_path / "org__m", "t", [good[0], line], end="")
    result = read(tmp_path)
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert problem["file"] == f"org__m/samples_t_{STAMP}.jsonl"
    assert problem["line"] == number
    assert reason in problem["reason"]
    assert problem["reason"].isprintable()
    write_samples(tmp_path / "org__m", "t", [good[0], line, good[1]])
    kept = read(tmp_path, skip_bad=True)
    assert kept.n_problems == 1
    assert kept.bundle is not None
    assert kept.bundle.scores.get_column("score").to_list() == [1.0, 1.0]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = write_samples(tmp_path, "t", [rated(0, 1.0)])
    path.write_bytes(path.read_bytes() + b'{"doc_id": 1, "doc": "\xff\xfe"}\n')
    (problem,) = read(tmp_path, model="a/b").problems.rows(named=True)
    assert (problem["line"], problem["reason"]) == (2, "not UTF-8 text")


def test_everything_is_reported_at_once(tmp_path: Path) -> None:
    write_samples(tmp_path, "t", ["x", rated(0, 1.0), "y", rated(1, 9.0)])
    write_samples(tmp_path, "u", ["z"])
    found = read(tmp_path, model="a/b").problems.select("file", "line").rows()
    assert [(file.split("_")[1], line) for file, line in found] == [
        ("t", 1),
        ("t", 3),
        ("u", 1),
        ("t", 4),
    ]


@pytest.mark.parametrize("value", [-12.5, 31.4, [1, 2], {"a": 1}, "text", float("nan")])
def test_a_task_without_a_score(tmp_path: Path, value: Any) -> None:
    record = {k: v for k, v in rated(0, 0.0).items() if k != "acc"} | {"word_perplexity": value}
    write_samples(tmp_path, "wikitext", [record])
    write_samples(tmp_path, "fine", [rated(0, 1.0)])
    result = read(tmp_path, model="a/b", skip_bad=True)
    (problem,) = result.problems.rows(named=True)
    assert problem["file"] == f"samples_wikitext_{STAMP}.jsonl"
    assert problem["item"] == "task wikitext"
    assert "word_perplexity" in problem["reason"]
    assert result.bundle is not None
    assert result.bundle.tasks.get_column("task").to_list() == ["fine"]


def test_empty_folders_and_files(tmp_path: Path) -> None:
    (problem,) = read(tmp_path).problems.rows(named=True)
    assert "--log_samples" in problem["reason"]
    assert read(tmp_path / "absent", skip_bad=True).bundle is None
    assert read(tmp_path / "absent").n_problems == 2
    path = write_samples(tmp_path, "t", [])
    path.write_bytes(b"")
    (problem,) = read(tmp_path, model="a/b").problems.rows(named=True)
    assert "empty" in problem["reason"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("samples_t.jsonl", "expected a name like"),
        ("samples_t_2025-13-45T00-00-00.jsonl", "no date and time"),
        ("samples_a\nb_2025-03-04T05-06-07.jsonl", "printable"),
    ],
)
def test_names_of_files(tmp_path: Path, name: str, reason: str) -> None:
    write_samples(tmp_path, "t", [rated(0, 1.0)])
    (tmp_path / name).write_text(json.dumps(rated(0, 1.0)))
    (problem,) = read(tmp_path, model="a/b").problems.rows(named=True)
    assert reason in problem["reason"]
    assert problem["file"].isprintable()


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('{\n"results": {},\n oops', 3, "not valid JSON"),
        ("[]", None, "expected the results"),
        ('{"results": []}', None, "expected the results"),
        ("\xff", 1, "not valid JSON"),
        ('{"results": {"a": ' + "[" * 90 + "]" * 90 + "}}", None, "nested too deeply"),
    ],
)
def test_broken_results(tmp_path: Path, content: str, line: int | None, reason: str) -> None:
    write_samples(tmp_path / "org__m", "t", [rated(0, 1.0)])
    name = f"results_{STAMP}.json"
    (tmp_path / "org__m" / name).write_text(content, encoding="utf-8")
    result = read(tmp_path)
    assert result.bundle is None
    (problem,) = result.problems.rows(named=True)
    assert (problem["file"], problem["line"]) == (f"org__m/{name}", line)
    assert reason in problem["reason"]
    kept = read(tmp_path, skip_bad=True).bundle
    assert kept is not None
    assert kept.models.item(0, "model_id") == "org/m"


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write_samples(tmp_path / "outside", "t", [rated(0, 1.0)])
    write_samples(tmp_path / "in", "u", [rated(0, 1.0)])
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    bundle = bundle_of(read(tmp_path / "in", model="a/b"))
    assert bundle.tasks.get_column("task").to_list() == ["u"]
