"""A real inference server, `transformers serve`, asked by real worker processes over HTTP.

The model is tiny and trained here, so that what each query ends as is known: a copied number, an
answer that ends before it began, one that goes on for ever.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import httpx
import polars as pl
import pytest
from tiny import write_model

from locus.evaluation.launch import EvaluationFailedError, evaluate
from locus.evaluation.request import EvaluationRequest, Patience
from warehouse.contracts import ScoreFrame, validated

pytest.importorskip(
    "openai", reason="transformers serve needs: pip install 'transformers[serving]'"
)

pytestmark = pytest.mark.slow

BACKENDS = {"local-completions": "completions", "local-chat-completions": "chat/completions"}
TEMPLATE = "{% for m in messages %}Q: {{ m['content'] }} A:{% endfor %}"
# Queries of each kind, by the number to copy.
COPIED, SILENT, ENDLESS = range(20), range(20, 30), range(30, 40)
Answered = Callable[[str], tuple[EvaluationRequest, pl.DataFrame]]


def kind_of(number: int) -> str:
    """What a query ends as."""
    return "ok" if number in COPIED else "empty" if number in SILENT else "truncated"


def answer_of(number: int) -> str:
    """What the model has learned to say; `tiny_copy` ends an answer at a new line or 4 tokens."""
    return {"ok": f"{number}\n", "empty": "", "truncated": "abcdefgh"}[kind_of(number)]


def write_chat_model(folder: Path) -> Path:
    """A GPT-2 of one layer that has learned the answers, asked with and without a template."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    write_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = GPT2Config.from_pretrained(folder)
    config.n_embd, config.n_head = 64, 4
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).train()
    rows = [
        (tokenizer.encode(form % f"Copy the number {i} ->"), tokenizer.encode(answer_of(i)))
        for i in range(40)
        for form in ("%s", "Q: %s A:")
    ]
    longest = max(len(asked) + len(said) + 1 for asked, said in rows)
    tokens_BT = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels_BT = torch.full_like(tokens_BT, -100)
    for row, (asked, said) in enumerate(rows):
        whole = [*asked, *said, tokenizer.eos_token_id]
        tokens_BT[row, : len(whole)] = torch.tensor(whole)
        labels_BT[row, len(asked) : len(whole)] = tokens_BT[row, len(asked) : len(whole)]
    optimizer = torch.optim.Adam(model.parameters(), 6e-3)
    for _ in range(1000):
        loss = model(input_ids=tokens_BT, labels=labels_BT).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    assert loss < 0.01, f"the model has not learned its answers: loss {loss:.3f}"
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Server:
    """A running server."""

    model: Path
    root: str
    log_path: Path

    def log(self) -> str:
        """What it said last."""
        return self.log_path.read_text(errors="replace")[-4000:]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    model = write_chat_model(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = Server(model, f"http://127.0.0.1:{port}", folder / "server.log")
    command = [Path(sys.executable).parent / "transformers", "serve", model]
    options = ["--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with (
        running.log_path.open("wb") as log,
        subprocess.Popen(
            [*map(str, command), *options],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        ) as process,
    ):
        try:
            wait_for(running, process)
            yield running
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(server: Server, process: "subprocess.Popen[bytes]") -> None:
    """Wait until it answers."""
    for _ in range(600):
        assert process.poll() is None, f"the server ended: {server.log()}"
        try:
            assert httpx.get(f"{server.root}/health", timeout=5).status_code == 200
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"the server doesn't answer: {server.log()}")


@pytest.fixture(scope="module")
def numbers(bank: pl.DataFrame) -> dict[str, int]:
    """The number to copy, by query."""
    rows = bank.filter(task="tiny_copy").select("query_id", "target")
    return {str(query): int(target) for query, target in rows.iter_rows()}


def request_to(
    server: Server, backend: str, numbers: dict[str, int], parts: Path, task_folder: Path
) -> EvaluationRequest:
    """Twelve queries, four of each kind."""
    sample = [q for q, n in numbers.items() if n in (*range(0, 20, 5), *range(20, 40, 3)[::2])]
    sample += [q for q, n in numbers.items() if n in (24, 28, 34, 36)]
    return EvaluationRequest(
        run_id="run-1",
        model_id="org/served",
        revision="unversioned",
        backend=backend,
        args={"model": str(server.model), "base_url": f"{server.root}/v1/{BACKENDS[backend]}"},
        queries={"tiny_copy": sorted(sample)},
        parts=str(parts),
        task_folders=[str(task_folder)],
        chunk_size=5,
        patience=Patience(timeout_s=60, attempts=3, wait_s=0.1),
    )


