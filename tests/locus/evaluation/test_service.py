"""Services over HTTP, with real lm-eval and a real server: no fault is ever a wrong answer."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
from openai_server import MODEL, OpenAIServer, answer_to, logprob_of, serving

from locus.evaluation import worker
from locus.evaluation.harness import HarnessError
from locus.evaluation.launch import EvaluationFailedError, evaluate, worker_environment
from locus.evaluation.request import EvaluationRequest, Patience, Rate
from locus.evaluation.service_answer import TryAgainError, raise_for
from locus.frames import SCORES
from locus.prices import Price
from warehouse.contracts import ScoreFrame, validated

pytest.importorskip("tenacity", reason="lm-eval's services need: pip install 'lm-eval[api]'")

BACKENDS = ["local-completions", "local-chat-completions", "openai-chat-completions"]
QUICK = Patience(timeout_s=1.0, attempts=3, wait_s=0.01, longest_wait_s=2.0, stop_after=4)
MARKER = "marker-key-0123456789"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving() as running:
        yield running


@pytest.fixture
def request_(
    tmp_path: Path,
    server: OpenAIServer,
    task_folder: Path,
    bank: pl.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> EvaluationRequest:
    monkeypatch.setenv("OPENAI_API_KEY", MARKER)
    ids = bank.filter(task="tiny_copy").head(6)["query_id"].to_list()
    return EvaluationRequest(
        run_id="run-1",
        model_id="org/served",
        revision="unversioned",
        backend="local-chat-completions",
        args=arguments(server, "local-chat-completions"),
        queries={"tiny_copy": ids},
        parts=str(tmp_path / "parts"),
        task_folders=[str(task_folder)],
        prices=(Price(1.0, 2.0),),
        patience=QUICK,
    )


def arguments(server: OpenAIServer, backend: str, **more: Any) -> dict[str, Any]:
    end = "chat/completions" if "chat" in backend else "completions"
    return {"model": MODEL, "base_url": f"{server.root}/{end}", **more}


def run(request: EvaluationRequest) -> pl.DataFrame:
    """The rows of all parts after the worker's own run, by prompt number, as the contract wants."""
    worker.run(request, io.StringIO())
    return rows_of(request)


def rows_of(request: EvaluationRequest) -> pl.DataFrame:
    files = sorted(Path(request.parts).glob("*.parquet"))
    frame = pl.concat([pl.read_parquet(f) for f in files]) if files else pl.DataFrame(schema=SCORES)
    return validated(ScoreFrame, frame)


def statuses(rows: pl.DataFrame, bank: pl.DataFrame) -> dict[str, str]:
    """Status by prompt."""
    return dict(rows.join(bank, on="query_id").select("text", "status").iter_rows())


@pytest.mark.parametrize("backend", BACKENDS)
def test_answers_are_scored_and_counted(
    backend: str, request_: EvaluationRequest, server: OpenAIServer, bank: pl.DataFrame
) -> None:
    rows = run(replace(request_, backend=backend, args=arguments(server, backend)))
    joined = rows.join(bank, on="query_id")
    assert rows.height == 6
    assert set(rows["status"]) == {"ok"}
    assert joined["response"].to_list() == [answer_to(t) for t in joined["text"]]
    assert joined["score"].to_list() == [1.0] * 6
    # Tokens are the service's own count, and the price follows from them.
    assert joined["tokens_in"].to_list() == [len(t) for t in joined["text"]]
    assert set(rows["tokens_out"]) == {3}
    assert rows["cost_usd"].to_list() == [(n + 6) / 1e6 for n in rows["tokens_in"]]
    assert sorted(server.prompts()) == sorted(joined["text"])
    sent = {key for _, _, key in server.asked}
    assert sent == ({f"Bearer {MARKER}"} if backend.startswith("openai") else {None})


