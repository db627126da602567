"""Is a snapshot what it says it is? Every published file, opened as its users open it.

Belongs here: what can be told from a snapshot's files alone, without a database and without
computing it anew. Does not belong here: whether its bytes are those that were sealed
(`locus.snapshots.verify`), whether it is good enough to follow its parent (`locus.gates`).
"""

from locus.publication.checks.reading import Checked, CheckFailedError
from locus.publication.checks.run import check_files, check_whole, missing_since

__all__ = ["CheckFailedError", "Checked", "check_files", "check_whole", "missing_since"]
