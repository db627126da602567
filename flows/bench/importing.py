"""Imports: logs of lm-evaluation-harness and a score matrix, from files to the warehouse.

The logs are made up in the harness' own format and in the sizes that real ones have: a
multiple-choice task whose prompts hold five examples, and a generation task with two filters. What
they are held against is parsing the same files and keeping nothing.
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import numpy as np
import orjson
import polars as pl

from flows.bench.rows import Row, Say, Side, Size, in_turns, timed
from locus.imports.lm_eval_logs import read_lm_eval
from tasks.importing import Kind, import_folder
from tasks.settings import Settings
from warehouse.store import Warehouse

_STAMP = "2026-01-02T03-04-05.678901"
_TEXT = (
    "the of a to in is that for it as with on by at from which when where river city number train "
    "energy cell water market price law court acid base field force mass light speed answer reason "
    "because therefore however between above below first second third north south old new large"
)


def rows(size: Size, folder: Path, say: Say) -> Iterator[Row]:
    """Logs, then a matrix."""
    quick = size is Size.QUICK
    repeats = 1 if quick else 3
    yield from _logs(1_000 if quick else 20_000, folder, repeats, say)
    yield from _matrix(300_000 if quick else 3_000_000, folder, repeats, say)


def _logs(n: int, folder: Path, repeats: int, say: Say) -> Iterator[Row]:
    say(f"writing logs of {n} documents")
    files = write_logs(folder / "logs", n)
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    say(f"importing {size_mb:.0f} MB of logs")
    fresh = count()
    read, peer = in_turns(lambda: _read(folder / "logs"), lambda: _parse(files), repeats)
    whole = [timed(lambda: _import(folder, "lm-eval", "logs", next(fresh))) for _ in range(repeats)]
    parsed = Side("orjson, nothing kept", peer, n, "documents")
    notes = {
        "MB": round(size_mb, 1),
        "bytes a record": round(size_mb * 1e6 / (1.5 * n)),
        "MB/s of the peer": round(size_mb / parsed.median_s),
    }
    yield Row(
        f"read lm-eval logs of {n:,} documents into frames",
        Side("locus.imports", read, n, "documents"),
        parsed,
        "half as fast as parsing alone",
        notes,
    )
    yield Row(
        f"import lm-eval logs of {n:,} documents, warehouse and all",
        Side("import_folder", tuple(whole), n, "documents"),
        parsed,
        "half as fast as parsing alone",
        notes,
    )


def _matrix(n: int, folder: Path, repeats: int, say: Say) -> Iterator[Row]:
    n_queries = 1_000
    say(f"writing and importing a matrix of {n} scores")
    write_matrix(folder / "matrix", n // n_queries, n_queries)
    fresh = count()
    path = folder / "matrix" / "scores.parquet"
    ours, peer = in_turns(
        lambda: _import(folder, "matrix", "matrix", next(fresh)),
        lambda: _plain(path, folder / "plain.duckdb"),
        repeats,
    )
    yield Row(
        f"import a matrix of {n:,} scores, warehouse and all",
        Side("import_folder", ours, n, "scores"),
        Side("DuckDB, one INSERT of its scores", peer, n, "scores"),
        "300,000 scores a second",
    )


def new_home(folder: Path, name: str) -> Settings:
    """A home with an empty warehouse."""
    settings = Settings(home=folder / name)
    settings.home.mkdir(parents=True)
    with Warehouse.open(settings.warehouse):
        pass
    return settings


def _import(folder: Path, kind: Kind, source: str, number: int) -> None:
    settings = new_home(folder, f"home-{source}-{number}")
    import_folder(settings, kind, folder / source)
    settings.warehouse.unlink()


def _read(logs: Path) -> None:
    result = read_lm_eval(logs, "run")
    if result.bundle is None:
        raise RuntimeError(f"the logs can't be read: {result.problems.rows()[:3]}")


def _parse(files: list[Path]) -> None:
    for path in files:
        with path.open("rb") as stream:
            for line in stream:
                orjson.loads(line)


def _plain(scores: Path, db: Path) -> None:
    db.unlink(missing_ok=True)
    with duckdb.connect(str(db)) as con:
        con.execute("CREATE TABLE score (model_id VARCHAR, query_id VARCHAR, score DOUBLE)")
        con.execute("INSERT INTO score BY NAME FROM read_parquet(?)", [str(scores)])


def write_logs(folder: Path, n: int) -> list[Path]:
    """Two tasks of n / 2 documents each, and the results file of their run."""
    folder.mkdir(parents=True)
    draw = Random(0)  # noqa: S311  no secret
    shots = {
        "rated": "\n\n".join(
            f"Question: {_text(draw, 60)}\nAnswer: {_text(draw, 4)}" for _ in "12345"
        ),
        "written": "\n\n".join(f"Q: {_text(draw, 45)}\nA: {_text(draw, 50)}" for _ in "12345"),
    }
    makers = {"rated": _rated, "written": _written}
    files = []
    for task, make in makers.items():
        path = folder / f"samples_{task}_{_STAMP}.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            for doc_id in range(n // 2):
                for record in make(doc_id, shots[task], draw):
                    stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        files.append(path)
    results = {
        "results": {task: {} for task in makers},
        "versions": dict.fromkeys(makers, 1),
        "model_name": "org/model",
        "config": {"model": "hf", "model_args": "pretrained=org/model"},
        "date": 1767323045.0,
    }
    (folder / f"results_{_STAMP}.json").write_text(json.dumps(results), encoding="utf-8")
    return files


def _text(draw: Random, n_words: int) -> str:
    return " ".join(draw.choices(_TEXT.split(), k=n_words)).capitalize() + "."


def _rated(doc_id: int, shots: str, draw: Random) -> Iterator[dict[str, Any]]:
    """A multiple-choice question: four requests, each with the whole prompt."""
    question, options = f"{_text(draw, 35)[:-1]} {doc_id}?", [_text(draw, 5) for _ in range(4)]
    prompt = f"{shots}\n\nQuestion: {question}\nAnswer:"
    doc = {"id": f"r{doc_id}", "question": question, "choices": options, "answer": doc_id % 4}
    doc["subject"] = f"subject {doc_id % 20}"
    likelihoods = [[str(round(draw.gauss(-20, 8), 6)), str(draw.random() < 0.2)] for _ in options]
    acc = float(draw.random() < 0.6)
    yield {
        "doc_id": doc_id,
        "doc": doc,
        "target": str(doc_id % 4),
        "arguments": {
            f"gen_args_{i}": {"arg_0": prompt, "arg_1": f" {o}"} for i, o in enumerate(options)
        },
        "resps": [[pair] for pair in likelihoods],
        "filtered_resps": likelihoods,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        **_hashes(doc, prompt, str(doc_id % 4)),
        "acc": acc,
        "acc_norm": acc,
    }


def _written(doc_id: int, shots: str, draw: Random) -> Iterator[dict[str, Any]]:
    """A question that is answered in words, scored by two filters."""
    question = f"{_text(draw, 45)[:-1]} {doc_id}?"
    prompt = f"{shots}\n\nQ: {question}\nA:"
    doc = {"question": question, "answer": f"{_text(draw, 40)} #### {doc_id}"}
    said = f" {_text(draw, 60)} The answer is {doc_id}."
    for name in ("strict-match", "flexible-extract"):
        yield {
            "doc_id": doc_id,
            "doc": doc,
            "target": doc["answer"],
            "arguments": {
                "gen_args_0": {
                    "arg_0": prompt,
                    "arg_1": {"until": ["Q:", "</s>"], "do_sample": False, "temperature": 0.0},
                }
            },
            "resps": [[said]],
            "filtered_resps": [str(doc_id)],
            "filter": name,
            "metrics": ["exact_match"],
            **_hashes(doc, prompt, doc["answer"]),
            "exact_match": float(draw.random() < 0.5),
        }


def _hashes(doc: dict[str, Any], prompt: str, target: str) -> dict[str, str]:
    texts = {"doc_hash": json.dumps(doc), "prompt_hash": prompt, "target_hash": target}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def write_matrix(folder: Path, n_models: int, n_queries: int) -> None:
    """A folder that `locus import matrix` takes, of six benchmarks."""
    folder.mkdir(parents=True)
    models = pl.DataFrame({"model_id": [f"org{i % 40}/model-{i}" for i in range(n_models)]})
    queries = pl.DataFrame(
        {
            "query_id": [f"q{i:06d}" for i in range(n_queries)],
            "benchmark": [f"bench-{i % 6}" for i in range(n_queries)],
            "text": [f"What is {i} plus {3 * i}?" for i in range(n_queries)],
        }
    )
    cells = models.join(queries.select("query_id"), how="cross")
    scores = (np.random.default_rng(0).random(cells.height) < 0.6).astype(float)
    models.write_parquet(folder / "models.parquet")
    queries.write_parquet(folder / "queries.parquet")
    cells.with_columns(score=pl.Series(scores)).write_parquet(folder / "scores.parquet")
