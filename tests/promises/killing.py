"""Killing a night at a chosen instant, and telling what it was doing when it died."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from nights import Pipeline

# What a night does, in this order, and what of a line on standard error begins it. "recording" is
# also encoding and placing, which begin without a word: `state_of` tells them apart afterwards.
BEGINS = {
    "starting": None,
    "loading": "queries to ask",
    "asking": ": 0 of ",
    "recording": None,  # once every model has answered everything
    "learning": "learning a map",
    "predicting": "placed ",
    "building": "predicted ",
    "switching": "gate choices",
    "ending": "published ",
}
PHASES = list(BEGINS)
# What is seen on the disk alone.
SIGHTS = {
    "a part": "parts/*/.*",
    "the warehouse": "warehouse.duckdb.wal",
    "the pointer": "published/.current-*",
}
_PLANNED = re.compile(r"queries to ask (\d+) of")
_ANSWERED = re.compile(r"(\S+): (\d+) of (\d+) queries")


@dataclass(frozen=True)
class Instant:
    """When to kill.

    Attributes:
        phase: once this has begun,
        seconds: so long after that,
        sight: and, if it is named, one of SIGHTS is being written
        times: for the so manyeth time.
    """

    phase: str
    seconds: float = 0
    sight: str = ""
    times: int = 1

    def order(self) -> tuple[int, float]:
        """Key that sorts instants as they come."""
        return PHASES.index(self.phase), self.seconds


@dataclass
class Night:
    """A night that is going on, and when each phase of it began (seconds since its start)."""

    pipeline: Pipeline
    began: dict[str, float] = field(default_factory=lambda: {"starting": 0.0})
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.pipeline.folder / "state"
        # A killed writer leaves its temporary file, and nobody has written by seeing it.
        self._left = {path for sight in SIGHTS for path in self.home.glob(SIGHTS[sight])}
        self._n_models, self._answered = 0, set[str]()
        self.started = time.monotonic()
        self.process = self.pipeline.start("run", "nightly")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self.said.append(line.rstrip())
            if planned := _PLANNED.search(line):
                self._n_models = int(planned[1])
            if (answered := _ANSWERED.search(line)) and answered[2] == answered[3]:
                self._answered.add(answered[1])
                if len(self._answered) == self._n_models:
                    self._begin("recording")
            for phase in PHASES[PHASES.index(self.phase) + 1 :]:
                mark = BEGINS[phase]
                if mark and mark in line:
                    self._begin(phase)
                    break
            if planned and not self._n_models:
                self._begin("recording")

    def _begin(self, phase: str) -> None:
        self.began[phase] = time.monotonic() - self.started

    @property
    def phase(self) -> str:
        """What it does, as far as it has said."""
        return max(list(self.began), key=PHASES.index)

    def end(self) -> int:
        """Wait for its end; its exit status."""
        status = self.process.wait()
        self._reader.join()
        return int(status)

    def kill_at(self, instant: Instant) -> str | None:
        """Kill it and say what it was doing; None if it ended before.

        One that has come further than the instant is killed at once, as there will be no other.
        """
        seen, there = 0, False
        while self.process.poll() is None:
            if PHASES.index(self.phase) > PHASES.index(instant.phase):
                break
            start = self.began.get(instant.phase)
            if start is not None and time.monotonic() - self.started >= start + instant.seconds:
                before, there = there, not instant.sight or self._sees(instant.sight)
                seen += there and not before
                if seen >= instant.times:
                    break
            time.sleep(0.0005 if instant.sight else 0.005)
        sights = [sight for sight in SIGHTS if self._sees(sight)]
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self._was_doing(sights) if self.end() == -signal.SIGKILL else None

    def _sees(self, sight: str) -> bool:
        return not set(self.home.glob(SIGHTS[sight])) <= self._left

    def _was_doing(self, sights: list[str]) -> str:
        phase = self.phase
        if phase == "recording":
            n_open, n_missing = state_of(self.home)
            phase = "recording" if n_open else "encoding" if n_missing else "placing"
        return " and ".join([phase, *(f"writing {sight}" for sight in sights)])


def undisturbed(pipeline: Pipeline) -> Pipeline:
    """Let a night come to its end and note when each phase of it began."""
    night = Night(pipeline)
    assert night.end() == 0, night.said
    (pipeline.folder / "began.json").write_text(json.dumps(night.began))
    return pipeline


def began(pipeline: Pipeline) -> dict[str, float]:
    """When each phase of an undisturbed night began, in seconds since its start."""
    found: dict[str, float] = json.loads((pipeline.folder / "began.json").read_text())
    return found


def state_of(home: Path) -> tuple[int, int]:
    """How many evaluation runs are open and how many queries have no vector, of a dead night."""
    with tempfile.TemporaryDirectory() as folder:
        for file in ("warehouse.duckdb", "warehouse.duckdb.wal"):
            with suppress(FileNotFoundError):
                shutil.copy(home / file, folder)
        with duckdb.connect(str(Path(folder) / "warehouse.duckdb")) as con:
            sql = "SELECT count(*) FROM evaluation_run WHERE status = 'running' UNION ALL "
            sql += "SELECT count(*) FROM query ANTI JOIN query_encoding USING (query_id)"
            n_open, n_missing = con.sql(sql).fetchall()
            return int(n_open[0]), int(n_missing[0])


def instants(n: int, times: dict[str, float], draw: random.Random) -> Iterator[Instant]:
    """Instants of a night, in the order in which they come.

    Half are spread evenly over an undisturbed night's time, which mostly goes into imports; the
    others evenly over what it does.

    Args:
        n: how many.
        times: when each phase of the undisturbed night began, in seconds.
        draw: random numbers.
    """
    starts = sorted(times.items(), key=lambda item: item[1])
    length = {a: end - start for (a, start), (_, end) in itertools.pairwise(starts)}

    def within(phase: str) -> Instant:
        return Instant(phase, draw.uniform(0, length[phase]))

    aims = [
        Instant("asking", draw.uniform(0, length["asking"]) / 2, "a part"),
        Instant("recording", 0, "the warehouse"),
        Instant("switching", 0, draw.choice(["the warehouse", "the pointer"])),
        *(within(phase) for phase in PHASES[2:-1] if phase in length),
        Instant("starting", 0, "the warehouse", draw.randint(1, 9)),
    ]
    chosen = []
    for i in range(n):
        if i % 2:
            at = draw.uniform(0, starts[-1][1])
            phase, start = [item for item in starts if item[1] <= at][-1]
            chosen.append(Instant(phase, at - start))
        else:
            chosen.append(aims[i // 2 % len(aims)])
    yield from sorted(chosen, key=Instant.order)
