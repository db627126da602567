"""Every file of a snapshot that is there for another tool."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from locus.publication.content import SnapshotContent
from locus.publication.emit.litellm import litellm_yaml
from locus.publication.emit.projector import write_projector
from locus.publication.emit.semantic_router import semantic_router_yaml
from locus.publication.emit.served import served

LITELLM = Path("routing", "litellm.yaml")
SEMANTIC_ROUTER = Path("routing", "semantic-router.yaml")


def write_emitted(
    content: SnapshotContent,
    table: pl.DataFrame,
    words: Mapping[str, Sequence[str]],
    chains: Mapping[str, Sequence[str]],
    folder: Path,
) -> None:
    """Write them into a snapshot's folder.

    Args:
        content: what is published.
        table: the routing table.
        words: words of each topic.
        chains: for each model its stand-ins, nearest first.
        folder: the snapshot; its folders ``routing`` and ``similarity`` are there.
    """
    known = served(table, content.endpoints)
    _write(folder / LITELLM, litellm_yaml(known, chains))
    _write(folder / SEMANTIC_ROUTER, semantic_router_yaml(known, words))
    write_projector(content.models, content.z_Md, folder / "similarity")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
