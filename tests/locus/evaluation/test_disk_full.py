"""A disk that is full for real: whole parts stay, nothing half is left, the error says what to do.

The disk is a tmpfs of 128 kB in a mount namespace of its own, reached through /proc. Where a
machine allows no namespaces, the operating system's limit on the size of a file stands in for it:
the same write fails in the same place, with `File too large`.
"""

import errno
import math
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from locus.evaluation.launch import EvaluationFailedError, Progress, evaluate
from locus.evaluation.parts import PartNotWrittenError, write_part
from locus.evaluation.request import EvaluationRequest


class FullDisk:
    """A folder on a small disk that can be filled and emptied."""

    def __init__(self, folder: Path, limited: bool) -> None:
        self.folder = folder
        self.limited = limited
        self.step = "ulimit -f" if limited else "make room"
        self.said = os.strerror(errno.EFBIG if limited else errno.ENOSPC)
        self._filler = folder / "filler"
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, size: int, left: int = 0) -> None:
        """Leave room for so many files of a size in bytes; for none where files are limited."""
        if self.limited:
            # For this process and those that it starts; a worker's log until then is smaller.
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, self._before[1]))
            return
        room = os.statvfs(self.folder)
        blocks = room.f_bavail - left * math.ceil(size / room.f_frsize)
        self._filler.write_bytes(b"x" * (blocks * room.f_frsize))

    def make_room(self) -> None:
        """Undo it."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A tmpfs of 128 kB that lives as long as the process that mounted it; None if not allowed."""
    folder.mkdir()
    mount = 'mount -t tmpfs -o size=128k tmpfs "$1" && echo mounted && exec cat'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", str(folder)]
    if shutil.which(command[0]) is None:
        yield None
        return
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as holder:
        assert holder.stdout is not None
        mounted = holder.stdout.readline() == b"mounted\n"
        yield Path(f"/proc/{holder.pid}/root{folder}") if mounted else None
        # Its input ends with this block, and so does it.


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FullDisk]:
    with small_disk(tmp_path / "disk") as mounted:
        full = FullDisk(mounted or tmp_path / "disk", limited=mounted is None)
        yield full
        full.make_room()


def row(i: int) -> dict[str, object]:
    return {
        "model_id": "org/m", "revision": "r", "query_id": f"q{i}", "status": "ok", "score": 1.0,
        "metric": "acc", "filter": "none", "scored_at": datetime.now(UTC),
    }  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Files by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_parts_until_the_disk_is_full(disk: FullDisk) -> None:
    parts = disk.folder / "parts"
    for i in range(3):
        write_part([row(i)], parts / f"{i}.parquet")
    before = contents(parts)
    disk.fill((parts / "0.parquet").stat().st_size)
    with pytest.raises(PartNotWrittenError) as failure:
        write_part([row(3)], parts / "3.parquet")
    assert failure.value.reason == disk.said
    assert failure.value.path == parts / "3.parquet"
    said = str(failure.value)
    assert all(piece in said for piece in (disk.said, "3.parquet", str(parts), disk.step))
    assert failure.value.free_bytes == (None if disk.limited else 0)
    # Nothing half, no temporary file, and what was there is as it was.
    assert contents(parts) == before
    disk.make_room()
    write_part([row(3)], parts / "3.parquet")
    rows = pl.concat([pl.read_parquet(p) for p in sorted(parts.iterdir())])
    assert rows["query_id"].to_list() == ["q0", "q1", "q2", "q3"]


def test_a_folder_that_can_t_be_made_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PartNotWrittenError, match="check that folder"):
        write_part([row(0)], tmp_path / "file" / "0.parquet")


def test_a_worker_on_a_full_disk(
    disk: FullDisk, tmp_path: Path, tiny_model: Path, task_folder: Path, bank: pl.DataFrame
) -> None:
    def request(parts: Path) -> EvaluationRequest:
        return EvaluationRequest(
            run_id="run",
            model_id="org/tiny",
            revision="r1",
            backend="hf",
            args={"pretrained": str(tiny_model)},
            queries={"tiny_copy": bank.filter(task="tiny_copy").head(24)["query_id"].to_list()},
            parts=str(parts),
            task_folders=[str(task_folder)],
            chunk_size=4,
            device="cpu",
        )

    undisturbed = evaluate(request(tmp_path / "roomy"), tmp_path / "work-1", 120, threads=1)
    assert len(undisturbed) == 6
    # Some are there already, and there is room for one more.
    parts = disk.folder / "parts"
    parts.mkdir()
    for path in undisturbed[:2]:
        shutil.copyfile(path, parts / path.name)
    disk.fill(max(path.stat().st_size for path in undisturbed), left=1)
    with pytest.raises(EvaluationFailedError) as failure:
        evaluate(request(parts), tmp_path / "work-2", 120, threads=1)
    disk.make_room()
    kept = contents(parts)
    kept.pop("filler", None)
    names = {path.name for path in undisturbed}
    assert set(kept) <= names, "a temporary or half-written file is left"
    assert len(kept) == (2 if disk.limited else 3)
    answered = [pl.read_parquet(parts / name).height for name in kept]
    assert {path.name for path in failure.value.parts} == set(kept)
    log = failure.value.log_path.read_text()
    for piece in ("org/tiny", str(parts), disk.said, f"{sum(answered)} of 24", disk.step):
        assert piece in failure.value.reason, log
    assert "Traceback" not in log
    # The next run asks the rest, and only that.
    seen: list[Progress] = []
    again = evaluate(request(parts), tmp_path / "work-3", 120, threads=1, on_progress=seen.append)
    assert {path.name for path in again} == names
    # One event for each part that is there, then the model is loaded.
    assert [one.done for one in seen[: len(kept) + 1]][-2:] == [sum(answered)] * 2
    after = contents(parts)
    assert {name: after[name] for name in kept} == kept
    columns = ["query_id", "status", "score", "response"]
    assert read(parts, columns).equals(read(tmp_path / "roomy", columns))


def read(folder: Path, columns: list[str]) -> pl.DataFrame:
    """All rows of a folder's parts, by query."""
    return pl.concat([pl.read_parquet(p) for p in folder.iterdir()]).select(columns).sort(columns)
