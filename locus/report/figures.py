"""The page's two Plotly figures as plain data without any text.

Colours are names of CSS custom properties (``--group-1``): the page's script looks them up when it
draws and again when the reader's system turns dark, so the style sheet is the only place with
colours. Names are put in by the script too, which knows how much room there is and escapes what
Plotly would read as markup.
"""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from locus.report.data import ReportData

SYMBOLS = (
    "circle",
    "diamond",
    "square",
    "triangle-up",
    "pentagon",
    "cross",
    "star",
    "hexagon",
)
"""A second channel beside colour, so that groups can be told apart without seeing hues."""

HEAT_SHARE = 0.86
"""Share of the width that the heat map keeps when the dendrogram stands beside it."""

_AXIS = {
    "showgrid": True,
    "gridcolor": "--grid",
    "zeroline": False,
    "showline": False,
    "showticklabels": False,
    "ticks": "",
    "title": {"text": ""},
    "automargin": False,
}
_LAYOUT: dict[str, Any] = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "showlegend": False,
    "hovermode": "closest",
    "dragmode": False,
    "margin": {"l": 8, "r": 8, "t": 8, "b": 8, "pad": 0},
    "font": {"family": "--font", "size": 12, "color": "--ink"},
}


def _sizes(values: pl.Series, smallest: float, largest: float) -> list[float]:
    """Diameters in pixels whose areas grow with the values; unknown ones get the smallest."""
    known = values.drop_nulls()
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)  # type: ignore[arg-type]
    span = (high - low) or 1.0
    return [
        smallest
        if value is None
        else round(math.sqrt(smallest**2 + (largest**2 - smallest**2) * (value - low) / span), 1)
        for value in values
    ]


def model_map(data: ReportData, groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The map: one trace per group, then one for labels that the page's script fills."""
    placed = (
        data.models.with_row_index("at")
        .with_columns(pl.col("model_id").is_in(list(data.new_models)).alias("new"))
        .filter(pl.col("x").is_not_null() & pl.col("y").is_not_null())
    )
    small, large = (8, 26) if placed.height <= 200 else (5, 15)
    # Parameters span decades, so their logarithm is what can be seen.
    by_params = placed["params_b"].map_elements(
        lambda value: math.log10(value) if value > 0 else None, return_dtype=pl.Float64
    )
    placed = placed.with_columns(
        pl.Series("by_params", _sizes(by_params, small, large)),
        pl.Series("by_accuracy", _sizes(placed["accuracy"], small, large)),
    )
    traces: list[dict[str, Any]] = []
    for group in groups:
        members = placed.filter(pl.col("cluster").eq_missing(group["cluster"]))
        slot = group["slot"]
        new = members["new"].to_list()
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [round(x, 4) for x in members["x"]],
                "y": [round(y, 4) for y in members["y"]],
                "customdata": members["at"].to_list(),
                "hoverinfo": "none",
                "meta": {
                    "params": members["by_params"].to_list(),
                    "accuracy": members["by_accuracy"].to_list(),
                },
                "marker": {
                    "size": members["by_params"].to_list(),
                    "color": f"--group-{slot + 1}" if slot >= 0 else "--group-other",
                    "symbol": SYMBOLS[slot] if slot >= 0 else "circle-open",
                    "opacity": 0.88,
                    "line": {
                        "color": ["--ink" if flag else "--surface" for flag in new],
                        "width": [2.5 if flag else 1 for flag in new],
                    }
                    if any(new)
                    else {"color": "--surface", "width": 1},
                },
            }
        )
    labels = {
        "type": "scatter",
        "mode": "text",
        "x": [],
        "y": [],
        "text": [],
        "textposition": [],
        "hoverinfo": "skip",
        "textfont": {"size": 11.5, "color": "--ink"},
    }
    layout = {
        **_LAYOUT,
        "xaxis": dict(_AXIS),
        # Equal scales: a distance on the map means the same in every direction.
        "yaxis": {**_AXIS, "scaleanchor": "x", "scaleratio": 1},
    }
    return {"data": [*traces, labels], "layout": layout}


def heat_map(n_models: int, with_tree: bool = False) -> dict[str, Any]:
    """The heat map without its cells, which the page's script unpacks from the triangle.

    Args:
        n_models: rows of the heat map.
        with_tree: room for the dendrogram, whose lines the page's script draws, at the right.
    """
    few = n_models <= 60
    cells = {
        "type": "heatmap",
        "hoverinfo": "none",
        "showscale": False,
        "xgap": 1.5 if few else 0,
        "ygap": 1.5 if few else 0,
    }

    def scale(name: str, steps: Sequence[int]) -> list[list[Any]]:
        return [[i / (len(steps) - 1), f"--{name}-{step}"] for i, step in enumerate(steps)]

    axis = {
        **_AXIS,
        "showgrid": False,
        "showticklabels": True,
        "tickmode": "array",
        "tickvals": list(range(n_models)),
        "tickfont": {"size": 11, "color": "--ink"},
        "fixedrange": False,
    }
    tree: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": "tree",
        "xaxis": "x2",
        "yaxis": "y",
        "hoverinfo": "skip",
        "line": {"color": "--quiet", "width": 1.25 if few else 0.75},
    }
    return {
        "data": [
            {**cells, "name": "agreement", "colorscale": scale("agree", range(5))},
            {**cells, "name": "distance", "colorscale": scale("near", range(4, -1, -1))},
            {**cells, "name": "missing", "colorscale": [[0, "--missing"], [1, "--missing"]]},
            *([tree] if with_tree else []),
        ],
        "layout": {
            **_LAYOUT,
            "xaxis": {**axis, "tickangle": -90, "domain": [0, HEAT_SHARE if with_tree else 1]},
            # From the first row's upper edge to the last one's lower: lines alone would get a rim.
            "yaxis": {**axis, "range": [n_models - 0.5, -0.5]},
            **(
                {
                    "xaxis2": {
                        **_AXIS,
                        "showgrid": False,
                        "domain": [HEAT_SHARE + 0.01, 1],
                        "fixedrange": True,
                        "anchor": "y",
                    }
                }
                if with_tree
                else {}
            ),
        },
    }
