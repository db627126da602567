"""Figures of a benchmark page, as PNG files; matplotlib is loaded only here."""

import importlib
import importlib.util
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

log = logging.getLogger("locus.benchmark")

_MARKERS = "osD^vP*X<>hd"
# Okabe and Ito's colours, told apart by the colour-blind; black goes to the first method.
_COLOURS = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#999933",
    "#882255", "#44AA99", "#AA4499", "#777777",
)  # fmt: skip


def available() -> bool:
    """Whether figures can be drawn here; says what is missing if not."""
    if importlib.util.find_spec("matplotlib"):
        return True
    log.warning("no figures: matplotlib is not installed (pip install matplotlib)")
    return False


def _axes(n: int) -> tuple[Any, Any]:
    # A figure of its own, without pyplot, opens no window and needs no display.
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(max(4.6 * n, 6.0), 4.2), dpi=110, layout="constrained"
    )
    return figure, np.atleast_1d(figure.subplots(1, n))


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _style(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        method: {
            "color": _COLOURS[i % len(_COLOURS)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "linewidth": 2.2 if i == 0 else 1.2,
            "markersize": 4,
            "zorder": 10 if i == 0 else 2,
        }
        for i, method in enumerate(methods)
    }


def curves(
    frame: pl.DataFrame, panels: Mapping[str, str], methods: Sequence[str], x: str, path: Path
) -> Path:
    """Measures against a budget on a logarithmic axis, one panel a measure, one line a method.

    Args:
        frame: columns ``method``, ``budget`` and the measures; nulls are left out.
        panels: title by measure.
        methods: in the order of the legend; the first stands out.
        x: what the budget counts.
        path: PNG file to write.
    """
    figure, axes = _axes(len(panels))
    style = _style(methods)
    for ax, (measure, title) in zip(axes, panels.items(), strict=True):
        for method in methods:
            mine = frame.filter(method=method).drop_nulls(measure).sort("budget")
            if mine.height:
                ax.plot(mine["budget"], mine[measure], label=method, **style[method])
        ax.set_xscale("log", base=2)
        ticks = sorted(frame["budget"].unique())
        whole = frame.schema["budget"].is_integer() and len(ticks) <= 8
        ticks = ticks if whole else _powers_of_two(ticks[0], ticks[-1])
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set_xlabel(x)
        ax.set_title(title)
        ax.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = 2 if len(axes) == 1 else 5
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )
    return _save(figure, path)


def _powers_of_two(low: float, high: float) -> list[float]:
    """Those within a range, one beyond at either end if there is none within."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    return [2.0**n for n in range(min(first, last), max(first, last) + 1)]


def scatter(
    panels: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    x: str,
    y: str,
    path: Path,
) -> Path:
    """Point clouds, one panel each; more than 8,000 points are thinned evenly."""
    figure, axes = _axes(len(panels))
    for ax, (title, (at, values)) in zip(axes, panels.items(), strict=True):
        step = max(len(at) // 8000, 1)
        ax.scatter(at[::step], values[::step], s=4, alpha=0.25, linewidths=0, color="#0072B2")
        ax.set_title(title)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.grid(alpha=0.3)
    return _save(figure, path)