def answers(request: EvaluationRequest, work: Path, server: Server) -> pl.DataFrame:
    """All rows of a real worker, by query, as the warehouse's contract wants them."""
    try:
        parts = evaluate(request, work, 240, threads=1)
    except EvaluationFailedError as failure:
        raise AssertionError(f"{failure}\nworker: {failure.log_path.read_text()[-4000:]}\n"
                             f"server: {server.log()}") from failure  # fmt: skip
    rows = validated(ScoreFrame, pl.concat([pl.read_parquet(part) for part in parts]))
    return rows.sort("query_id")


@pytest.fixture(scope="module")
def answered(
    server: Server,
    numbers: dict[str, int],
    task_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Answered:
    """A backend's request and what became of it, which is asked once for all tests."""

    @cache
    def of(backend: str) -> tuple[EvaluationRequest, pl.DataFrame]:
        folder = tmp_path_factory.mktemp("answered")
        request = request_to(server, backend, numbers, folder / "parts", task_folder)
        return request, answers(request, folder / "work", server)

    return of


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_query_ends_as_what_it_is(
    backend: str, server: Server, numbers: dict[str, int], answered: Answered, tmp_path: Path
) -> None:
    request, rows = answered(backend)
    assert rows["query_id"].to_list() == request.queries["tiny_copy"]
    asked = [numbers[query] for query in rows["query_id"]]
    assert rows["status"].to_list() == [kind_of(n) for n in asked], server.log()
    assert set(rows["status"]) == {"ok", "empty", "truncated"}
    # Tokens are characters here, and the server counts the end of an answer too.
    more = len("Q:  A:") if "chat" in backend else 0
    assert rows["tokens_in"].to_list() == [len(f"Copy the number {n} ->") + more for n in asked]
    assert rows["tokens_out"].to_list() == [min(4, len(answer_of(n)) or 1) for n in asked]
    assert rows["latency_ms"].min() > 0  # type: ignore[operator]
    # Everything again, by a run of its own: the same answers.
    other = replace(request, run_id="run-2", parts=str(tmp_path / "other"))
    again = answers(other, tmp_path / "work", server)
    same = ["query_id", "status", "score", "response", "tokens_in", "tokens_out"]
    assert again.select(same).equals(rows.select(same))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stop_string_that_the_server_leaves_in_is_no_part_of_the_answer(
    backend: str, numbers: dict[str, int], answered: Answered
) -> None:
    """OpenAI cuts an answer before the stop string, transformers after it; lm-eval trusts both."""
    request, rows = answered(backend)
    copied = [query for query in request.queries["tiny_copy"] if numbers[query] in COPIED]
    ours = rows.filter(pl.col("query_id").is_in(copied))
    assert ours["response"].to_list() == [str(numbers[query]) for query in ours["query_id"]]
    assert ours["score"].to_list() == [1.0] * len(copied)


def test_the_same_model_loaded_here_gives_the_same_scores(
    server: Server, answered: Answered, tmp_path: Path
) -> None:
    served, rows = answered("local-completions")
    loaded = replace(served, backend="hf", args={"pretrained": str(server.model)}, device="cpu")
    loaded = replace(loaded, parts=str(tmp_path / "loaded"))
    by_http = rows.filter(pl.col("status") == "ok")
    here = answers(loaded, tmp_path / "work", server)
    both = by_http.join(here, on="query_id", suffix="_here")
    assert both.height == by_http.height > 0
    for column in ("score", "response", "prompt_hash", "doc_hash", "tokens_in"):
        assert both[column].to_list() == both[f"{column}_here"].to_list()


def test_a_model_that_the_server_doesn_t_have_is_a_clear_failure(
    server: Server, numbers: dict[str, int], task_folder: Path, tmp_path: Path
) -> None:
    """This server says 400 for it, where others say 404."""
    request = request_to(server, "local-completions", numbers, tmp_path / "parts", task_folder)
    wrong = replace(request, args={**request.args, "model": "org/other"}, chunk_size=12)
    with pytest.raises(EvaluationFailedError, match="pinned to") as failure:
        evaluate(wrong, tmp_path / "work", 240, threads=1)
    assert "requested 'org/other'" in failure.value.reason
    assert "0 of 12" in failure.value.reason
