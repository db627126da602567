"""How fast a query's model is chosen: the plain path beside the folded one, in turns.

``python -m locus.routing.speed`` makes a bank, a predictor of each kind and pools of the sizes of a
leaderboard, then times both ways from query features to choice, p and lower bound. Nothing here
encodes text. Every thread is a Python thread with a single-threaded BLAS, so the program starts
itself anew where the environment says otherwise. Nothing is asserted: it prints what it measured.

What belongs here: the comparison and its plain side. What is compared is
`locus.routing.router.Router.select`.

Shape letters: M models, T queries, f width of query features.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from statistics import NormalDist, median
from typing import Any

import numpy as np
import polars as pl

from locus.bank import Array, Queries
from locus.embedding.calibration import Calibration
from locus.embedding.textmap import Floats, TextMap
from locus.encoding.surface import SURFACE
from locus.machine import cpu_name
from locus.routing.attention_predictor import AttentionPredictor
from locus.routing.factor_predictor import FactorPredictor
from locus.routing.policy import Policy, choose
from locus.routing.predictor import Predictor
from locus.routing.router import Router
from locus.routing.triangles import pack

# Those of Open LLM Leaderboard v1 as it is used in docs/benchmark.md.
POOLS = (112, 2277)
_BANK = 979
_BENCHMARKS = 6
_FACTORS = 16
_D_QUERY, _D_MODEL, _D_HIDDEN = 384, 128, 64
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_CONFIDENCE = 0.95

Select = Callable[[Array], Any]


@dataclass(frozen=True)
class Options:
    """How much is timed.

    Attributes:
        quick: few queries, few singles.
        repetitions: runs of each side.
        threads: Python threads that choose at the same time.
        bank: bank queries: landmarks, to 2,000.
        seed: of what is made up.
    """

    quick: bool = False
    repetitions: int = 9
    threads: int = os.cpu_count() or 1
    bank: int = _BANK
    seed: int = 1234


def features(rng: np.random.Generator, n: int, centres_np: Floats) -> tuple[Array, list[str]]:
    """Made-up queries: unit encodings around their benchmark's, surface features [n, f]."""
    of = rng.integers(0, len(centres_np), n)
    phi = centres_np[of] + rng.normal(size=(n, _D_QUERY))
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    surface = rng.normal(size=(n, len(SURFACE))) + 0.3 * of[:, None]
    x_Tf = np.concatenate([phi, surface], axis=1).astype(np.float32)
    return x_Tf, [f"benchmark {i}" for i in of]


def factor_predictor(rng: np.random.Generator, bank: int, centres_np: Floats) -> FactorPredictor:
    """A text map fitted to made-up items of so many bank queries."""
    x_Qf, names = features(rng, bank, centres_np)
    queries = Queries(x_Qf[:, :_D_QUERY], tuple(names), x_Qf[:, _D_QUERY:])
    # A mean score and factors that depend on the encoding, and on something that it doesn't tell.
    items = x_Qf[:, :_D_QUERY] @ rng.normal(size=(_D_QUERY, 1 + _FACTORS))
    items = 0.2 * items + 0.1 * rng.normal(size=items.shape)
    items[:, 0] += 0.5
    text, _ = TextMap.fit(queries, items, np.ones(bank))
    n_offsets = len(text.centroids_np)
    turned, _ = np.linalg.qr(rng.normal(size=(_FACTORS + n_offsets, _FACTORS + n_offsets)))
    return FactorPredictor(
        text, np.arange(n_offsets), 0.1, turned, Calibration(0.03, 1.1), "made up"
    )


def attention_predictor(rng: np.random.Generator) -> AttentionPredictor:
    """Random weights of the default sizes, large enough for models to differ."""

    def draw(*shape: int, spread: float = 1.0) -> Array:
        weights = spread * rng.normal(size=shape) / np.sqrt(shape[-1])
        return np.asarray(weights, dtype=np.float32)

    weights = {
        "query.weight": draw(_D_MODEL, _D_QUERY, spread=20),
        "query.bias": draw(_D_MODEL),
        "hidden.weight": draw(_D_HIDDEN, 3 * _D_MODEL),
        "hidden.bias": draw(_D_HIDDEN),
        "out.weight": draw(1, _D_HIDDEN, spread=4),
        "out.bias": draw(1),
    }
    return AttentionPredictor(weights, "made up")


def pool(rng: np.random.Generator, n_models: int, width: int, covariances: bool) -> pl.DataFrame:
    """Made-up embeddings (the first ``width`` numbers in use), covariances and prices."""
    z_Md = np.zeros((n_models, _D_MODEL), dtype=np.float32)
    z_Md[:, :width] = 0.5 * rng.normal(size=(n_models, width))
    columns: dict[str, Any] = {
        "model_id": [f"made/up-{i}" for i in range(n_models)],
        "vector": z_Md.tolist(),
        "price_in_usd_per_mtok": rng.exponential(size=n_models).round(2),
        "price_out_usd_per_mtok": rng.exponential(size=n_models).round(2),
    }
    if covariances:
        roots = 0.02 * rng.normal(size=(n_models, width, width))
        columns["covariance"] = pack(roots @ roots.transpose(0, 2, 1)).tolist()
    return pl.DataFrame(columns)


