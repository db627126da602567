"""A disk of a test's own, small or read-only: a tmpfs in a mount namespace.

What is to meet it runs as a process in that namespace; DuckDB resolves paths, so that the disk
can't be reached from outside by way of /proc.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kept_home import KeptHome

ROOT = Path(__file__).parents[2]


class Disk:
    """A mounted tmpfs with a copy of a home, in `home` below it.

    Attributes:
        folder: where processes of the namespace have it.
    """

    def __init__(self, pid: int, folder: Path) -> None:
        self.folder = folder
        self._enter = ["nsenter", f"--target={pid}", "--user", "--mount", "--preserve-credentials"]
        paths = [str(ROOT / name) for name in ("", "tests", "tests/tasks")]
        self._environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(paths), "PREFECT_API_URL": ""
        }  # fmt: skip

    def run(self, *command: str, to: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command there, its output to a file there where one is named."""
        shell = ["sh", "-c", f'"$@" > {to}', "sh"] if to else []
        return subprocess.run(
            [*self._enter, *shell, *command],
            env=self._environment,
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    def do(self, *command: str) -> None:
        """Run a command there that must end well."""
        done = self.run(*command)
        assert done.returncode == 0, done.stderr

    def copied(self, folder: Path) -> KeptHome:
        """The home as it is there now, copied to where this process sees it."""
        folder.mkdir()
        self.do("cp", "-r", str(self.folder / "home"), str(folder))
        for name in ("models.yaml", "locus.toml"):
            shutil.copy(self.folder.parent / name, folder)
        return KeptHome(folder / "home")


@contextmanager
def mounted(folder: Path, size: str, home: Path) -> Iterator[Disk]:
    """Mount a tmpfs and copy a home to it; skips where a machine allows no namespaces."""
    folder.mkdir()
    script = 'mount -t tmpfs -o size="$2" tmpfs "$1" && cp -r "$3" "$1/home" && echo && exec cat'
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        pytest.skip("there is no `unshare` here to mount a disk with")
    with subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(folder), size, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"\n":
            pytest.skip("this machine lets nobody mount a disk in a namespace")
        yield Disk(process.pid, folder)
        # Its input ends with this block, and so does it.
