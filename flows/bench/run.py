"""The runner: subjects one after another, a process each; what was measured is kept at once."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.bench.child import read
from flows.bench.machine import machine, versions
from flows.bench.rows import Row, Say, Side, Size
from flows.bench.subjects import Subject
from locus.durable import whole_file

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Nothing is fetched while time is taken, and no library speaks between the lines of progress.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}
HEAD = "| what | ours | beside | times as fast | goal |\n|---|---|---|---|---|"


@dataclass
class Report:
    """What was measured, as far as it has come.

    Attributes:
        size: how much is measured.
        machine: what on.
        versions: of what is measured.
        rows: by subject.
        failed: why, by subject; rows that came before the failure are kept.
        peak_mb: peak resident memory of each subject's process.
        at: when it began, UTC.
    """

    size: Size
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def write(self, path: Path) -> None:
        """Write it as JSON; each row with the medians and the ratio that follow from it."""
        told = asdict(self)
        told["rows"] = {
            name: [{**asdict(row), "ratio": row.ratio} for row in rows]
            for name, rows in self.rows.items()
        }
        with whole_file(path) as stream:
            stream.write(json.dumps(told, indent=1).encode() + b"\n")


def run(
    subjects: Mapping[str, Subject],
    size: Size,
    say: Say,
    tell: Say,
    *,
    out: Path | None = None,
    data: Path | None = None,
) -> Report:
    """Measure subjects; one that fails is named, and the others go on.

    Args:
        subjects: what to measure, by name.
        size: how much of it.
        say: takes the lines of the result, Markdown.
        tell: takes progress.
        out: written after every row.
        data: folder of real evaluation results; None takes ``LOCUS_DATA``, then ``../shared/data``.

    Raises:
        OSError: ``out`` can't be written; told before anything is measured.
    """
    report = Report(size, machine(), versions())
    if out:
        report.write(out)
    say(_heading(report))
    for name, subject in subjects.items():
        tell(f"{name}: {subject.about}")
        say(f"\n{name}: {subject.about}\n\n{HEAD}")
        report.rows[name] = []
        with tempfile.TemporaryDirectory(prefix="locus-bench-") as folder:
            _measure(name, subject, Path(folder), report, say, out, data)
        if why := report.failed.get(name):
            tell(f"{name}: failed: {why}")
        say(f"\nPeak memory of {name}: {report.peak_mb[name]:,.0f} MB")
        if out:
            report.write(out)
    return report


def _measure(
    name: str,
    subject: Subject,
    folder: Path,
    report: Report,
    say: Say,
    out: Path | None,
    data: Path | None,
) -> None:
    environment = {**os.environ, **_QUIET}
    if subject.threads:
        environment |= dict.fromkeys(_THREADS, str(subject.threads))
    if data:
        environment["LOCUS_DATA"] = str(data.resolve())
    command = [sys.executable, "-m", "flows.bench.child", name, subject.module, report.size]
    with subprocess.Popen(
        [*command, str(folder)], stdout=subprocess.PIPE, env=environment
    ) as child:
        try:
            assert child.stdout is not None  # noqa: S101  it is a pipe
            for line in child.stdout:
                found = read(line)
                if isinstance(found, str):
                    report.failed[name] = found
                    continue
                report.rows[name].append(found)
                say(line_of(found))
                if out:
                    report.write(out)
            # Not `wait`: this one also tells what memory it took.
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            child.kill()
            raise
    report.peak_mb[name] = usage.ru_maxrss / 1024
    if child.returncode and name not in report.failed:
        report.failed[name] = _how_it_ended(child.returncode)


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"its process ended with exit status {status}"
    killed = f"its process was ended by {signal.Signals(-status).name}"
    return killed + (", perhaps for want of memory" if -status == signal.SIGKILL else "")


def _heading(report: Report) -> str:
    on = report.machine
    threads = ", ".join(f"{name}={value}" for name, value in on["threads"].items())
    return (
        f"{report.at}, {report.size}: {on['cpu']}, {on['cores']} cores, {on['memory_gb']} GB, "
        f"GPU: {on['gpu']}, {on['system']}; load {on['load']}{threads and '; ' + threads}\n"
        + ", ".join(f"{name} {number}" for name, number in report.versions.items())
    )


def line_of(row: Row) -> str:
    """A row of the table, Markdown: medians, lowest and highest in brackets."""
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
    if row.notes.get("capped") and ratio:
        ratio = f"at least {ratio}"
    cells = (row.what, _side(row.ours), _side(row.peer) if row.peer else "", ratio, row.goal)
    line = "| " + " | ".join(cells) + " |"
    notes = "; ".join(f"{name}: {_number(value)}" for name, value in row.notes.items())
    return line + (f"\n| \u21b3 {notes} | | | | |" if notes else "")


def _side(side: Side) -> str:
    """What ran, how long it took and, where that says more, how much of it a second."""
    spread = (
        "" if len(side.seconds) == 1 else f" ({_s(min(side.seconds))} to {_s(max(side.seconds))})"
    )
    rate = "" if side.work == 1 else f", {side.per_second:,.0f} {side.unit}/s"
    memory = "" if side.peak_mb is None else f", {side.peak_mb:,.0f} MB"
    return f"{side.label}: {_s(side.median_s)}{spread}{rate}{memory}"


def _s(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
