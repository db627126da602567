"""Synthetic score matrices in which models have skills, and folders that hold them."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.benchmark.data import Models

HEADER = ("prompt_id", "model_id", "category_id", "label", "model_name", "prompt", "category")
THEMES = ("add two numbers", "name the capital of a country", "finish the sentence")


def scores(n_models: int, kind: NDArray[np.int64], seed: int = 0) -> NDArray[np.float32]:
    """0/1 scores [M, Q]: each model has a skill per kind of query, each query a difficulty."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(0.4, 1.5, (n_models, kind.max() + 1))
    logit = skill[:, kind] - rng.normal(0, 1, len(kind))
    return (rng.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.float32)


def models(values: NDArray[np.float32], parts: dict[str, slice], name: str) -> Models:
    ids = tuple(f"{name}{i}/model" for i in range(len(values)))
    params = np.where(np.arange(len(values)) % 4, 7.0, np.nan)
    return Models(ids, {n: values[:, part] for n, part in parts.items()}, params)


@dataclass(frozen=True)
class Folder:
    """Writes a folder in the matrix schema: 29 models without a split, 320 queries."""

    path: Path
    n_models: int = 29

    def write(
        self,
        change: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda values: values,
        model_columns: dict[str, list[object]] | None = None,
    ) -> Path:
        """Scores go through ``change`` first; NaN is left out."""
        self.path.mkdir(exist_ok=True)
        kind = np.arange(320) % len(THEMES)
        values = change(scores(self.n_models, kind))
        model_ids = [f"org{i}/model" for i in range(self.n_models)]
        query_ids = [f"q{i}" for i in range(320)]
        pl.DataFrame({"model_id": model_ids, **(model_columns or {})}).write_parquet(
            self.path / "models.parquet"
        )
        # Every text stands for two queries: train and test may well ask the same.
        pl.DataFrame(
            {
                "query_id": query_ids,
                "benchmark": [f"b{k}" for k in kind],
                "text": [f"{THEMES[k]} ({i // 6})" for i, k in enumerate(kind)],
            }
        ).write_parquet(self.path / "queries.parquet")
        row, column = np.nonzero(~np.isnan(values))
        pl.DataFrame(
            {
                "model_id": np.array(model_ids)[row],
                "query_id": np.array(query_ids)[column],
                "score": values[row, column],
            }
        ).write_parquet(self.path / "scores.parquet")
        return self.path


def write_embedllm(folder: Path, n_models: int = 29) -> Path:
    """EmbedLLM's three csv files; subjects of mmlu are categories of their own."""
    folder.mkdir(exist_ok=True)
    categories = ["piqa", "mmlu_law", "mmlu_anatomy"]
    kind = np.arange(120) % 3
    values = scores(n_models, kind)
    parts = {"train": range(0, 80), "val": range(80, 95), "test": range(95, 120)}
    for name, rows in parts.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(HEADER)
            for q in rows:
                for m in range(n_models):
                    text = f"{THEMES[kind[q]]} ({q})"
                    label = int(values[m, q])
                    category = categories[kind[q]]
                    writer.writerow([q, m, kind[q], label, f"org{m}/model", text, category])
    return folder