def test_multiple_choice_by_completions(
    request_: EvaluationRequest, server: OpenAIServer, tiny_model: Path, bank: pl.DataFrame
) -> None:
    from transformers import AutoTokenizer

    few = bank.filter(task="tiny_choice").head(3)
    rows = run(
        replace(
            request_,
            backend="local-completions",
            args=arguments(server, "local-completions", tokenizer=str(tiny_model)),
            queries={"tiny_choice": few["query_id"].to_list()},
        )
    )
    encode = AutoTokenizer.from_pretrained(tiny_model).encode
    for row in rows.join(few, on="query_id").iter_rows(named=True):
        expected = [sum(map(logprob_of, encode(f" {choice}"))) for choice in row["choices"]]
        likelihoods = [float(r[0][0]) for r in json.loads(row["response"])]
        assert likelihoods == pytest.approx(expected)
        best = row["choices"][expected.index(max(expected))]
        assert (row["status"], row["score"]) == ("ok", float(best == row["target"]))
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("kind", "more", "n_asked"),
    [
        ("no-logprobs", {}, 4),
        # One probability fewer than tokens: lm-eval alone would sum what is there.
        ("short-logprobs", {}, 4),
        ("huge-logprobs", {}, 12),
        (None, {"max_length": 10}, 0),
    ],
)
def test_log_likelihoods_of_something_else_are_errors(
    kind: str | None,
    more: dict[str, Any],
    n_asked: int,
    request_: EvaluationRequest,
    server: OpenAIServer,
    tiny_model: Path,
    bank: pl.DataFrame,
) -> None:
    if kind:
        server.fail(kind)
    args = arguments(server, "local-completions", tokenizer=str(tiny_model), **more)
    queries = {"tiny_choice": bank.filter(task="tiny_choice").head(2)["query_id"].to_list()}
    request = replace(request_, backend="local-completions", args=args, queries=queries)
    rows = run(replace(request, patience=replace(QUICK, stop_after=9)))
    assert rows["status"].to_list() == ["error"] * 2
    assert len(server.asked) == n_asked


# (fault, status, attempts, what the log says: the reason and the next step)
FAULTS_OF_ONE_QUERY = [
    ("429", "error", 3, r"HTTP 429: .*lower args\.num_concurrent .*\(3 attempts\)"),
    ("503", "error", 3, r"HTTP 503: .*lower args\.num_concurrent .*\(3 attempts\)"),
    ("500", "error", 3, r"HTTP 500: .*a fault of the service.* \(3 attempts\)"),
    ("malformed", "error", 3, r"not JSON: <html>.*args\.base_url \(3 attempts\)"),
    ("deep", "error", 3, r"not JSON: \[\[.*args\.base_url \(3 attempts\)"),
    ("list", "error", 3, r"no JSON object: .*args\.base_url"),
    ("cut", "error", 3, r"the connection failed: .*check that the service runs"),
    ("no-choices", "error", 3, r"not exactly one choice; .*args\.base_url"),
    ("400", "error", 1, r"HTTP 400: .*; see what it says of this query"),
    ("hang", "error", 1, r"no whole answer within 1 s; .*raise args\.timeout"),
    ("hang-body", "error", 1, r"no whole answer within 1 s; .*raise args\.timeout"),
    ("number", "error", 3, r"no text where one belongs; .*args\.base_url"),
    ("400-filter", "refused", 1, r"HTTP 400: .*fault 400-filter.*its filter refuses the query"),
    ("filter", "refused", 1, r"filter or model refused; see the response"),
    ("null", "empty", 1, r"the answer is empty; .*raise max_gen_toks"),
    ("empty", "empty", 1, r"the answer is empty; .*raise max_gen_toks"),
    ("length", "truncated", 1, r"cut at the token limit; raise max_gen_toks"),
]


