"""A made-up pool with latent structure, and a real headless browser to look at its report."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from locus.report import FRAMES, ReportData, Since
from locus.similarity import (
    clusters,
    dendrogram_order,
    distance_matrix,
    nearest,
    pairs,
    project,
    wilson,
)

FAMILIES = ("llama", "qwen", "mistral", "gemma")
TASKS = ("arithmetic", "biology", "code", "law", "logic", "medicine", "reading", "translation")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]

MakeReport = Callable[..., ReportData]


def build_report(
    n_models: int = 16,
    n_queries: int = 640,
    seed: int = 7,
    ids: list[str] | None = None,
    buckets: tuple[str, ...] = TASKS,
    neighbours: int = 5,
    **changes: object,
) -> ReportData:
    """A pool in which families share skills; scores are drawn from them, the rest is computed."""
    rng = np.random.default_rng(seed)
    family_B = rng.integers(0, len(FAMILIES), n_models)
    params_B = np.exp(rng.uniform(np.log(0.5), np.log(120), n_models)).round(1)
    if ids is None:
        ids = [
            f"{FAMILIES[f]}-lab/{FAMILIES[f]}-{2 + i % 3}.{i % 5}-{p:g}B-instruct"
            if n_models <= 100
            else f"{FAMILIES[f]}-lab/{FAMILIES[f]}-{p:g}b-v{i}"
            for i, (f, p) in enumerate(zip(family_B, params_B, strict=True))
        ]
    skill_FT = rng.normal(0, 1.6, (len(FAMILIES), len(buckets)))
    skill_BT = (
        skill_FT[family_B]
        + 0.45 * np.log(params_B)[:, None]
        + rng.normal(0, 0.3, (n_models, len(buckets)))
        - 0.6
    )
    task_N = rng.integers(0, len(buckets), n_queries)
    hard_N = rng.normal(0, 1.0, n_queries)
    chance_BN = 1 / (1 + np.exp(hard_N - skill_BT[:, task_N]))
    right_BN = rng.random((n_models, n_queries)) < chance_BN
    asked_BN = rng.random((n_models, n_queries)) < rng.uniform(0.2, 0.95, (n_models, 1))
    row, column = np.nonzero(asked_BN)
    names = pl.Series(ids)
    scores = pl.DataFrame(
        {
            "model_id": names.gather(row),
            "query_id": pl.Series(column).cast(pl.String),
            "task": pl.Series(buckets).gather(task_N[column]),
            "score": right_BN[row, column].astype(float),
        }
    )
    order = sorted(range(n_models), key=lambda i: ids[i])
    z_Bd = np.concatenate([skill_BT, rng.normal(0, 0.1, (n_models, 8))], axis=1)
    few = n_models <= 300
    frame = pairs(ids, z_Bd, scores)
    sorted_ids = [ids[i] for i in order]
    if few:
        labels = clusters(dendrogram_order(distance_matrix(frame, sorted_ids)).linkage, 5)
        cluster = dict(zip(sorted_ids, labels.tolist(), strict=True))
    else:
        cluster = dict(zip(ids, family_B.tolist(), strict=True))
    flat = project(z_Bd)
    own = scores.group_by("model_id").agg(n_scores=pl.len(), accuracy=pl.col("score").mean())
    models = pl.DataFrame(
        {
            "model_id": ids,
            "org": [name.split("/")[0] for name in ids],
            "family": [FAMILIES[f] for f in family_B],
            "params_b": params_B,
            "x": flat[:, 0],
            "y": flat[:, 1],
            "cluster": [cluster[name] for name in ids],
        }
    ).join(own, on="model_id", how="left", maintain_order="left")
    tasks = scores.group_by("model_id", "task").agg(n=pl.len(), hits=pl.col("score").sum())
    low, high = wilson(tasks["hits"], tasks["n"])
    tasks = tasks.with_columns(low, high, accuracy=pl.col("hits") / pl.col("n"))
    routing = (
        tasks.rename({"task": "bucket", "n": "n_observed", "accuracy": "observed_accuracy"})
        .with_columns(
            p_correct=(pl.col("hits") + 3) / (pl.col("n_observed") + 6), lower_bound=pl.col("low")
        )
        .with_columns(rank=pl.col("p_correct").rank("ordinal", descending=True).over("bucket"))
        .sort("bucket", "rank")
    )
    values: dict[str, object] = {
        "title": "A map of language models",
        "snapshot_id": "20260303T021400Z-5f1c9a",
        "created_at": datetime(2026, 3, 3, 2, 14, tzinfo=UTC),
        "n_queries": n_queries,
        "models": models,
        "pairs": frame,
        "neighbours": nearest(frame, neighbours),
        "buckets": _buckets(buckets, routing),
        "routing": routing,
        "task_accuracy": tasks,
        "facts": _facts(ids, rng),
        "routing_quality": {
            "locus": {"hit@1": 0.712, "low": 0.686, "high": 0.737, "n": 1204},
            "best_single": {"hit@1": 0.66, "low": 0.632, "high": 0.686, "n": 1204},
            "random": {"hit@1": 0.412, "low": 0.384, "high": 0.44, "n": 1204},
            "oracle": {"hit@1": 0.931, "low": 0.915, "high": 0.944, "n": 1204},
        },
        "new_models": ids[:2],
        "since": _since(ids, routing),
        "lineage": {
            "Checkpoint": "b2f3c1d09a7e",
            "Encoder": "all-MiniLM-L6-v2",
            "Parent snapshot": "20260302T021200Z-91be04",
        },
        "limits": [
            "Queries are multiple choice; nothing is said about long answers or tool use.",
            "Models were asked different queries, so accuracies over all are not a ranking.",
        ],
    }
    return ReportData(**(values | changes))  # type: ignore[arg-type]


def _buckets(buckets: tuple[str, ...], routing: pl.DataFrame) -> pl.DataFrame:
    """The first half are tasks, the rest topics with words; a cheap model stands fourth."""
    tasks = len(buckets) // 2
    cheap = dict(routing.filter(rank=4).select("bucket", "model_id").iter_rows())
    return pl.DataFrame(
        [
            (name, "task", None, cheap.get(name))
            if at < tasks
            else (name, "topic", f"{name}, words", None)
            for at, name in enumerate(buckets)
        ],
        schema=FRAMES["buckets"],
        orient="row",
    )


def _facts(ids: list[str], rng: np.random.Generator) -> pl.DataFrame:
    """Every other model has a price; all were measured."""
    n = len(ids)
    price = pl.when(pl.int_range(n) % 2 == 0).then(pl.col("price_in_usd_per_mtok"))
    return pl.DataFrame(
        {
            "model_id": ids,
            "revision": [rng.bytes(20).hex() for _ in ids],
            "price_in_usd_per_mtok": rng.lognormal(0, 1, n),
            "price_out_usd_per_mtok": None,
            "cost_usd": rng.lognormal(-7, 1, n),
            "latency_ms": rng.lognormal(6.5, 1, n),
            "uncertainty": rng.uniform(0.01, 0.1, n),
        },
        schema=FRAMES["facts"],
    ).with_columns(price_in_usd_per_mtok=price)


def _since(ids: list[str], routing: pl.DataFrame) -> Since:
    """Two are new, one is gone, some moved, some of them further than doubt explains."""
    old = ids[2:]
    first = routing.filter(rank=1)
    n = len(old)
    return Since(
        snapshot="20260302T021200Z-91be04",
        same_map=True,
        added=ids[:2],
        gone=["gone-lab/gone-1B"],
        revised=old[:5],
        moved=pl.DataFrame(
            {
                "model_id": old,
                "moved": [0.4 / (1 + i) for i in range(n)],
                "n_scores_old": [100] * n,
                "n_scores_new": [100 + 10 * (i % 4) for i in range(n)],
                "doubt_old": [None if i == 3 else 0.08 for i in range(n)],
                "doubt_new": [0.06] * n,
            }
        ),
        flips=first.head(3).select(
            "bucket",
            old_best=pl.lit("gone-lab/gone-1B"),
            new_best="model_id",
            p_old="p_correct",
            p_new="p_correct",
        ),
        ranks=pl.DataFrame(
            {
                "model_id": old,
                "rank_old": range(1, n + 1),
                "rank_new": [n, *range(2, n), 1],
                "p_old": [0.5] * n,
                "p_new": [0.6] * n,
            }
        ),
        quality={"locus": (0.7, 0.712), "best_single": (0.671, 0.66)},
    )


@pytest.fixture(scope="session")
def make_report() -> MakeReport:
    return build_report


@pytest.fixture(scope="session")
def report_data(make_report: MakeReport) -> ReportData:
    return make_report()


def browser_path() -> str | None:
    if given := os.environ.get("LOCUS_CHROMIUM"):
        return given
    if Path("/usr/bin/chromium").exists():
        return "/usr/bin/chromium"
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return None


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Headless Chromium; where there is none, skipped on a desk and a failure in CI."""
    path = browser_path()
    if path is None:
        reason = "no Chromium found: install it, or set LOCUS_CHROMIUM to its path"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()
