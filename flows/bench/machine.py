"""What figures were measured on, so that they can be told from those of another machine."""

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from locus.machine import cpu_name

_PACKAGES = (
    "locus-map", "numpy", "scipy", "torch", "transformers", "sentence-transformers", "duckdb",
    "polars", "pyarrow", "prefect", "lm-eval", "onnxruntime",
)  # fmt: skip
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GB, GPU, system, load, and threads that the environment sets."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 1),
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that the time is spent in; those not there are left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _gpu(asked: Sequence[str] = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")) -> str:
    """Names of the GPUs; asked of the driver's own tool, since importing torch takes seconds."""
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "none"
    return ", ".join(filter(None, map(str.strip, said.splitlines()))) or "none"
