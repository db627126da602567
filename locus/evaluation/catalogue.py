"""The catalogue of queries: every document of the configured tasks, as one Parquet file.

Run as a process of its own (``python -m locus.evaluation.catalogue``), because loading lm-eval's
tasks takes seconds and memory that the pipeline need not spend.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import polars as pl

from locus import frames
from locus.evaluation.child import work
from locus.evaluation.questions import content
from locus.ids import split_of

log = logging.getLogger(__name__)


def read_catalogue(
    names: Sequence[str], folders: Sequence[Path]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tasks and their queries.

    A task that may never be asked (`harness.unsafe`) is left out, with a warning that says why.

    Returns:
        (tasks, queries) with `locus.frames.CATALOGUED_TASKS` and `QUERIES`; the split of a query
        follows from its id alone (`locus.ids.split_of`).

    Raises:
        HarnessError: an unknown task, or none that may be asked.
    """
    from locus.evaluation import harness

    task_rows, query_rows = [], []
    left_out: dict[str, str] = {}
    for name, task in harness.load_tasks(names, folders).items():
        if why := harness.unsafe(task):
            left_out[name] = why
            continue
        version = harness.task_version(task)
        metric, shots = harness.primary_metric(task)[0], harness.effective_fewshot(task)
        task_rows.append((name, version, "lm-eval", task.OUTPUT_TYPE, metric, shots))
        query_rows += [
            (
                q.query_id,
                name,
                version,
                None,
                split_of(q.query_id),
                q.prompt,
                q.choices,
                q.target,
                content(q.document),
                str(q.place),
            )
            for q in harness.questions(task)
        ]
    for name, why in left_out.items():
        log.warning("task %r is left out: %s", name, why)
    if left_out and not task_rows:
        name, why = next(iter(left_out.items()))
        raise harness.HarnessError(
            f"nothing is left to ask: task {name!r}: {why}; name other tasks in locus.toml"
        )
    return (
        pl.DataFrame(task_rows, schema=frames.CATALOGUED_TASKS, orient="row"),
        pl.DataFrame(query_rows, schema=frames.QUERIES, orient="row"),
    )


def main() -> int:
    """Write ``tasks.parquet`` and ``queries.parquet`` into a folder."""
    parser = argparse.ArgumentParser(prog="python -m locus.evaluation.catalogue")
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="task configs")
    parser.add_argument("task", nargs="+", help="tasks, groups or tags")
    options = parser.parse_args()

    def write(_: TextIO) -> None:
        tasks, queries = read_catalogue(options.task, options.folder)
        options.out.mkdir(parents=True, exist_ok=True)
        tasks.write_parquet(options.out / "tasks.parquet")
        queries.write_parquet(options.out / "queries.parquet")

    return work(write)


if __name__ == "__main__":
    sys.exit(main())
