"""Whether a file system has locks: without them nothing keeps two writers of one file apart."""

import errno
import fcntl
import tempfile
from pathlib import Path

_NONE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

WHAT_LACKS = "its file system has no locks, so that nothing would keep two runs apart"
WHERE_ELSE = (
    "put `home` on a disk of this machine, or mount it with locks (NFS 4; NFS 3 with its lock "
    "daemon)"
)
NO_LOCKS = f"{WHAT_LACKS}: {WHERE_ELSE}"
"""What to say of one that has none, after the name of a file or folder on it."""


def has_locks(folder: Path) -> bool:
    """Whether a file in a folder can be locked.

    Raises:
        OSError: no file can be made there.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NONE
    return True
