"""Every statement of docs/recipes.md runs on a published copy and gives the columns shown there.

The copy is small and its truth is known, so that what the page promises about the answers is held
too: who wins, who is a twin, which question nobody answers.
"""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from warehouse_sample import evaluate, hours, revisions, score_row, scores, start, write_part

from warehouse import contracts
from warehouse.console import run_sql
from warehouse.store import Warehouse

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
# A heading with its number, the statement, and the head of the table that it printed.
RECIPES = {
    int(number): (sql, [column.strip() for column in head.strip("| ").split("|")])
    for number, sql, head in re.findall(
        r"^### (\d+)\. (?:(?!^###).)*?```sql\n(.*?)```\n\n(\|.*?\|)$", PAGE, re.M | re.S
    )
}
NAMED = re.findall(r"'([\w.-]+/[\w.-]+)'", "".join(sql for sql, _ in RECIPES.values()))

TASKS = ("arc_challenge", "gsm8k", "mmlu", "truthfulqa", "winogrande")
EACH = 12
QUERIES = [(f"q-{task}-{i:02d}", task) for task in TASKS for i in range(EACH)]
STRONG, OTHER, TWIN, ORIGINAL = "big/strong", "other/knows", "a/twin", "capleaf/T-Llama"
MODELS = sorted({STRONG, OTHER, TWIN, *NAMED})
NOBODY, BACKWARD = QUERIES.index(("q-mmlu-00", "mmlu")), QUERIES.index(("q-gsm8k-00", "gsm8k"))
FAILED = QUERIES.index(("q-winogrande-11", "winogrande"))
LLAMA, MISTRAL = "meta-llama/Meta-Llama-3-8B", "mistralai/Mistral-7B-v0.3"


def _answers() -> npt.NDArray[np.float64]:
    """Who is right: models by queries."""
    rng = np.random.default_rng(1)
    y = (rng.random((len(MODELS), len(QUERIES))) < 0.5).astype(np.float64)
    truthful = np.array([task == "truthfulqa" for _, task in QUERIES])
    y[MODELS.index(STRONG)] = ~truthful
    y[MODELS.index(OTHER)] = truthful
    y[:, NOBODY] = 0
    y[:, BACKWARD] = y.mean(axis=1) < np.median(y.mean(axis=1))
    y[MODELS.index(TWIN)] = y[MODELS.index(ORIGINAL)]
    return y


Y = _answers()


def right(model: str) -> npt.NDArray[np.bool_]:
    """Whether a model is right, by query."""
    found: npt.NDArray[np.bool_] = Y[MODELS.index(model)] == 1
    return found


def _fill_catalogue(w: Warehouse) -> None:
    w.catalogue.add_models(
        contracts.build(
            contracts.ModelFrame,
            [
                {"model_id": m, "org": m.split("/")[0], "source": "import", "params_b": i + 1.0}
                for i, m in enumerate(MODELS)
            ],
        )
    )
    w.catalogue.add_revisions(revisions(*[(m, "r", hours(0)) for m in MODELS]))
    w.catalogue.add_tasks(
        contracts.build(
            contracts.TaskFrame,
            [{"task": t, "task_version": "1", "source": "matrix"} for t in TASKS],
        )
    )
    w.catalogue.add_queries(
        contracts.build(
            contracts.QueryFrame,
            [
                {
                    "query_id": q,
                    "task": t,
                    "task_version": "1",
                    "split": "test" if i % 2 else "train",
                    "text": f"secret text of {q}",
                }
                for i, (q, t) in enumerate(QUERIES)
            ],
        )
    )


def _fill_answers(w: Warehouse, folder: Path) -> None:
    """Two models are called, one call of one of them fails; the others are imported."""
    called = (STRONG, OTHER)
    call = {"latency_ms": 20.0, "tokens_in": 10, "tokens_out": 2, "cost_usd": 0.001}
    start(w, "import", None, None, 0)
    rows = [
        score_row(m, "r", q, Y[i, j])
        for i, m in enumerate(MODELS)
        if m not in called
        for j, (q, _) in enumerate(QUERIES)
    ]
    w.scores.merge_part(write_part(folder, "import", scores(*rows)), "import")
    w.scores.finish_run("import", "finished")
    for m in called:
        answers = [
            score_row(m, "r", q, None if (m, j) == (STRONG, FAILED) else Y[MODELS.index(m), j])
            | call
            for j, (q, _) in enumerate(QUERIES)
        ]
        evaluate(w, folder, f"run-{m.split('/')[0]}", scores(*answers))


