"""One piece of work in a process of its own, for its peak memory."""

import importlib
import json
import os
import subprocess
import sys
from typing import Any


class ApartError(RuntimeError):
    """The process failed; its traceback is on standard error."""


def apart(module: str, function: str, **arguments: Any) -> tuple[Any, float]:
    """Call a function in a new process.

    Args:
        module: where it is.
        function: its name; arguments and result are JSON values.
        arguments: by name.

    Returns:
        What it returned, and the peak resident memory of its process in MB.

    Raises:
        ApartError: it did not return.
    """
    command = [sys.executable, "-m", "flows.bench.apart", module, function, json.dumps(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None  # noqa: S101  it is a pipe
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise ApartError(f"{module}.{function} {arguments} ended with status {child.returncode}")
    return json.loads(said), usage.ru_maxrss / 1024


if __name__ == "__main__":
    result = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    called = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    result.write(json.dumps(called(**json.loads(sys.argv[3]))))
    result.close()
