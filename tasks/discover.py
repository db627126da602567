"""Discover: which models and which queries there are."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from locus.evaluation.child import FAILED
from locus.evaluation.launch import worker_environment
from locus.registry import ModelSpec, RegistryError, load_registry
from locus.snapshots import file_sha256
from tasks.settings import Settings
from warehouse import contracts
from warehouse.store import Warehouse

log = logging.getLogger("locus.pipeline")

_CATALOGUED = ("tasks.parquet", "queries.parquet")
# Absent in what versions wrote that did not know it.
_SUMS = "sha256.json"


class CatalogueError(RuntimeError):
    """The configured tasks could not be read; the message is lm-eval's or names the setting."""


@dataclass(frozen=True)
class Discovered:
    """A model to look after, and the revision it has now."""

    spec: ModelSpec
    revision: str


@task(name="discover-models", cache_policy=NO_CACHE)
def discover_models(settings: Settings, only: Sequence[str] | None = None) -> list[Discovered]:
    """Read the registry and file its models and their revisions.

    Args:
        settings: the pipeline's settings.
        only: ids of some models; None takes all.

    Raises:
        RegistryError: a faulty registry, or one of ``only`` is not in it: nothing is filed.
    """
    specs = load_registry(settings.models_file)
    if only is not None:
        missing = sorted(set(only) - {spec.id for spec in specs})
        if missing:
            raise RegistryError(
                f"{', '.join(map(repr, missing))}: not in {settings.models_file}; add a model "
                "with `locus models add`"
            )
        specs = [spec for spec in specs if spec.id in set(only)]
    found = [Discovered(spec, spec.resolved_revision()) for spec in specs]
    with Warehouse.open(settings.warehouse) as warehouse:
        new = warehouse.catalogue.add_models(_model_frame([d.spec for d in found]))
        warehouse.catalogue.add_revisions(_revision_frame(found))
        warehouse.prices.replace(_price_frame(specs), [spec.id for spec in specs])
    log.info("registry: %d models, %d of them new to the warehouse", len(found), new)
    return found


def _model_frame(specs: Sequence[ModelSpec]) -> pl.DataFrame:
    facts = {"family", "params_b", "released", "license"}
    today = datetime.now(UTC).date()
    rows = []
    for spec in specs:
        price = spec.price_now(today)
        rows.append(
            {
                "model_id": spec.id,
                "org": spec.org,
                "source": "registry",
                "price_in_usd_per_mtok": price and price.in_usd_per_mtok,
                "price_out_usd_per_mtok": price and price.out_usd_per_mtok,
                **spec.model_dump(include=facts),
            }
        )
    return contracts.build(contracts.ModelFrame, rows)


def _price_frame(specs: Sequence[ModelSpec]) -> pl.DataFrame:
    return contracts.build(
        contracts.PriceFrame,
        [{"model_id": s.id, **asdict(price)} for s in specs for price in s.price_list()],
    )


def _revision_frame(found: Sequence[Discovered]) -> pl.DataFrame:
    return contracts.build(
        contracts.RevisionFrame,
        [
            {
                "model_id": d.spec.id,
                "revision": d.revision,
                "backend": d.spec.backend,
                "backend_args": json.dumps(d.spec.args, sort_keys=True),
                "seen_at": datetime.now(UTC),
            }
            for d in found
        ],
    )


@task(name="sync-catalogue", cache_policy=NO_CACHE)
def sync_catalogue(settings: Settings) -> int:
    """File the queries of the configured tasks; nothing is loaded if no task has changed.

    Returns:
        How many queries are new.

    Raises:
        CatalogueError: lm-eval can't load the tasks.
    """
    if not settings.tasks:
        return 0
    folder = settings.home / "catalogue" / _catalogue_key(settings)
    if folder.exists() and (damaged := _damaged(folder)):
        log.warning("%s is damaged: the tasks are read anew", folder / damaged)
        shutil.rmtree(folder)
    if not folder.exists():
        _write_catalogue(settings, folder)
    with Warehouse.open(settings.warehouse) as warehouse:
        warehouse.catalogue.add_tasks(pl.read_parquet(folder / "tasks.parquet"))
        new = warehouse.catalogue.add_queries(pl.read_parquet(folder / "queries.parquet"))
    log.info("catalogue: %d new queries", new)
    return new


def _damaged(folder: Path) -> str | None:
    """A file of a catalogue that is not as it was written; None if all are.

    Parquet has no checksums of its own here: a turned bit could read as another question.
    """
    try:
        sums = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None if all((folder / name).is_file() for name in _CATALOGUED) else _SUMS
    except ValueError:
        return _SUMS
    for name in _CATALOGUED:
        file = folder / name
        if not file.is_file() or not isinstance(sums, dict) or sums.get(name) != file_sha256(file):
            return name
    return None


def _catalogue_key(settings: Settings) -> str:
    """Changes when the tasks, their folders' content, or lm-eval change."""
    from importlib.metadata import version

    digest = hashlib.sha256(repr((settings.tasks, version("lm_eval"))).encode())
    for folder in settings.task_folders:
        if not folder.is_dir():
            raise CatalogueError(
                f"there is no folder {folder}: correct `task_folders` in locus.toml"
            )
        for file in sorted(p for p in folder.rglob("*") if p.suffix in {".yaml", ".py", ".jsonl"}):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _write_catalogue(settings: Settings, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    command = [sys.executable, "-m", "locus.evaluation.catalogue", str(building), *settings.tasks]
    for one in settings.task_folders:
        command += ["--folder", str(one)]
    try:
        done = subprocess.run(
            command, env=worker_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            said = said.removeprefix("error: ")
            if done.returncode == FAILED:
                raise CatalogueError(said)
            raise CatalogueError(
                f"lm-eval can't load {', '.join(settings.tasks)}: {said[:300]}; see whether the "
                "hub can be reached, then run this again (what is loaded once is kept)"
            )
        sums = {name: file_sha256(building / name) for name in _CATALOGUED}
        (building / _SUMS).write_text(json.dumps(sums), encoding="utf-8")
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