@pytest.mark.parametrize(
    ("kind", "status", "n_asked", "said"),
    FAULTS_OF_ONE_QUERY,
    ids=[f[0] for f in FAULTS_OF_ONE_QUERY],
)
@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_a_fault_of_one_query_is_its_status_and_the_others_are_kept(
    backend: str,
    kind: str,
    status: str,
    n_asked: int,
    said: str,
    request_: EvaluationRequest,
    server: OpenAIServer,
    bank: pl.DataFrame,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.fail(kind, prompt="number 3 ")
    rows = run(replace(request_, backend=backend, args=arguments(server, backend)))
    found = statuses(rows, bank)
    assert found.pop("Copy the number 3 ->") == status
    assert len(found) == 5
    assert set(found.values()) == {"ok"}
    bad = rows.filter(pl.col("status") != "ok").row(0, named=True)
    assert (bad["score"], bad["metrics"]) == (None, None)
    # What the worker's log will say: the query, its status, why, and what to do.
    (line,) = (w for w in capsys.readouterr().err.splitlines() if w.startswith("query "))
    assert re.match(rf"query {bad['query_id']}: {status}: .*{said}", line)
    assert server.prompts().count("Copy the number 3 ->") == n_asked


def test_an_endless_answer_is_not_read_to_its_end(
    request_: EvaluationRequest,
    server: OpenAIServer,
    bank: pl.DataFrame,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.fail("endless", prompt="number 3 ")
    rows = run(replace(request_, patience=replace(QUICK, timeout_s=60.0)))
    assert statuses(rows, bank).pop("Copy the number 3 ->") == "error"
    assert rows["status"].to_list().count("ok") == 5
    assert server.prompts().count("Copy the number 3 ->") == 1
    assert "error: the answer is larger than 16 MiB; check" in capsys.readouterr().err


def test_half_a_character_is_no_reason_to_lose_an_answer(
    request_: EvaluationRequest, server: OpenAIServer, bank: pl.DataFrame
) -> None:
    """Tokens can end within a character; no file holds the half, and the other answers count."""
    server.fail("half-character", prompt="number 3 ")
    rows = run(request_).join(bank, on="query_id")
    assert set(rows["status"]) == {"ok"}
    answers = dict(rows.select("text", "response").iter_rows())
    assert answers["Copy the number 3 ->"] == "3\N{REPLACEMENT CHARACTER}"
    assert rows["score"].to_list().count(1.0) == 5


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("429", "HTTP 429: .*lower args.num_concurrent"),
        ("500", "HTTP 500: "),
        ("hang", "no whole answer within 0.3 s; .*raise args.timeout"),
        ("hang-body", "no whole answer within 0.3 s; .*raise args.timeout"),
        ("malformed", "not JSON: .*check what answers at args.base_url"),
        ("cut", "the connection failed: .*check that the service runs"),
    ],
)
def test_a_fault_of_every_query_ends_the_run_with_model_reason_and_next_step(
    kind: str, said: str, request_: EvaluationRequest, server: OpenAIServer
) -> None:
    server.fail(kind)
    patience = replace(QUICK, timeout_s=0.3, attempts=2, stop_after=2)
    with pytest.raises(HarnessError, match=f"^2 requests in a row failed, the last: .*{said}") as e:
        run(replace(request_, patience=patience, args={**request_.args, "num_concurrent": 2}))
    assert "0 of 6 queries of 'org/served' are done and kept, the next run" in str(e.value)
    # Nobody is asked any more once it is clear.
    assert len({*server.prompts()}) <= 4


def test_a_rate_limit_holds_from_chunk_to_chunk(
    request_: EvaluationRequest, server: OpenAIServer
) -> None:
    """Two requests a second at most, wherever a chunk ends, the one that is sent again counted."""
    server.fail("500", times=1)
    rows = run(replace(request_, chunk_size=2, rate=Rate(requests_per_minute=120)))
    assert rows["status"].to_list() == ["ok"] * 6
    assert len(server.came) == 7
    for i, first in enumerate(server.came):
        for n, last in enumerate(server.came[i:], start=1):
            assert n <= 1 + 2 * (last - first + 0.25)


@pytest.mark.parametrize("kind", ["429", "503", "500", "malformed", "cut"])
def test_what_passes_is_no_fault(
    kind: str, request_: EvaluationRequest, server: OpenAIServer
) -> None:
    server.fail(kind, times=1, retry_after="0" if kind == "429" else None)
    rows = run(request_)
    assert set(rows["status"]) == {"ok"}
    assert len(server.asked) == 7


def test_failed_queries_are_asked_again_by_the_next_run_and_answers_are_not(
    request_: EvaluationRequest, server: OpenAIServer, bank: pl.DataFrame
) -> None:
    server.fail("500", prompt="number 3 ")
    first = run(request_)
    failed = first.filter(status="error")["query_id"].to_list()
    server.heal()
    server.asked.clear()
    # As the plan does: what has an answer is not planned again.
    second = replace(request_, run_id="run-2", queries={"tiny_copy": failed})
    assert statuses(run(second).filter(status="ok"), bank).keys() == set(
        bank.filter(task="tiny_copy").head(6)["text"]
    )
    assert server.prompts() == ["Copy the number 3 ->"]
    run(replace(second, run_id="run-3"))
    assert len(server.asked) == 1


