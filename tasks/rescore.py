"""Rescore: stored answers are scored by the metric that is configured now; no model is asked.

The worker says which metric each task is scored by, the warehouse which current answers are not,
and the worker scores these. Only then a task's scores are filed, with their runs and all of them in
one transaction: whoever reads sees a task scored by the old metric or by the new one, and a run of
kind ``rescore`` is there whole or not at all, so there is never one to heal.
"""

import logging
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.evaluation.rescore import RescoreFailedError, RescoreRequest, launch
from locus.ids import short_hash
from tasks.lineage import git_sha, versions
from tasks.settings import Settings
from warehouse.errors import ContractError
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

KIND = "rescore"


class RescoreRefusedError(ValueError):
    """There is nothing that could be scored anew as asked; says what is missing."""


@dataclass(frozen=True)
class LeftAnswers:
    """Answers that keep their score, for one reason.

    Attributes:
        why: the reason.
        n: how many.
        first: query and model of the first, as a text.
    """

    why: str
    n: int
    first: str


@dataclass(frozen=True)
class RescoredTask:
    """What came of one task.

    Attributes:
        task: the task.
        metric: what it is scored by now, as ``metric,filter``.
        was: what the answers were scored by before.
        n_answers: answers scored anew.
        n_models: models that gave them.
        before: mean score of these answers before; None without any.
        after: mean score now.
        left: answers that keep their score.
    """

    task: str
    metric: str
    was: list[str]
    n_answers: int
    n_models: int
    before: float | None
    after: float | None
    left: list[LeftAnswers]


@dataclass
class Rescored:
    """What was done, or in a dry run would be.

    Attributes:
        dry_run: whether nothing was filed.
        n_checked: tasks whose answers were looked at.
        tasks: those with answers by another metric.
        refused: tasks of which nothing was scored anew, with the reason.
    """

    dry_run: bool = False
    n_checked: int = 0
    tasks: list[RescoredTask] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def n_answers(self) -> int:
        """Answers scored anew."""
        return sum(one.n_answers for one in self.tasks)

    def headline(self) -> str:
        """The run in one line."""
        if self.n_answers:
            n = sum(one.n_answers > 0 for one in self.tasks)
            verb = "dry run: would score" if self.dry_run else "scored"
            return f"{verb} {self.n_answers} answers of {n} tasks anew; no model is asked"
        n_left = sum(left.n for one in self.tasks for left in one.left)
        if n_left or self.refused:
            return f"nothing was scored anew, of {self.n_checked} tasks"
        return (
            f"nothing to score anew: what is stored of {self.n_checked} tasks is scored by the "
            "metric that is configured"
        )


@task(name="rescore", cache_policy=NO_CACHE)
def rescore_answers(
    settings: Settings,
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    dry_run: bool = False,
) -> Rescored:
    """Score the current answers anew whose metric or filter is not the configured one.

    The caller holds the pipeline's lock.

    Args:
        settings: the pipeline's settings.
        tasks: only these of the configured tasks; all by default.
        models: only these models' answers; all by default.
        dry_run: score, and file nothing.

    Raises:
        RescoreRefusedError: no warehouse, no such task among the configured ones, or a model
            without answers.
        RescoreFailedError: the tasks can't be loaded.
        WarehouseBusyError: another process holds the warehouse.
    """
    if not settings.warehouse.is_file():
        raise RescoreRefusedError(
            f"there is no warehouse at {settings.warehouse}: evaluate something first, or point "
            "LOCUS_CONFIG to your locus.toml"
        )
    _check_models(settings, models)
    parent = settings.home / KIND
    # What a killed run left behind; the lock says that nobody works in there.
    shutil.rmtree(parent, ignore_errors=True)
    work = parent / uuid.uuid4().hex
    outcome = Rescored(dry_run)
    wanted = _wanted(settings, tasks, work, outcome)
    answers = _answers(settings, wanted, models, work, outcome)
    if answers:
        _score(settings, wanted, answers, work, outcome)
    # The worker's log stays: it names every answer that is left, and errors point to it.
    for folder in ("answers", "parts"):
        shutil.rmtree(work / folder, ignore_errors=True)
    outcome.tasks.sort(key=lambda one: one.task)
    return outcome


def _check_models(settings: Settings, models: Sequence[str] | None) -> None:
    with Warehouse.open(settings.warehouse) as warehouse:
        known = set(warehouse.read("SELECT DISTINCT model_id FROM score")["model_id"])
    for name in models or []:
        if name not in known:
            raise RescoreRefusedError(
                f"model {name!r} has no answers in the warehouse: `locus models list` names them"
            )


def _request(settings: Settings, names: Sequence[str], work: Path, **more: Any) -> RescoreRequest:
    own = settings.task_settings
    return RescoreRequest(
        tasks=list(names),
        parts=str(work / "parts"),
        metrics={name: one.metric for name, one in own.items() if one.metric is not None},
        task_folders=[str(folder) for folder in settings.task_folders],
        **more,
    )


def _launch(settings: Settings, request: RescoreRequest, work: Path, on_event: Any) -> None:
    launch(request, work, 60 * settings.evaluation.timeout_minutes, on_event)


