"""A process that reads parts of samples files for another one; see `lm_eval_parts`."""

import gc
import json
import marshal
import sys
from pathlib import Path

from locus.imports.lm_eval_documents import About, read_entries

DONE, FAILED = b"+", b"-"


def main() -> None:
    """Read the parts that standard input names, one a line, until it ends.

    Each is written to a file, and a byte on standard output says so; so does one at the start.
    """
    # Nothing that is read holds itself, and what is told is forgotten.
    gc.disable()
    _say(DONE)
    for line in sys.stdin:
        path, start, end, about, out = json.loads(line)
        try:
            entries = [
                (number, entry and (*entry[:-1], entry.document and tuple(entry.document)))
                for number, entry in read_entries(Path(path), About(*about), start, end)
            ]
            Path(out).write_bytes(marshal.dumps(entries))
            said = DONE
        except OSError:
            said = FAILED  # Who asked reads it again, and says what is wrong in its turn.
        _say(said)


def _say(byte: bytes) -> None:
    sys.stdout.buffer.write(byte)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