def _fill_map(w: Warehouse) -> None:
    rng = np.random.default_rng(2)
    w.checkpoints.add({"checkpoint_id": "c", "encoder": "mini", "created_at": hours(1)})
    w.vectors.replace_embeddings(
        "c",
        contracts.build(
            contracts.EmbeddingFrame,
            [
                {
                    "model_id": m,
                    "revision": "r",
                    "vector": rng.normal(size=3).tolist(),
                    "dim": 3,
                    "n_scores": len(QUERIES),
                    "scores_digest": "d",
                }
                for m in MODELS
            ],
        ),
    )
    w.vectors.replace_predictions(
        "c",
        contracts.build(
            contracts.PredictionFrame,
            [
                {"model_id": m, "query_id": q, "p_correct": 0.85 if Y[i, j] else 0.25}
                for i, m in enumerate(MODELS)
                for j, (q, _) in enumerate(QUERIES)
            ],
        ),
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, pl.DataFrame]:
    """What each recipe gives on the copy, by its number."""
    folder = tmp_path_factory.mktemp("recipes")
    copy = folder / "copy" / "warehouse.duckdb"
    with Warehouse.open(folder / "warehouse.duckdb") as w:
        _fill_catalogue(w)
        _fill_answers(w, folder)
        _fill_map(w)
        w.snapshots.copy_to(copy)
    return {number: run_sql(copy, sql) for number, (sql, _) in RECIPES.items()}


def test_twenty_are_found_and_none_is_missed() -> None:
    assert list(RECIPES) == list(range(1, 21))
    assert PAGE.count("```sql") == PAGE.count("\n### ") == 20


@pytest.mark.parametrize("number", RECIPES)
def test_recipe_gives_the_columns_that_the_page_shows(
    answers: dict[int, pl.DataFrame], number: int
) -> None:
    got, (_, shown) = answers[number], RECIPES[number]
    assert got.columns == shown
    assert got.height > 0
    text = got.select(pl.concat_str(pl.all().cast(pl.String), ignore_nulls=True)).to_series()
    assert not text.str.contains("secret").any()


def test_the_strong_one_wins_and_what_it_lacks_is_picked_next(
    answers: dict[int, pl.DataFrame],
) -> None:
    best = dict(answers[1].select("task", "model_id").iter_rows())
    assert best["arc_challenge"] == best["winogrande"] == STRONG
    assert best["truthfulqa"] == OTHER
    assert answers[2].item(0, "model_id") == STRONG
    assert answers[4].item(0, "model_id") == STRONG
    first = answers[6].row(0, named=True)
    assert (first["first"], first["second"]) == (STRONG, OTHER)
    # All but the question that nobody answers, and the one call that failed.
    kept = np.arange(len(QUERIES)) != FAILED
    union = right(STRONG) | right(OTHER)
    assert first["n_common"] == kept.sum()
    assert first["together"] == pytest.approx(union[kept].mean(), abs=5e-4)


def test_pairs_are_compared_on_the_answers_they_gave(answers: dict[int, pl.DataFrame]) -> None:
    a, b = right(LLAMA), right(MISTRAL)
    everything = answers[5].filter(task="all").row(0, named=True)
    assert everything["both_right"] == (a & b).sum()
    assert (everything["only_a"], everything["only_b"]) == ((a & ~b).sum(), (b & ~a).sum())
    apart = {QUERIES[j][0] for j in np.flatnonzero(a != b)}
    assert set(answers[11]["query_id"]) <= apart
    assert answers[8].row(0) == (TWIN, ORIGINAL, len(QUERIES), 0)
    assert answers[9].item(0, "model_id") == TWIN
    assert answers[9].item(0, "agreement") == 1
    # The stand-in's one failed call is about a question that the model away got right.
    away = right("Qwen/Qwen1.5-7B")
    assert away[FAILED]
    away[FAILED] = False
    stand_in, _, n, share = answers[7].row(0)
    assert (stand_in, n) == (STRONG, away.sum())
    assert share == pytest.approx(right(STRONG)[away].mean(), abs=5e-4)


def test_odd_questions_are_found(answers: dict[int, pl.DataFrame]) -> None:
    assert answers[12].item(0, "query_id") == QUERIES[NOBODY][0]
    assert answers[12].item(0, "n_right") == 0
    assert dict(answers[13].select("task", "nobody").iter_rows())["mmlu"] == 1
    assert answers[14].item(0, "query_id") == QUERIES[BACKWARD][0]
    assert answers[14].item(0, "correlation") < 0


def test_failed_calls_count_nowhere_but_in_the_bill(answers: dict[int, pl.DataFrame]) -> None:
    fewest = dict(answers[15].select("task", "fewest").iter_rows())
    assert fewest == {t: EACH - (t == "winogrande") for t in TASKS}
    # Predictions of this copy know the answers: below 0.5 always wrong, above always right.
    assert answers[16].select("bin", "observed").rows() == [(0.2, 0.0), (0.8, 1.0)]
    night = {row["what"]: row for row in answers[19].iter_rows(named=True)}
    assert (night[STRONG]["n_ok"], night[STRONG]["n_failed"]) == (len(QUERIES) - 1, 1)
    bill = {row["model_id"]: row for row in answers[20].iter_rows(named=True)}
    assert set(bill) == {STRONG, OTHER}
    assert bill[STRONG]["calls"] == len(QUERIES)
    assert bill[STRONG]["cost_usd"] == pytest.approx(0.001 * len(QUERIES))
