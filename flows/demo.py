"""`locus demo`: the main job end to end on a zoo of tiny models, and what came of it."""

import logging
import os
import time
from pathlib import Path

import polars as pl

from flows.cli.terminal import say, table
from locus.snapshots import Snapshot, current
from locus.zoo import tasks as zoo_tasks
from locus.zoo.build import ZooModel, build_zoo, write_models_yaml

log = logging.getLogger("locus.pipeline")


SETTINGS = f"""\
# Settings of the demo; `locus init` writes a commented file for your own models.
home = "."
models_file = "models.yaml"
tasks = ["{zoo_tasks.TAG}"]
task_folders = [{str(zoo_tasks.FOLDER)!r}]

[evaluation]
new_model_queries = 128
parallel = 2

[training]
steps = 500
"""


def run_demo(folder: Path) -> None:
    """Build the zoo, run nightly on its first pool, add the late models, show what is published.

    Everything lies in ``folder``; a second call goes on from there and asks nobody anything.
    """
    started = time.monotonic()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    models = build_zoo(folder / "zoo", on_progress=log.info)
    pool = [model for model in models if model.recipe.pool == "first"]
    late = [model for model in models if model.recipe.pool == "late"]
    _configure(folder, pool, late)
    # Prefect reads its settings when it is imported; the flows come after `_configure`.
    from flows.add_model import add_model
    from flows.nightly import nightly

    _heading(f"nightly on {len(pool)} models")
    nightly()
    for model in late:
        _heading(f"a model is added: {model.name}")
        _register(folder, pool, late, model.name)
        add_model(model.name)
    _heading("nightly again")
    say(nightly().headline())
    _show(current(folder / "published"), [model.name for model in late])
    say(f"\ndemo took {time.monotonic() - started:.0f} s")


def _heading(text: str) -> None:
    log.info("--- %s", text)


def _configure(folder: Path, pool: list[ZooModel], late: list[ZooModel]) -> None:
    """Settings, registry and a Prefect of its own."""
    (folder / "locus.toml").write_text(SETTINGS, encoding="utf-8")
    _register(folder, pool, late)
    os.environ["LOCUS_CONFIG"] = str(folder / "locus.toml")
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    os.environ.pop("PREFECT_API_URL", None)
    os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(name, "1")


def _register(folder: Path, pool: list[ZooModel], late: list[ZooModel], *new: str) -> None:
    """Write the registry: the first pool, late models that it had already, and ``new``."""
    from locus.registry import RegistryError, load_registry

    registry = folder / "models.yaml"
    try:
        added = {spec.id for spec in load_registry(registry)}
    except RegistryError:  # there is none yet, or its models have been built anew elsewhere
        added = set()
    write_models_yaml([*pool, *(m for m in late if m.name in {*added, *new})], registry)


def _show(snapshot: Snapshot, late: list[str]) -> None:
    """Print what is published and how to query it."""
    routing = pl.read_parquet(snapshot.folder / "routing" / "table.parquet")
    best = routing.filter(pl.col("rank") <= 2).select(
        "bucket", "rank", "model_id", "p_correct", "observed_accuracy", "lower_bound", "n_observed",
        "price_in_usd_per_mtok",
    )  # fmt: skip
    table(best, "\nRouting table: the two best models of each bucket of queries")
    quality = pl.DataFrame(snapshot.manifest["routing_quality"])
    table(
        quality.select("method", pl.col("hit1").alias("hit@1"), "low", "high", "hit3", "n"),
        "\nRight first choice on held-out queries (95 % bootstrap interval)",
    )
    nearest = pl.read_parquet(snapshot.folder / "similarity" / "nearest.parquet")
    near = nearest.filter(pl.col("model_id").is_in(late) & (pl.col("rank") <= 3))
    table(
        near.sort("model_id", "rank").select(
            "model_id", "rank", "neighbour_id", "euclidean_distance", "observed_agreement",
            "n_common",
        ),
        "\nNeighbours of the models that were added without retraining",
    )  # fmt: skip
    home = snapshot.folder.parent.parent.parent
    config = os.path.relpath(home / "locus.toml")
    say(f"\npublished   {snapshot.folder}")
    say(f"report      {snapshot.folder / 'similarity' / 'report.html'}")
    say("\nTry it:")
    say(f"  export LOCUS_CONFIG={config}")
    say("  locus route 'Sort the letters: d a c'")
    say(f"  locus similar {late[0]}")
    say("  locus sql 'select * from model_accuracy order by accuracy desc limit 10'")
    say("  locus status")
    say("(`locus` is .venv/bin/locus after `make demo`)")