def _wanted(
    settings: Settings, tasks: Sequence[str] | None, work: Path, outcome: Rescored
) -> dict[str, dict[str, Any]]:
    """By task the worker's event about it: metric, filter, obstacle."""
    if not settings.tasks:
        raise RescoreRefusedError("no tasks are configured: name them under `tasks` in locus.toml")
    # Loaded by the names of the settings: a group may say other things of its tasks than they do.
    names = list(tasks) if tasks and set(tasks) <= set(settings.tasks) else settings.tasks
    events: list[dict[str, Any]] = []
    _launch(settings, _request(settings, names, work), work, events.append)
    found = {event["task"]: event for event in events}
    if tasks and names is settings.tasks:
        for name in tasks:
            if name not in found:
                raise RescoreRefusedError(
                    f"task {name!r} is not among the configured ones: add it to `tasks` in "
                    f"locus.toml, or name one of {', '.join(found)}"
                )
        found = {name: found[name] for name in tasks}
    outcome.n_checked = len(found)
    outcome.refused = {n: e["why"] for n, e in found.items() if e["event"] == "refused"}
    return {name: event for name, event in found.items() if event["event"] == "wanted"}


def _answers(
    settings: Settings,
    wanted: dict[str, dict[str, Any]],
    models: Sequence[str] | None,
    work: Path,
    outcome: Rescored,
) -> dict[str, Path]:
    """Files of the answers to score, by task; what can't be scored at all goes to the outcome."""
    files = {}
    with Warehouse.open(settings.warehouse) as warehouse:
        for name, event in wanted.items():
            frame = warehouse.scores.stored_responses(
                name, event["metric"], event["filter"], models
            )
            if frame.is_empty():
                continue
            if event["obstacle"] is not None:
                query, model = frame.select("query_id", "model_id").row(0)
                left = LeftAnswers(event["obstacle"], frame.height, _first(query, model))
                outcome.tasks.append(_summary(event, frame.head(0), [left], {}))
                continue
            files[name] = work / "answers" / f"{short_hash(name)}.parquet"
            files[name].parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(files[name])
    return files


def _score(
    settings: Settings,
    wanted: dict[str, dict[str, Any]],
    answers: dict[str, Path],
    work: Path,
    outcome: Rescored,
) -> None:
    """Let the worker score and file each task as it comes."""

    def take(event: dict[str, Any]) -> None:
        name = event["task"]
        if event["event"] == "refused":
            outcome.refused[name] = event["why"]
            return
        if event["event"] != "scored":
            return
        scored = _lineage(event, pl.read_parquet(answers[name]))
        if event["parts"] and not outcome.dry_run:
            try:
                _file(settings, wanted[name], event, scored)
            except ContractError as error:
                outcome.refused[name] = str(error)
                return
        left = [
            LeftAnswers(o["why"], o["n"], _first(o["query_id"], o["model_id"]))
            for o in event["left"]
        ]
        outcome.tasks.append(_summary(wanted[name], scored, left, event))
        log.info("rescore: %s: %d answers", name, scored.height)

    # A group's tasks are loaded by the group's name.
    names = list(answers) if set(answers) <= set(settings.tasks) else settings.tasks
    given = {name: str(path) for name, path in answers.items()}
    try:
        _launch(settings, _request(settings, names, work, answers=given), work, take)
    except RescoreFailedError as error:
        done = {one.task for one in outcome.tasks} | set(outcome.refused)
        outcome.refused |= {n: f"not scored: {error}" for n in answers if n not in done}


def _lineage(event: dict[str, Any], answers: pl.DataFrame) -> pl.DataFrame:
    """Of the answers that were scored: whose, by what they were scored, and which run asked."""
    keys = ["model_id", "revision", "query_id"]
    about = answers.select(
        *keys, "asked_by", was=pl.format("{},{}", "metric", pl.col("filter").fill_null("none"))
    )
    scored = [pl.read_parquet(part["part"], columns=keys) for part in event["parts"]]
    return about.join(pl.concat([answers.select(keys).head(0), *scored]), on=keys, how="semi")


def _file(
    settings: Settings, wanted: dict[str, Any], event: dict[str, Any], scored: pl.DataFrame
) -> None:
    """File a task's scores: a run and its part for each version of a model, all or nothing.

    Raises:
        ContractError: rows that the warehouse does not take.
    """
    name = event["task"]
    metric = _name(wanted)
    with Warehouse.open(settings.warehouse) as warehouse, warehouse.transaction():
        for part in event["parts"]:
            own = scored.filter(model_id=part["model_id"], revision=part["revision"])
            run_id = str(uuid.uuid4())
            warehouse.scores.start_run(
                run_id=run_id,
                kind=KIND,
                model_id=part["model_id"],
                revision=part["revision"],
                settings={
                    "task": name,
                    "metric": metric,
                    "was": own["was"].unique().sort().to_list(),
                    "asked_by": own["asked_by"].unique().sort().to_list(),
                },
                versions=versions(),
                git_sha=git_sha(),
                n_planned=own.height,
            )
            warehouse.scores.merge_part(Path(part["part"]), run_id)
            warehouse.scores.finish_run(run_id, "finished")
        told = {"metric": metric, "answers": scored.height, "models": _models(scored)}
        warehouse.audit(KIND, name, told)


def _summary(
    wanted: dict[str, Any], scored: pl.DataFrame, left: list[LeftAnswers], event: dict[str, Any]
) -> RescoredTask:
    was = scored["was"].unique().sort().to_list() if scored.height else []
    return RescoredTask(
        task=wanted["task"],
        metric=_name(wanted),
        was=was,
        n_answers=scored.height,
        n_models=_models(scored),
        before=event.get("before"),
        after=event.get("after"),
        left=left,
    )


def _models(scored: pl.DataFrame) -> int:
    return scored["model_id"].n_unique()


def _name(wanted: dict[str, Any]) -> str:
    return f"{wanted['metric']},{wanted['filter']}"


def _first(query: str, model: str) -> str:
    return f"query {query} of {model}"
