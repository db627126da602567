"""A small map whose truth is known: models with a task of their own, prices, and a twin."""

from pathlib import Path

import numpy as np
import polars as pl

TASKS = {
    "sums": "What is {a} plus {b}, and what is {b} minus {c}?",
    "capitals": "Which city is the capital of country number {a}, north of river {b}?",
    "rhymes": "Find a word that rhymes with the {a}th word of the {b}th poem by poet {c}.",
}
N_MODELS, N_QUERIES = 24, 160


def model_ids() -> list[str]:
    """Eight models good at each task; ``sums/twin`` gives the answers of ``sums/m0``."""
    names = [f"{task}/m{i}" for task in TASKS for i in range(N_MODELS // len(TASKS))]
    return [*names, "sums/twin"]


def write_matrix(folder: Path) -> Path:
    """Tables as docs/imports.md says; ``rhymes/m7`` has neither price nor parameters."""
    rng = np.random.default_rng(5)
    tasks = list(TASKS)
    kind = np.arange(N_QUERIES) % len(tasks)
    ids = model_ids()
    own = np.array([tasks.index(model.split("/")[0]) for model in ids])
    strength = np.tile(np.linspace(0.6, 2.2, N_MODELS // len(tasks)), len(tasks))
    logit = np.where(own[:-1, None] == kind, strength[:, None], -0.7)
    logit = logit - rng.normal(0, 0.5, N_QUERIES)
    right = rng.random(logit.shape) < 1 / (1 + np.exp(-logit))
    values = np.vstack([right, right[0]]).astype(np.float64)
    last = ids.index("rhymes/m7")
    size = np.tile(np.arange(1.0, 9.0), len(tasks))
    params = [*size.tolist(), 1.0]
    price: list[float | None] = [*(size / 4).tolist(), 0.3]
    folder.mkdir(parents=True)
    pl.DataFrame(
        {
            "model_id": ids,
            "params_b": [None if i == last else p for i, p in enumerate(params)],
            "price": [None if i == last else p for i, p in enumerate(price)],
        }
    ).write_parquet(folder / "models.parquet")
    texts = [
        TASKS[tasks[k]].format(a=i + 2, b=3 * i + 1, c=i // 3) for i, k in enumerate(kind.tolist())
    ]
    pl.DataFrame(
        {
            "query_id": [f"q{i}" for i in range(N_QUERIES)],
            "benchmark": [tasks[k] for k in kind],
            "text": texts,
        }
    ).write_parquet(folder / "queries.parquet")
    rows, columns = np.nonzero(np.isfinite(values))
    pl.DataFrame(
        {
            "model_id": [ids[r] for r in rows],
            "query_id": [f"q{c}" for c in columns],
            "score": values[rows, columns],
        }
    ).write_parquet(folder / "scores.parquet")
    return folder
