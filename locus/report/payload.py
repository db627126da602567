"""Packs the tables of the page into compact columns; the page's script unpacks them.

Shares travel as whole thousandths and models as positions in one list of ids, because a pool of
2,000 models has to fit beside Plotly in a page that still opens by mail. Every cap is decided here
and comes with the sentence that states it on the page.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from locus.report.data import ReportData
from locus.similarity import dendrogram_order, distance_matrix

HEAT_MODELS = 150
NEIGHBOUR_ROWS = 8_000
TASK_CELLS = 16_000
RANKS = 3
COLOURED_GROUPS = 8


@dataclass(frozen=True)
class Payload:
    """JSON-ready content of the page's tables and figures, and the caps that were applied."""

    content: dict[str, Any]
    caps: dict[str, str]


def thousandths(share: pl.Series) -> list[int | None]:
    """Shares in [0, 1] as whole thousandths; NULL stays NULL."""
    return (share * 1000).round().cast(pl.Int64).to_list()


def pack(data: ReportData) -> Payload:
    """Pack checked data for the page."""
    ids = data.models["model_id"].to_list()
    at = pl.DataFrame({"model_id": ids}, schema={"model_id": pl.String}).with_row_index("at")
    caps = dict.fromkeys(("neighbours", "tasks", "heat"), "")
    content = {
        "models": _models(data),
        "groups": groups(data.models),
        "neighbours": _neighbours(data, at, caps),
        "routing": _routing(data, at),
        "tasks": _tasks(data, at, caps),
        "heat": _heat(data, at, caps),
    }
    return Payload(content, caps)


def _models(data: ReportData) -> dict[str, Any]:
    new = set(data.new_models)
    models = data.models
    return {
        "id": models["model_id"].to_list(),
        "org": models["org"].to_list(),
        "family": models["family"].to_list(),
        "params": [_significant(value) for value in models["params_b"]],
        "n": models["n_scores"].to_list(),
        "accuracy": thousandths(models["accuracy"]),
        "cluster": models["cluster"].to_list(),
        "new": [int(model in new) for model in models["model_id"]],
    }


def groups(models: pl.DataFrame) -> list[dict[str, Any]]:
    """Groups of the map in the order of their number, with a label and the colour slot they get.

    A group is named after a family when at least 60 % of its models with a known family share it.
    Past `COLOURED_GROUPS` groups share a neutral slot (-1): more hues can't be told apart.
    """
    found: list[dict[str, Any]] = []
    for number in sorted(models["cluster"].drop_nulls().unique().to_list()):
        members = models.filter(pl.col("cluster") == number)
        families = Counter(members["family"].drop_nulls().to_list())
        name, count = families.most_common(1)[0] if families else ("", 0)
        label = f"Group {len(found) + 1}"
        if count > 1 and count >= 0.6 * families.total():
            label += f" · mostly {name}"
        slot = len(found) if len(found) < COLOURED_GROUPS else -1
        found.append({"cluster": number, "label": label, "slot": slot, "size": members.height})
    if models["cluster"].null_count():
        size = models["cluster"].null_count()
        found.append({"cluster": None, "label": "No group yet", "slot": -1, "size": size})
    return found


def _neighbours(data: ReportData, at: pl.DataFrame, caps: dict[str, str]) -> dict[str, Any]:
    rows = data.neighbours.sort("model_id", "rank")
    keep = rows["rank"].max()
    while isinstance(keep, int) and keep > 1 and rows.height > NEIGHBOUR_ROWS:
        keep -= 1
        rows = rows.filter(pl.col("rank") <= keep)
        caps["neighbours"] = (
            f"With {at.height:,} models the table shows the {keep} nearest of each; "
            "pairs.parquet beside this page has all of them."
        )
    rows = rows.join(at, on="model_id").join(
        at.rename({"model_id": "neighbour_id", "at": "other"}), on="neighbour_id"
    )
    rows = rows.sort("model_id", "rank")
    return {
        "model": rows["at"].to_list(),
        "rank": rows["rank"].to_list(),
        "neighbour": rows["other"].to_list(),
        "distance": [_significant(value) for value in rows["euclidean_distance"]],
        "agreement": thousandths(rows["observed_agreement"]),
        "low": thousandths(rows["agreement_low"]),
        "high": thousandths(rows["agreement_high"]),
        "n": rows["n_common"].to_list(),
    }


