"""The `locus` command line: `main` is the console script.

Commands import what they need when they run, so that `--help`, `status` and `sql` start quickly.
"""

from flows.cli.app import app, main

__all__ = ["app", "main"]
