"""Who runs: the process of a pipeline run, and whether a process is still there."""

import os
import socket
import sys
from functools import cache
from pathlib import Path

from warehouse.leases import Owner


def this_run(what: str | None = None) -> Owner:
    """Who this process is.

    Args:
        what: what it does; by default the flow run or the command that it is.
    """
    flow_run_id = None
    if "prefect" in sys.modules:  # else this is no flow run, and importing it takes seconds
        from prefect.runtime import flow_run

        flow_run_id = flow_run.get_id()
        if what is None and flow_run_id:
            what = f"{flow_run.get_flow_name()} (flow run {flow_run.get_name()})"
    return Owner(
        what=what or _command(),
        flow_run_id=flow_run_id,
        host=socket.gethostname(),
        machine=machine(),
        pid=os.getpid(),
        process_start=_started(os.getpid()) or "",
    )


def gone(on_machine: str, pid: int, process_start: str) -> bool:
    """Whether a process has certainly ended; False where that can't be known from here.

    Args:
        on_machine: `machine` of the process.
        pid: its number.
        process_start: when it was started, so that a number given away again isn't taken for it.
    """
    if not on_machine or on_machine != machine():
        return False
    found = _started(pid)
    return found is None or bool(found and process_start and found != process_start)


@cache
def machine() -> str:
    """This machine since its last start, and its numbering of processes; empty if unknown.

    A host's name would not do: containers of one machine may share it and number their processes
    each for itself, and two machines may be called alike.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        import psutil

        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _started(pid: int) -> str | None:
    """When a process was started, as its system counts.

    Returns:
        None if there is no such process, or nothing of it but its exit status; empty if it isn't
        to be known.
    """
    try:
        # Counted from the start of the machine: a clock that is set changes nothing.
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except OSError:
        pass
    import psutil  # only where the system's own files don't say it: it starts slowly

    if not psutil.pid_exists(pid):
        return None
    if Path("/proc/self/stat").exists():
        return ""  # another user's, hidden from this one
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return ""


def _command() -> str:
    """The command without its arguments, which may be anybody's business."""
    name = Path(sys.argv[0]).name or "python"
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    return f"{name} {word}" if word.isalpha() else name
