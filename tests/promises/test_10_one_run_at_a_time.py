"""Promise 10: one run at a time; a dead owner is taken over.

Owners on other machines, silent ones and ones that wake up: tests/tasks/test_lock.py.
"""

import json
import os
import signal
from pathlib import Path

import pytest
from nights import Pipeline, one_more, query

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_one_run_at_a_time(first_night: Pipeline, tmp_path: Path) -> None:
    night = one_more(first_night, tmp_path / "night")
    first = night.start("run", "nightly")
    assert first.stderr is not None
    assert any("queries to ask" in line for line in first.stderr)
    # It must not come to its end while the second looks, however slow the machine is.
    os.killpg(first.pid, signal.SIGSTOP)
    second = night.locus("run", "nightly")
    assert second.returncode == 1
    assert "another run holds" in second.stderr
    assert f"process {first.pid}" in second.stderr
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()

    third = night.locus("run", "nightly", "--dry-run")
    assert third.returncode == 0, third.stderr
    ((detail,),) = query(night, "SELECT detail FROM audit_log WHERE action = 'take over'")
    assert json.loads(str(detail))["why"] == "its process is gone"
    ((released,),) = query(night, "SELECT released_at IS NOT NULL FROM run_lease")
    assert released