def _routing(data: ReportData, at: pl.DataFrame) -> list[dict[str, Any]]:
    rows = data.routing.filter(pl.col("rank").is_between(1, RANKS)).join(at, on="model_id")
    rows = rows.sort("rank", "model_id")
    picks: dict[str, list[list[int | None]]] = {
        bucket: [] for bucket in data.routing["bucket"].unique(maintain_order=True)
    }
    for bucket, *pick in zip(
        rows["bucket"],
        rows["at"],
        thousandths(rows["p_correct"]),
        thousandths(rows["lower_bound"]),
        rows["n_observed"],
        thousandths(rows["observed_accuracy"]),
        strict=True,
    ):
        picks[bucket].append(pick)
    return [{"bucket": bucket, "picks": found} for bucket, found in picks.items() if found]


def _tasks(data: ReportData, at: pl.DataFrame, caps: dict[str, str]) -> dict[str, Any]:
    names = data.task_accuracy["task"].unique().sort().to_list()
    fit = TASK_CELLS // max(len(names), 1)
    shown = at.join(data.models.select("model_id", "n_scores"), on="model_id")
    with_rows = shown.join(data.task_accuracy, on="model_id", how="semi")
    if with_rows.height > fit:
        caps["tasks"] = (
            f"With {with_rows.height:,} models and {len(names):,} tasks the table shows "
            f"the {fit:,} models with most scores."
        )
        with_rows = with_rows.sort(
            "n_scores", "model_id", descending=[True, False], nulls_last=True
        )
    rows = with_rows.head(fit).sort("at")
    column = {name: i for i, name in enumerate(names)}
    cells: dict[int, list[list[int | None] | None]] = {i: [None] * len(names) for i in rows["at"]}
    table = data.task_accuracy.join(rows, on="model_id")
    for i, task, *cell in zip(
        table["at"],
        table["task"],
        table["n"],
        thousandths(table["accuracy"]),
        thousandths(table["low"]),
        thousandths(table["high"]),
        strict=True,
    ):
        cells[i][column[task]] = cell
    return {"names": names, "model": list(cells), "cells": list(cells.values())}


def _heat(data: ReportData, at: pl.DataFrame, caps: dict[str, str]) -> dict[str, Any]:
    """The heat map's upper triangle, row by row, in the order of the dendrogram."""
    shown = at.join(data.models.select("model_id", "n_scores"), on="model_id")
    if shown.height > HEAT_MODELS:
        caps["heat"] = (
            f"Of {shown.height:,} models the heat map shows {HEAT_MODELS}: those added since the "
            "last snapshot first, then those with most scores."
        )
        shown = (
            shown.with_columns(pl.col("model_id").is_in(list(data.new_models)).alias("new"))
            .sort("new", "n_scores", "model_id", descending=[True, True, False], nulls_last=True)
            .head(HEAT_MODELS)
        )
    ids = shown["model_id"].to_list()
    among = pl.Series(ids, dtype=pl.String).implode()
    pairs = data.pairs.filter(pl.col("model_a").is_in(among) & pl.col("model_b").is_in(among))
    distances_BB = distance_matrix(pairs, ids)
    # A pair without a distance is put far away for the order only; its cell stays empty.
    far = np.nanmax(distances_BB, initial=0)
    order = dendrogram_order(np.where(np.isnan(distances_BB), far, distances_BB)).order
    upper = np.triu_indices(len(ids), k=1)

    def triangle(column: str) -> pl.Series:
        matrix_BB = distance_matrix(pairs, ids, column)[np.ix_(order, order)]
        return pl.Series(matrix_BB[upper]).fill_nan(None)

    return {
        "order": shown["at"].gather(order).to_list(),
        "distance": [_significant(value) for value in triangle("euclidean_distance")],
        "agreement": thousandths(triangle("observed_agreement")),
        "low": thousandths(triangle("agreement_low")),
        "high": thousandths(triangle("agreement_high")),
        "n": triangle("n_common").cast(pl.Int64).to_list(),
    }


def _significant(value: float | None, digits: int = 4) -> float | None:
    """A number with ``digits`` significant digits, which is all that the page shows."""
    return None if value is None else float(f"{value:.{digits}g}")