def test_a_chunk_that_only_failed_is_asked_again(
    request_: EvaluationRequest, server: OpenAIServer
) -> None:
    """The same queries in the same chunk: the part that tells of failures must not stand in."""
    one = replace(request_, queries={"tiny_copy": request_.queries["tiny_copy"][:1]})
    server.fail("500")
    assert run(one)["status"].to_list() == ["error"]
    server.heal()
    assert sorted(run(replace(one, run_id="run-2"))["status"]) == ["error", "ok"]


def test_a_service_that_is_down_is_given_up_and_what_was_done_is_kept(
    request_: EvaluationRequest, server: OpenAIServer
) -> None:
    request = replace(
        request_, chunk_size=2, args={**request_.args, "num_concurrent": 1},
        patience=replace(QUICK, attempts=2, stop_after=2),
    )  # fmt: skip
    run(replace(request, queries={"tiny_copy": sorted(request.queries["tiny_copy"])[:2]}))
    server.asked.clear()
    server.fail("500")
    with pytest.raises(HarnessError) as failure:
        run(request)
    for said in (
        "2 requests in a row failed",
        "HTTP 500",
        "2 of 6 queries",
        "'org/served'",
        "next",
    ):
        assert said in str(failure.value)
    assert len(server.asked) == 4  # two queries, two attempts each; the last chunk is not asked
    # That the service was down says nothing of the two queries that found it so.
    assert rows_of(request)["status"].to_list() == ["ok"] * 2
    server.heal()
    assert run(replace(request, run_id="run-2")).filter(status="ok")["query_id"].n_unique() == 6


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("401", "refuses the key"),
        ("429-spent", "can't pay"),
        ("redirect", "no such model or address"),
    ],
)
def test_what_can_t_succeed_stops_at_once(
    kind: str, said: str, request_: EvaluationRequest, server: OpenAIServer
) -> None:
    server.fail(kind)
    request = replace(request_, args={**request_.args, "num_concurrent": 1})
    with pytest.raises(HarnessError, match=said) as failure:
        run(request)
    assert "0 of 6 queries of 'org/served' are done" in str(failure.value)
    assert len(server.asked) == 1
    assert rows_of(request).height == 0


def test_a_wrong_model_or_address_stops_at_once(
    request_: EvaluationRequest, server: OpenAIServer
) -> None:
    for wrong in ({"model": "unknown"}, {"base_url": f"{server.root}/x/chat/completions"}):
        server.asked.clear()
        request = replace(request_, args={**request_.args, **wrong, "num_concurrent": 1})
        with pytest.raises(HarnessError, match=r"args\.model and args\.base_url"):
            run(request)
        assert len(server.asked) == 1


def test_nobody_there(request_: EvaluationRequest) -> None:
    gone = {**request_.args, "base_url": "http://127.0.0.1:9/v1/chat/completions"}
    with pytest.raises(HarnessError, match="the connection failed"):
        run(replace(request_, args=gone))


# Two questions are answered; the third is the end of it.
DIES = """
import os, time
from openai_server import serving
with serving() as server:
    server.due = lambda prompt: os._exit(1) if len(server.asked) > 2 else None
    print(server.root, flush=True)
    time.sleep(60)
"""


def test_a_service_that_dies_and_comes_back_is_asked_what_is_missing(
    request_: EvaluationRequest, bank: pl.DataFrame
) -> None:
    """A process that is gone while it answers: nobody listens any more."""
    tests = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", DIES],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": tests},
    ) as first:
        assert first.stdout is not None
        root = first.stdout.readline().strip()
        args = {**request_.args, "base_url": f"{root}/chat/completions", "num_concurrent": 1}
        request = replace(
            request_, args=args, chunk_size=2, patience=replace(QUICK, attempts=2, stop_after=2)
        )
        with pytest.raises(HarnessError) as failure:
            run(request)
    said = str(failure.value)
    assert "2 requests in a row failed, the last: the connection failed" in said
    assert "check that the service runs" in said
    answered = statuses(rows_of(request), bank)
    assert set(answered.values()) == {"ok"}
    assert len(answered) == 2
    assert "2 of 6 queries of 'org/served' are done and kept" in said
    with serving(port=urlsplit(root).port or 0) as second:
        missing = bank.filter(
            pl.col("query_id").is_in(request.queries["tiny_copy"])
            & ~pl.col("text").is_in(list(answered))
        )
        # As the plan does: what has an answer is not planned again.
        rest = {"tiny_copy": missing["query_id"].to_list()}
        rows = run(replace(request, run_id="run-2", queries=rest))
        assert sorted(second.prompts()) == sorted(missing["text"])
    assert (rows.height, rows["query_id"].n_unique()) == (6, 6)


