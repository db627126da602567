"""A home to plan in: a warehouse, two models, and a map made by factors."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from locus.bank import Bank, Queries
from locus.embedding import checkpoint
from locus.embedding.factors import FactorPlacement
from locus.embedding.maps import FactorMap
from locus.evaluation.parts import write_part
from locus.registry import ModelSpec
from tasks.discover import Discovered
from tasks.plan import PlannedModel, plan_queries
from tasks.record import record_parts
from tasks.settings import EvaluationSettings, Settings
from warehouse import contracts
from warehouse.store import Warehouse

ENCODER = "some/encoder"
REGISTERED = ("left", "right")
# Asked by somebody else once: in the map's bank, but no registered task asks them.
ELSEWHERE = "elsewhere"
N_BANK = 60

BANK = [(f"{t}-{i:02d}", t, "train") for t in (*REGISTERED, ELSEWHERE) for i in range(N_BANK // 3)]
# Queries that came after the map, and those that measure.
FRESH = [(f"fresh-{t}-{i:02d}", t, "train") for t in REGISTERED for i in range(10)]
TEST = [(f"test-{t}-{i:02d}", t, "test") for t in REGISTERED for i in range(6)]
QUERIES = pl.DataFrame(BANK + FRESH + TEST, schema=["query_id", "task", "split"], orient="row")
TASK_OF = dict(QUERIES.select("query_id", "task").iter_rows())
ASKABLE = {query for query, task, _ in BANK if task in REGISTERED}


def fit() -> FactorMap:
    """A map in which queries differ much in difficulty and in what they ask."""
    rng = np.random.default_rng(0)
    phi_Qp = rng.normal(size=(N_BANK, 8)).astype(np.float32)
    logits_MQ = rng.normal(size=(80, 3)) @ rng.normal(size=(3, N_BANK)) * 1.5
    logits_MQ += rng.normal(size=N_BANK) * 1.5
    values_MQ = (rng.random(logits_MQ.shape) < 1 / (1 + np.exp(-logits_MQ))).astype(np.float32)
    queries = Queries(phi_Qp, tuple(task for _, task, _ in BANK))
    placement = FactorPlacement()
    placement.fit(Bank(queries, values_MQ, queries, values_MQ), 0)
    return FactorMap(placement, tuple(query for query, _, _ in BANK))


@dataclass(frozen=True)
class World:
    """A home with a warehouse, and two models to ask."""

    home: Path

    def settings(self, strategy: str, budget: int = 12, **more: object) -> Settings:
        values = {"strategy": strategy, "new_model_queries": budget, "test_queries": 0, **more}
        ask = EvaluationSettings.model_validate(values)
        return Settings(home=self.home, encoder=ENCODER, evaluation=ask)

    def plan(self, strategy: str, budget: int = 12, **more: object) -> dict[str, PlannedModel]:
        settings = self.settings(strategy, budget, **more)
        return {p.model.spec.id: p for p in plan_queries.fn(settings, MODELS)}

    def answer(self, model: str, queries: Iterable[str], score: float, status: str = "ok") -> None:
        rows = [
            {"model_id": model, "revision": "r", "query_id": q, "status": status,
             "score": score if status == "ok" else None, "metric": "acc", "filter": "none",
             "scored_at": datetime.now(UTC)}
            for q in queries
        ]  # fmt: skip
        run = f"run-{datetime.now(UTC).timestamp()}"
        part = self.home / "parts" / f"{run}.parquet"
        write_part(rows, part)
        with Warehouse.open(self.settings("panel").warehouse) as w:
            w.scores.start_run(run, "lm-eval", model, "r", {}, {}, None, len(rows))
            assert record_parts(w, run, [part]) == (len(rows), None)


def model(name: str) -> Discovered:
    return Discovered(ModelSpec(id=name, args={"pretrained": "models/x"}, revision="0" * 40), "r")


MODELS = [model("org/one"), model("org/two")]


def a_world(home: Path) -> World:
    """A home without a map."""
    world = World(home)
    world.home.mkdir()
    with Warehouse.open(world.settings("panel").warehouse) as w:
        rows = [{"model_id": m.spec.id, "source": "registry"} for m in MODELS]
        w.catalogue.add_models(contracts.build(contracts.ModelFrame, rows))
        tasks = [
            {
                "task": t,
                "task_version": "1",
                "source": "lm-eval" if t in REGISTERED else "matrix",
                "output_type": "multiple_choice" if t == "left" else "generate_until",
            }
            for t in (*REGISTERED, ELSEWHERE)
        ]
        w.catalogue.add_tasks(contracts.build(contracts.TaskFrame, tasks))
        queries = [{**q, "task_version": "1", "text": q["query_id"]} for q in QUERIES.to_dicts()]
        w.catalogue.add_queries(contracts.build(contracts.QueryFrame, queries))
    return world


def add_map(world: World, model_map: FactorMap, encoder: str = ENCODER, **more: object) -> str:
    """File a map as the active one."""
    settings = world.settings("panel")
    made = checkpoint.save(model_map, encoder, {}, settings.checkpoints)
    row = {"checkpoint_id": made, "encoder": encoder, "config": {"method": "factors"}}
    with Warehouse.open(settings.warehouse) as w:
        w.checkpoints.add({**row, "n_models": 80, **more})
    return made


def asked(planned: PlannedModel) -> set[str]:
    found = [query for ids in planned.plan.queries.values() for query in ids]
    assert len(found) == len(set(found)) == planned.plan.n_queries
    for task, ids in planned.plan.queries.items():
        assert {TASK_OF[query] for query in ids} == {task}
    return set(found)