def plain_factors(
    predictor: FactorPredictor, z_Md: Array, covariance_Mu: Array, x_Tf: Array
) -> tuple[Any, ...]:
    """As the formulas say, in float64: chances, doubts, and the whole pool ranked."""
    p_TM = predictor.probabilities(z_Md, x_Tf).astype(np.float64)
    deviation_TM = predictor.deviations(covariance_Mu, x_Tf)
    assert deviation_TM is not None  # noqa: S101  covariances were given
    quantile = NormalDist().inv_cdf(_CONFIDENCE)
    lower_TM = np.clip(p_TM - quantile * deviation_TM, 0, 1)
    rows, first = np.arange(len(x_Tf)), choose(p_TM, Policy()).chosen_T
    return first, p_TM[rows, first], lower_TM[rows, first]


def plain_attention(
    predictor: AttentionPredictor, z_Md: Array, memory: int = 1 << 25
) -> Callable[[Array], tuple[Any, ...]]:
    """Every model folded into one hidden layer over encodings, [p, M h], then the pool ranked."""
    w, d = predictor.weights, z_Md.shape[1]
    w_hd = w["hidden.weight"]
    per_model_Mhd = w_hd[:, d : 2 * d] + z_Md[:, None, :] * w_hd[:, 2 * d :]
    shape = (len(z_Md), len(w_hd))
    folded = per_model_Mhd @ w["query.weight"]
    folded_pMh = np.ascontiguousarray(folded.reshape(-1, predictor.d_query).T)
    bias_Mh = z_Md @ w_hd[:, :d].T + w["hidden.bias"] + per_model_Mhd @ w["query.bias"]

    def select(x_Tf: Array) -> tuple[Any, ...]:
        block = max(1, memory // (shape[0] * shape[1]))
        parts = []
        for start in range(0, len(x_Tf), block):
            hidden = x_Tf[start : start + block, : predictor.d_query] @ folded_pMh
            hidden = np.maximum(hidden.reshape(-1, *shape) + bias_Mh, 0)
            parts.append(1 / (1 + np.exp(-(hidden @ w["out.weight"][0] + w["out.bias"][0]))))
        p_TM = np.concatenate(parts).astype(np.float64)
        first = choose(p_TM, Policy()).chosen_T
        return first, p_TM[np.arange(len(x_Tf)), first]

    return select


def sides(kind: str, n_models: int, bank: int, seed: int) -> tuple[Router, Select, Array]:
    """A router, the plain way to the same choices, and queries for both."""
    rng = np.random.default_rng(seed)
    centres_np = rng.normal(size=(_BENCHMARKS, _D_QUERY))
    predictor: Predictor
    plain: Select
    if kind == "factors":
        predictor = made = factor_predictor(rng, bank, centres_np)
        models = pool(rng, n_models, made.to_public_ke.shape[1], covariances=True)
        covariance_Mu = np.asarray(models["covariance"].to_list(), dtype=np.float32)
        z_Md = np.asarray(models["vector"].to_list(), dtype=np.float32)
        plain = partial(plain_factors, made, z_Md, covariance_Mu)
    else:
        predictor = drawn = attention_predictor(rng)
        models = pool(rng, n_models, _D_MODEL, covariances=False)
        plain = plain_attention(drawn, np.asarray(models["vector"].to_list(), dtype=np.float32))
    x_Tf, _ = features(rng, 4096, centres_np)
    return Router("made up", predictor, models, None, {}), plain, x_Tf


def rate(
    select: Select, x_Tf: Array, threads: int, executor: ThreadPoolExecutor
) -> tuple[float, float]:
    """Selections a second, every thread with its share; and processor microseconds of each."""
    shares = np.array_split(x_Tf, threads)
    started, cpu_started = time.perf_counter(), time.process_time()
    list(executor.map(select, shares))
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    return len(x_Tf) / wall_s, 1e6 * cpu_s / len(x_Tf)


def latency(select: Select, x_Tf: Array, n: int) -> dict[str, float]:
    """Milliseconds of single queries, one after another, in one thread."""
    taken = []
    for i in range(n):
        at = i % len(x_Tf)
        started = time.perf_counter()
        select(x_Tf[at : at + 1])
        taken.append(1000 * (time.perf_counter() - started))
    low, high = np.percentile(taken, [50, 99]).tolist()
    return {"p50_ms": low, "p99_ms": high}


def compare(
    kind: str, n_models: int, options: Options, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Time both sides in turns (plain folded, folded plain, ...), then single queries."""
    router, plain, x_Tf = sides(kind, n_models, options.bank, options.seed)
    x_Tf = x_Tf[: 512 if options.quick else 4096 if n_models <= POOLS[0] else 1024]
    by_name: dict[str, Select] = {"plain": plain, "folded": router.select}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in by_name}
    folded, other = router.select(x_Tf), plain(x_Tf)
    with ThreadPoolExecutor(options.threads) as executor:
        for i in range(options.repetitions):
            for name in sorted(by_name, reverse=i % 2 == 0):
                found[name].append(rate(by_name[name], x_Tf, options.threads, executor))
    singles = 50 if options.quick else 2000
    by_name["decide, top 3 with reasons"] = router.decide_encoded
    result = {
        "kind": kind,
        "models": n_models,
        "queries": len(x_Tf),
        "per_s": {name: [r for r, _ in runs] for name, runs in found.items()},
        "cpu_us": {name: [c for _, c in runs] for name, runs in found.items()},
        "ratio": [b / a for (a, _), (b, _) in zip(found["plain"], found["folded"], strict=True)],
        "single": {
            name: latency(one, x_Tf, singles if name != "plain" else max(singles // 10, 20))
            for name, one in by_name.items()
        },
        "choices_differing": int((folded.chosen_T != other[0]).sum()),
        "largest_difference_of_p": float(np.abs(folded.p_T - other[1]).max()),
    }
    tell(f"{kind}, {n_models} models: done, load {os.getloadavg()[0]:.1f}")
    return result


def run(options: Options, tell: Callable[[str], None]) -> dict[str, Any]:
    """The whole comparison, as plain data."""
    load = os.getloadavg()[0]
    rows = [compare(kind, m, options, tell) for m in POOLS for kind in ("factors", "attention")]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
        "load": [load, os.getloadavg()[0]],
        "versions": {"python": platform.python_version(), "numpy": version("numpy")},
        "threads": options.threads,
        "bank": options.bank,
        "seed": options.seed,
        "repetitions": options.repetitions,
        "pools": rows,
    }


def table(result: Mapping[str, Any]) -> str:
    """A result as text."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    before, after = result["load"]
    lines = [
        f"{result['machine']}; load {before:.1f} before, {after:.1f} after; {versions}",
        f"{result['threads']} threads, {result['bank']} bank queries, seed {result['seed']}, "
        f"{result['repetitions']} repetitions; medians (lowest to highest)",
        "| predictor | models | plain, selections/s | folded, selections/s | folded / plain | "
        "processor time a query, us | choices differing |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["pools"]:
        rates = [_spread(row["per_s"][side], ",.0f") for side in ("plain", "folded")]
        cpu = " and ".join(f"{median(row['cpu_us'][side]):.1f}" for side in ("plain", "folded"))
        lines.append(
            f"| {row['kind']} | {row['models']:,} | {' | '.join(rates)} | "
            f"{_spread(row['ratio'], '.1f')} | {cpu} | "
            f"{row['choices_differing']} of {row['queries']:,} |"
        )
    names = list(result["pools"][0]["single"])
    lines += [
        "",
        "One query, one thread, p50 / p99 in ms:",
        f"| predictor | models | {' | '.join(names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in result["pools"]:
        cells = [f"{t['p50_ms']:.3f} / {t['p99_ms']:.3f}" for t in row["single"].values()]
        lines.append(f"| {row['kind']} | {row['models']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], form: str) -> str:
    low, middle, high = (format(v, form) for v in (min(values), median(values), max(values)))
    return f"{middle} ({low} to {high})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print, in a process with a single-threaded BLAS."""
    parser = argparse.ArgumentParser(prog="python -m locus.routing.speed")
    parser.add_argument("--quick", action="store_true", help="few queries, twice")
    parser.add_argument(
        "--repetitions", type=int, default=Options.repetitions, help="runs of each side"
    )
    parser.add_argument("--threads", type=int, default=Options.threads)
    parser.add_argument("--bank", type=int, default=_BANK, help="bank queries: landmarks, to 2,000")
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    given = parser.parse_args(arguments)
    options = Options(given.quick, given.repetitions, given.threads, given.bank, given.seed)
    if min(options.repetitions, options.threads, options.bank) < 1:
        parser.error("repetitions, threads and bank queries are 1 or more")
    if any(os.environ.get(name) != value for name, value in _ONE_THREAD.items()):
        # numpy has read the environment already.
        again = [sys.executable, "-m", "locus.routing.speed", *(arguments or sys.argv[1:])]
        return subprocess.run(again, env={**os.environ, **_ONE_THREAD}, check=False).returncode
    if options.quick:
        options = replace(options, repetitions=min(options.repetitions, 2))

    def tell(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    result = run(options, tell)
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if given.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
