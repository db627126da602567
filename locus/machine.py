"""What a measurement says of the machine that it ran on."""

import platform
from pathlib import Path


def cpu_name() -> str:
    """Name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