def test_a_long_retry_after_is_not_waited_for(
    request_: EvaluationRequest,
    server: OpenAIServer,
    bank: pl.DataFrame,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.fail("429", prompt="number 3 ", retry_after="3600")
    assert statuses(run(request_), bank)["Copy the number 3 ->"] == "error"
    assert server.prompts().count("Copy the number 3 ->") == 1
    assert "it asks to wait 3600 s: run later" in capsys.readouterr().err


def test_retry_after_is_a_number_or_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    read = {}
    for value in ("7", later, "soon", "-3"):
        with pytest.raises(TryAgainError) as caught:
            raise_for(429, {"Retry-After": value}, "busy", "{}")
        read[value] = caught.value.after_s
    assert (read["7"], read["soon"], read["-3"]) == (7.0, None, None)
    assert 80 < (read[later] or 0) <= 90


def test_without_usage_tokens_and_cost_are_unknown(
    request_: EvaluationRequest, server: OpenAIServer
) -> None:
    server.fail("no-usage")
    rows = run(request_)
    assert rows.select("tokens_in", "tokens_out", "cost_usd").null_count().row(0) == (6, 6, 6)
    assert set(rows["status"]) == {"ok"}


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_tasks_that_can_t_be_asked_are_named_after_all_others_are_done(
    backend: str, request_: EvaluationRequest, server: OpenAIServer, bank: pl.DataFrame
) -> None:
    choice = bank.filter(task="tiny_choice").head(2)["query_id"].to_list()
    mixed = replace(
        request_,
        backend=backend,
        args=arguments(server, backend),
        queries={**request_.queries, "tiny_choice": choice},
    )
    with pytest.raises(HarnessError, match=r"'tiny_choice'.*done and kept \(6 of 8\)"):
        run(mixed)
    assert rows_of(mixed)["status"].to_list() == ["ok"] * 6


def test_the_key_reaches_the_service_and_no_file(
    request_: EvaluationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real worker process and a server that repeats the key in its errors."""
    monkeypatch.setenv("EXAMPLE_API_KEY", MARKER)
    monkeypatch.setenv("OPENAI_API_KEY", "another-marker")
    with serving(key=MARKER) as server:
        args = arguments(server, request_.backend, api_key_env="EXAMPLE_API_KEY")
        request = replace(request_, args=args)
        server.fail("500", prompt="number 3 ")
        parts = evaluate(request, tmp_path / "work", 120)
        assert sorted(pl.read_parquet(parts[0])["status"]) == ["error", *["ok"] * 5]
        assert "HTTP 500" in (tmp_path / "work" / "worker.log").read_text()
        server.key = "a new key"
        rest = replace(request, run_id="run-2")
        with pytest.raises(EvaluationFailedError, match="refuses the key") as failure:
            evaluate(rest, tmp_path / "work-2", 120)
    assert MARKER not in str(failure.value)
    assert {key for _, _, key in server.asked} == {f"Bearer {MARKER}"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"request.json", "worker.log"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert MARKER.encode() not in content, path
        assert b"another-marker" not in content, path


def test_a_key_that_is_not_set_is_named(
    request_: EvaluationRequest, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    args = arguments(server, "openai-chat-completions")
    with pytest.raises(HarnessError, match="environment variable OPENAI_API_KEY"):
        run(replace(request_, backend="openai-chat-completions", args=args))
    assert server.asked == []


def test_a_worker_gets_the_one_key_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "EXAMPLE_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, f"marker-{name}")
    got = {v for v in worker_environment(key="EXAMPLE_API_KEY").values() if v.startswith("marker")}
    assert got == {"marker-EXAMPLE_API_KEY"}


def test_requests_survive_their_file(request_: EvaluationRequest, tmp_path: Path) -> None:
    request_.write(tmp_path / "request.json")
    assert EvaluationRequest.read(tmp_path / "request.json") == request_
