"""What else grows, a size a call: learning, choosing, encoding, importing, reading back.

Each function makes its own material of that size, which is not timed, and gives the seconds of
every repetition. `flows.bench.growth` calls them in a process each.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.bench.rows import timed
from flows.bench.world import made

if TYPE_CHECKING:
    from tasks.importing import Kind

_QUERIES = 1_000
_SPLITS = ("train", "val", "test")


def learn(size: int, repeats: int) -> list[float]:
    """Learn a map by the closed form from ``size`` models' answers to as many queries."""
    from locus.bank import Bank
    from locus.embedding.factors import FactorPlacement

    held = max(size // 8, 8)
    world = made(size, size + held)
    order = np.random.default_rng(0).permutation(size + held)
    train, val = np.sort(order[:size]), np.sort(order[size:])
    bank = Bank(
        world.queries.take(train), world.values_MQ[:, train],
        world.queries.take(val), world.values_MQ[:, val],
    )  # fmt: skip
    return _times(lambda: FactorPlacement().fit(bank, 0), repeats)


def choose(size: int, repeats: int) -> list[float]:
    """Choose among ``size`` models for 4,096 queries."""
    from locus.routing.speed import Options, sides

    options = Options()
    router, _, x_Tf = sides("factors", size, options.bank, options.seed)
    return _times(lambda: router.select(x_Tf), repeats)


def encode(size: int, repeats: int) -> list[float]:
    """Encode ``size`` new texts."""
    from flows.bench.encoding import texts
    from locus.encoding.text import TextEncoder

    encoder = TextEncoder()
    fresh = iter(range(1, repeats + 2))
    return _times(lambda: encoder.encode(texts(size, next(fresh))), repeats)


def logs(size: int, repeats: int) -> list[float]:
    """Import lm-eval logs of ``size`` documents."""
    from flows.bench.importing import write_logs

    with _folder() as folder:
        write_logs(folder / "lm-eval", size)
        return _imports(folder, "lm-eval", repeats)


def matrix(size: int, repeats: int) -> list[float]:
    """Import a matrix of ``size`` scores."""
    from flows.bench.importing import write_matrix

    with _folder() as folder:
        write_matrix(folder / "matrix", size // _QUERIES, _QUERIES)
        return _imports(folder, "matrix", repeats)


def read_back(size: int, repeats: int) -> list[float]:
    """Read the matrix of ``size`` imported scores for training."""
    from flows.bench.importing import new_home, write_matrix
    from locus.matrix import ScoreMatrix
    from tasks.importing import import_folder
    from warehouse.store import Warehouse

    with _folder() as folder:
        write_matrix(folder / "matrix", size // _QUERIES, _QUERIES)
        settings = new_home(folder, "home")
        import_folder(settings, "matrix", folder / "matrix")
        with Warehouse.open(settings.warehouse) as warehouse:
            scores = warehouse.scores
            return _times(
                lambda: ScoreMatrix.from_frame(scores.training_scores(splits=_SPLITS)), repeats
            )


def _imports(folder: Path, kind: "Kind", repeats: int) -> list[float]:
    """Seconds to import a folder, each time into an empty warehouse that is there already."""
    from flows.bench.importing import new_home
    from tasks.importing import import_folder

    homes = [new_home(folder, f"home-{number}") for number in range(repeats + 1)]
    fresh = iter(homes)
    return _times(lambda: import_folder(next(fresh), kind, folder / kind), repeats)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="locus-bench-") as name:
        yield Path(name)


def _times(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of every repetition, after one that is not timed."""
    run()
    return [timed(run) for _ in range(repeats)]
