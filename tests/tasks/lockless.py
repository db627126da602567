"""Run a command for which the kernel has no file locks, as on some network file systems.

    lockless.py COMMAND ...

A filter of system calls (seccomp) answers each wish for a lock with ENOLCK; nobody's rights are
needed, and nothing else is changed.
"""

import ctypes
import errno
import fcntl
import os
import platform
import sys

_X86, _ARM = ("x86_64", 72, 73), ("aarch64", 25, 32)
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFD = 37, 38  # F_OFD_SETLK, F_OFD_SETLKW


class _Step(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte),
        ("k", ctypes.c_uint),
    ]  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = [("n", ctypes.c_ushort), ("steps", ctypes.POINTER(_Step))]


def without_locks() -> None:
    """Take locks away from this process and all that it starts."""
    _, nr_fcntl, nr_flock = _X86 if platform.machine() == _X86[0] else _ARM
    kinds = (fcntl.F_SETLK, fcntl.F_SETLKW, *_OFD)
    refused = len(kinds) + 5  # the last step
    steps = [
        (_LOAD, 0, 0, 0),  # number of the system call
        (_EQUAL, refused - 2, 0, nr_flock),
        (_EQUAL, 0, refused - 4, nr_fcntl),
        (_LOAD, 0, 0, 24),  # its second argument
        *[(_EQUAL, refused - at - 1, 0, kind) for at, kind in enumerate(kinds, 4)],
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.ENOLCK),
    ]
    made = (_Step * len(steps))(*[_Step(*step) for step in steps])
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(steps), made)
    for call in (
        (_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program), 0, 0),
    ):
        if libc.prctl(call[0], *map(ctypes.c_ulong, call[1:])):
            raise OSError(ctypes.get_errno(), "this kernel filters no system calls")


if __name__ == "__main__":
    without_locks()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the point of it
