"""The process that measures one subject: rows go to standard output, one JSON object a line.

If it fails, the last line is ``{"failed": why}``, and the traceback is on standard error.

A process of its own gives each subject its own peak memory and threads, and one that runs out of
memory takes no other down with it.
"""

import json
import logging
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.bench.rows import Row, Side, Size
from flows.bench.subjects import Subject


def main(arguments: list[str]) -> int:
    """Measure: name, module, size and scratch folder are the arguments."""
    name, module, size, folder = arguments
    # Whatever else prints there must not come between the rows.
    rows = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(line: str) -> None:
        sys.stderr.write(f"{name}: {line}\n")
        sys.stderr.flush()

    def send(line: dict[str, Any]) -> None:
        rows.write(json.dumps(line) + "\n")
        rows.flush()

    # Importing `flows` makes them tell everything.
    for pipeline in ("locus", "warehouse"):
        logging.getLogger(pipeline).setLevel(logging.WARNING)
    try:
        for row in Subject(module, name).rows()(Size(size), Path(folder), tell):
            send(asdict(row))
    except Exception as error:
        traceback.print_exc()
        send({"failed": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def read(line: bytes) -> Row | str:
    """A row from its line, or why it failed."""
    told: dict[str, Any] = json.loads(line)
    if "failed" in told:
        return str(told["failed"])
    peer = told["peer"] and _side(told["peer"])
    return Row(**{**told, "ours": _side(told["ours"]), "peer": peer})


def _side(told: dict[str, Any]) -> Side:
    return Side(**{**told, "seconds": tuple(told["seconds"])})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
