"""Reading a published snapshot for `locus.decisions`: read-only, and without the pipeline.

No Prefect here: the commands that ask the map should start quickly.
"""

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.bank import Array
from locus.decisions import DecisionError, PublishedMap
from locus.embedding import checkpoint
from locus.embedding.maps import FactorMap
from locus.embedding.posterior import weights_of
from locus.encoding.surface import surface
from locus.snapshots import Snapshot, current
from tasks.settings import Settings
from warehouse.console import OpenCopy, opened, run_sql

_HEX = re.compile(r"[0-9a-f]{8,128}")
_COPY = "warehouse.duckdb"

Floats = NDArray[np.float64]
Posterior = Callable[[Array], tuple[Floats, Floats]]


def load_published(settings: Settings) -> PublishedMap:
    """The current snapshot: places, and the predictions and scores of its warehouse copy.

    Raises:
        SnapshotError: nothing is published.
        DecisionError: the copy lacks predictions of a published model.
        SqlError: the warehouse copy is missing or can't be read.
    """
    snapshot = current(settings.published)
    models = pl.read_parquet(snapshot.folder / "similarity" / "embeddings.parquet")
    models = models.sort("model_id")
    with opened(snapshot.folder / _COPY) as copy:
        queries = copy.frame("SELECT query_id, task, split FROM query ORDER BY query_id")
        values_MQ = _cells(
            copy,
            "SELECT query_id, model_id, score AS cell FROM latest_score WHERE status = 'ok'",
            models["model_id"],
            queries["query_id"],
        )
        p_MQ = _cells(
            copy,
            "SELECT query_id, model_id, p_correct AS cell FROM prediction "  # noqa: S608
            + _of_checkpoint(_checkpoint_id(snapshot)),
            models["model_id"],
            queries["query_id"],
        )
    reference_T = np.flatnonzero(~np.isnan(p_MQ).all(axis=0))
    p_TM = p_MQ[:, reference_T].T
    if np.isnan(p_TM).any():
        name = models["model_id"][int(np.argwhere(np.isnan(p_TM))[0][1])]
        raise DecisionError(
            f"snapshot {snapshot.snapshot_id} lacks predictions of {name!r}: `locus publish` "
            "makes them anew"
        )
    uncertainty = models["uncertainty"]
    return PublishedMap(
        snapshot.snapshot_id,
        models.drop("vector", "covariance", "uncertainty"),
        np.asarray(models["vector"].to_list(), dtype=np.float32),
        None if uncertainty.null_count() else uncertainty.to_numpy(),
        queries,
        values_MQ.astype(np.float32),
        reference_T,
        p_TM,
    )


def _checkpoint_id(snapshot: Snapshot) -> str:
    """The checkpoint behind a snapshot; it goes into SQL and paths, so its form is checked."""
    found = str(snapshot.manifest["lineage"]["checkpoint_id"])
    if not _HEX.fullmatch(found):
        raise DecisionError(
            f"snapshot {snapshot.snapshot_id} names no checkpoint: `locus publish` makes one that "
            "does"
        )
    return found


def _of_checkpoint(hexadecimal: str) -> str:
    """The console binds no values; what comes here was checked to be hexadecimal digits."""
    return f"WHERE checkpoint_id = '{hexadecimal}'"


def _cells(copy: OpenCopy, sql: str, models: pl.Series, queries: pl.Series) -> Floats:
    """Rows (query_id, model_id, cell) as a matrix [M, Q], NaN where there is no cell.

    DuckDB numbers the models and hands over one list a query: no id is copied for each of millions
    of cells.
    """
    numbered = "SELECT model_id, row_number() OVER (ORDER BY model_id) AS number FROM model"
    rows = copy.frame(numbered).join(
        pl.DataFrame({"model_id": models}).with_row_index("row"), on="model_id"
    )
    lists = copy.frame(
        f"WITH numbered AS ({numbered}), cells AS ({sql}) "  # noqa: S608
        "SELECT query_id, list(number) AS number, list(cell) AS cell "
        "FROM cells JOIN numbered USING (model_id) GROUP BY query_id",
    )
    cells = (
        lists.join(pl.DataFrame({"query_id": queries}).with_row_index("column"), on="query_id")
        .select("column", "number", "cell")
        .explode("number", "cell")
        .join(rows, on="number")
    )
    matrix = np.full((len(models), len(queries)), np.nan)
    matrix[cells["row"].to_numpy(), cells["column"].to_numpy()] = cells["cell"].to_numpy()
    return matrix


def load_placing(settings: Settings) -> tuple[list[str], Callable[[Array], Array]]:
    """How the published map places models: its bank's query ids, and from scores to embeddings.

    Raises:
        SnapshotError: nothing is published.
        CheckpointError: the checkpoint of the snapshot is missing or can't be trusted.
    """
    snapshot = current(settings.published)
    loaded = _checkpoint(settings, snapshot)
    if isinstance(loaded.map, FactorMap):
        model_map = loaded.map
        ids = list(model_map.ids)
        # Every query is of the bank, so that no features are read.
        nothing = np.zeros((len(ids), 0), dtype=np.float32)
        return ids, lambda values: model_map.embed(ids, nothing, values).z_Md
    rows = run_sql(
        snapshot.folder / _COPY,
        "SELECT e.query_id, q.text, e.encoder, e.vector FROM query_encoding AS e "
        "JOIN query AS q USING (query_id) WHERE q.split = 'train' ORDER BY e.query_id",
    ).filter(encoder=loaded.encoder)
    ids = rows["query_id"].to_list()
    phi = np.asarray(rows["vector"].to_list(), dtype=np.float32)
    x_Qf = np.concatenate([phi, surface(rows["text"].to_list())], axis=1)
    return ids, lambda values: loaded.map.embed(ids, x_Qf, values).z_Md


def load_posterior(
    settings: Settings,
) -> tuple[list[str], Posterior]:
    """The same with covariances: from scores to posterior means and covariances.

    Raises:
        SnapshotError: nothing is published.
        CheckpointError: the checkpoint of the snapshot is missing or can't be trusted.
        DecisionError: the map is of a kind that knows no covariance.
    """
    loaded = _checkpoint(settings, current(settings.published))
    if not isinstance(loaded.map, FactorMap):
        raise DecisionError(
            f"the published map is of the kind {loaded.map.kind!r}, which doesn't know how sure a "
            'place is: set `method = "factors"` under [training] in locus.toml, then '
            "`locus retrain --force`, and ask again"
        )
    return list(loaded.map.ids), partial(weights_of, items=loaded.map.placement.items)


def _checkpoint(settings: Settings, snapshot: Snapshot) -> checkpoint.Checkpoint:
    folder = settings.checkpoints / _checkpoint_id(snapshot)
    if not folder.is_dir():
        raise checkpoint.CheckpointError(
            f"checkpoint {folder.name[:16]} of snapshot {snapshot.snapshot_id} is not in "
            f"{settings.checkpoints}: restore it from a backup, or run this where the map was made"
        )
    return checkpoint.load(folder)
