"""A small pool for the benchmark, and one cache of encodings for all folders."""

from pathlib import Path

import numpy as np
import pytest
from benchmark_folders import models, scores

from locus.bank import Queries
from locus.benchmark.data import BenchmarkData


@pytest.fixture
def small() -> BenchmarkData:
    """16 pool models, 8 held out; 50 training, 15 validation, 25 test queries."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 90)
    phi = (np.eye(6)[kind] + 0.1 * rng.normal(size=(90, 6))).astype(np.float32)
    values = scores(24, kind)
    parts = {"train": slice(0, 50), "val": slice(50, 65), "test": slice(65, 90)}
    queries = {n: Queries(phi[s], tuple(f"b{k}" for k in kind[s])) for n, s in parts.items()}
    pool, held = models(values[:16], parts, "pool"), models(values[16:], parts, "held")
    return BenchmarkData("small", "d1", "e1", queries, pool, held)


@pytest.fixture(scope="session")
def encodings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of encodings: the folders have the same texts."""
    return tmp_path_factory.mktemp("encodings")
