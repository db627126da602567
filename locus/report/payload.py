"""Packs the tables of the page into compact columns; the page's script unpacks them.

Shares travel as whole thousandths and models as positions in one list of ids, because a pool of
2,000 models has to fit beside Plotly in a page that still opens by mail. Every cap is decided here
and comes with the sentence that states it on the page.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from locus.report.cards import pack_cards
from locus.report.curves import pack_curves
from locus.report.data import ReportData
from locus.report.digits import significant, thousandths
from locus.report.since import caps_of, pack_since
from locus.similarity import (
    DisagreementMap,
    calibrated_disagreement,
    dendrogram_order,
    distance_matrix,
)

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


def pack(data: ReportData) -> Payload:
    """Pack checked data for the page."""
    ids = data.models["model_id"].to_list()
    at = pl.DataFrame({"model_id": ids}, schema={"model_id": pl.String}).with_row_index("at")
    caps = dict.fromkeys(("neighbours", "tasks", "heat"), "") | caps_of(data.since)
    curve = _expected(data.pairs)
    buckets = _buckets(data)
    cards, caps["cards"] = pack_cards(data.facts, data.routing, buckets, at)
    content = {
        "models": _models(data),
        "groups": groups(data.models),
        "neighbours": _neighbours(data, at, caps, curve),
        "routing": _routing(data, at, buckets),
        "tasks": _tasks(data, at, caps),
        "heat": _heat(data, at, caps, curve),
        "since": pack_since(data.since),
        "curves": pack_curves(data.curves, at),
        "cards": cards,
        "caps": caps,
    }
    return Payload(content, caps)


def _models(data: ReportData) -> dict[str, Any]:
    new = set(data.new_models)
    models = data.models
    return {
        "id": models["model_id"].to_list(),
        "org": models["org"].to_list(),
        "family": models["family"].to_list(),
        "params": [significant(value) for value in models["params_b"]],
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


def _expected(pairs: pl.DataFrame) -> DisagreementMap | None:
    """From distance to expected disagreement, learned from this pool; None without answers.

    Pairs that were thinned to near ones give a curve for near ones only, which is what is shown.
    """
    known = pairs.drop_nulls(["euclidean_distance", "observed_agreement"]).filter(
        pl.col("n_common") > 0
    )
    if known.is_empty():
        return None
    return calibrated_disagreement(
        known["euclidean_distance"].to_numpy(),
        1 - known["observed_agreement"].to_numpy(),
        known["n_common"].to_numpy(),
    )


def _agreement_at(distance: pl.Series, curve: DisagreementMap | None) -> list[int | None]:
    """Expected agreement at each distance, in thousandths; NULL where unknown."""
    if curve is None:
        return [None] * len(distance)
    rate = curve(distance.fill_null(float("nan")).to_numpy())
    return thousandths(pl.Series(1 - rate).fill_nan(None))


def _neighbours(
    data: ReportData, at: pl.DataFrame, caps: dict[str, str], curve: DisagreementMap | None
) -> dict[str, Any]:
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
        "distance": [significant(value) for value in rows["euclidean_distance"]],
        "expected": _agreement_at(rows["euclidean_distance"], curve),
        "agreement": thousandths(rows["observed_agreement"]),
        "low": thousandths(rows["agreement_low"]),
        "high": thousandths(rows["agreement_high"]),
        "n": rows["n_common"].to_list(),
    }


def _buckets(data: ReportData) -> pl.DataFrame:
    """Buckets that have rows, numbered in the order of the page."""
    named = data.buckets.unique("bucket", keep="first", maintain_order=True)
    rest = data.routing.select("bucket").unique(maintain_order=True).join(named, "bucket", "anti")
    return (
        pl.concat([named, rest], how="diagonal")
        .join(data.routing, on="bucket", how="semi", maintain_order="left")
        .with_row_index("in")
    )


def _routing(data: ReportData, at: pl.DataFrame, buckets: pl.DataFrame) -> dict[str, Any]:
    """The rows to show of each bucket: the first ranks and the best buy."""
    money = pl.col("model_id").eq_missing(pl.col("best_for_the_money"))
    rows = (
        data.routing.join(buckets, on="bucket")
        .join(at, on="model_id")
        .with_columns(money=money)
        .filter(pl.col("rank").is_between(1, RANKS) | pl.col("money"))
        .sort("in", "rank", "model_id")
    )
    return {
        "bucket": buckets["bucket"].to_list(),
        "kind": buckets["kind"].to_list(),
        "words": buckets["words"].to_list(),
        "in": rows["in"].to_list(),
        "rank": rows["rank"].to_list(),
        "model": rows["at"].to_list(),
        "chance": thousandths(rows["p_correct"]),
        "low": thousandths(rows["lower_bound"]),
        "observed": thousandths(rows["observed_accuracy"]),
        "n": rows["n_observed"].to_list(),
        "money": rows["money"].cast(pl.Int8).to_list(),
    }


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


def in_heat_map(models: pl.DataFrame, ranks: pl.DataFrame, new_models: Sequence[str]) -> list[str]:
    """Ids of the models that the heat map has room for.

    Args:
        models: the models of the page, with ``n_scores``.
        ranks: their ranks over all queries: model_id, rank; may lack some.
        new_models: ids added since the last snapshot.
    """
    if models.height <= HEAT_MODELS:
        return models["model_id"].to_list()
    first = models.select("model_id", "n_scores").join(ranks, on="model_id", how="left")
    first = first.with_columns(new=pl.col("model_id").is_in(list(new_models)))
    order = ("new", "rank", "n_scores", "model_id")
    first = first.sort(order, descending=[True, False, True, False], nulls_last=True)
    return first["model_id"].head(HEAT_MODELS).to_list()


def _heat(
    data: ReportData, at: pl.DataFrame, caps: dict[str, str], curve: DisagreementMap | None
) -> dict[str, Any]:
    """The heat map's upper triangle, row by row, in the order of the dendrogram, and that tree."""
    overall = data.buckets.filter(kind="all").select("bucket")
    ranks = data.routing.join(overall, on="bucket", how="semi").select("model_id", "rank")
    ids = in_heat_map(data.models, ranks, data.new_models)
    if len(ids) < at.height:
        caps["heat"] = (
            f"Of {at.height:,} models the heat map shows {HEAT_MODELS}: those added since the last "
            "snapshot first, then those that are most often right."
        )
    shown = pl.DataFrame({"model_id": ids}, schema={"model_id": pl.String}).join(
        at, on="model_id", maintain_order="left"
    )
    among = pl.Series(ids, dtype=pl.String).implode()
    pairs = data.pairs.filter(pl.col("model_a").is_in(among) & pl.col("model_b").is_in(among))
    distances_BB = distance_matrix(pairs, ids)
    # A pair without a distance is put far away for the order only; its cell stays empty.
    far = np.nanmax(distances_BB, initial=0)
    tree, order = dendrogram_order(np.where(np.isnan(distances_BB), far, distances_BB))
    upper = np.triu_indices(len(ids), k=1)

    def triangle(column: str) -> pl.Series:
        matrix_BB = distance_matrix(pairs, ids, column)[np.ix_(order, order)]
        return pl.Series(matrix_BB[upper]).fill_nan(None)

    # A tree over stand-in distances or over part of the pool would show what is not there.
    whole = not caps["heat"] and not np.isnan(distances_BB).any()
    distances = triangle("euclidean_distance")
    return {
        "order": shown["at"].gather(order).to_list(),
        "tree": _merges(tree, order) if whole else [],
        "distance": [significant(value) for value in distances],
        "expected": _agreement_at(distances, curve),
        "agreement": thousandths(triangle("observed_agreement")),
        "low": thousandths(triangle("agreement_low")),
        "high": thousandths(triangle("agreement_high")),
        "n": triangle("n_common").cast(pl.Int64).to_list(),
    }


def _merges(
    linkage: NDArray[np.float64], order: NDArray[np.int64]
) -> list[list[float | int | None]]:
    """Merges of the tree: two nodes and their distance.

    Below B a node is a row of the heat map, from B on it is a merge by its number.
    """
    row = np.empty(len(order), dtype=np.int64)
    row[order] = np.arange(len(order))

    def node(number: float) -> int:
        return int(row[int(number)]) if number < len(order) else int(number)

    return [[node(a), node(b), significant(float(at))] for a, b, at in linkage[:, :3]]
