"""The skills as lm-eval tasks: one YAML a skill, all under the tag ``locus_zoo``."""

from pathlib import Path

FOLDER = Path(__file__).parent
"""Give this to lm-eval's ``TaskManager(include_path=...)``."""
TAG = "locus_zoo"
