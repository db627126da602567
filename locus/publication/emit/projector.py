"""TensorBoard's projector: the places as tables that its web page and its plugin read.

https://projector.tensorflow.org loads the two tables by hand; the plugin reads the three files of
the folder by ``tensorboard --logdir similarity``.
"""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from locus.publication.content import Array

TENSORS, METADATA, CONFIG = "tensors.tsv", "metadata.tsv", "projector_config.pbtxt"

_COLUMNS = ("model_id", "org", "family", "params_b", "n_scores")


def write_projector(models: pl.DataFrame, z_Md: Array, folder: Path) -> None:
    """Write the places and what is known of the models, in the same order.

    Args:
        models: M rows: model_id, org, family, params_b, n_scores.
        z_Md: their places.
        folder: where to.
    """
    # Nine digits give back the same float32.
    rows = ("\t".join(format(float(x), ".9g") for x in row) for row in z_Md)
    _write(folder / TENSORS, rows)
    named = models.select(_COLUMNS).iter_rows()
    _write(
        folder / METADATA,
        ("\t".join(_cell(value) for value in row) for row in (_COLUMNS, *named)),
    )
    (folder / CONFIG).write_text(
        'embeddings {\n  tensor_name: "models"\n'
        f'  tensor_path: "{TENSORS}"\n  metadata_path: "{METADATA}"\n}}\n',
        encoding="utf-8",
    )


def _cell(value: object) -> str:
    """A value on one line and without tabs; what isn't known is said so."""
    return "unknown" if value is None else " ".join(str(value).split()) or "unknown"


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
