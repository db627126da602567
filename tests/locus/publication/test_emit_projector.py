"""Tables for TensorBoard's projector."""

import re
from pathlib import Path

import numpy as np
import polars as pl

from locus.publication.emit.projector import write_projector


def test_places_and_names_stay_in_order(tmp_path: Path) -> None:
    z_Md = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    models = pl.DataFrame(
        {
            "model_id": ["org/a", "b", "c"],
            "org": ["org", None, "tab\there\nand\u2028there"],
            "family": ["", None, "x"],
            "params_b": [1.5, None, 7.0],
            "n_scores": [3, 2, 1],
        }
    )
    write_projector(models, z_Md, tmp_path)
    config = (tmp_path / "projector_config.pbtxt").read_text()
    named = dict(re.findall(r'(\w+): "([^"]*)"', config))
    back = np.loadtxt(tmp_path / named["tensor_path"], delimiter="\t", dtype=np.float32)
    assert np.array_equal(back, z_Md)
    lines = (tmp_path / named["metadata_path"]).read_text().splitlines()
    header, *rows = [line.split("\t") for line in lines]
    assert header == ["model_id", "org", "family", "params_b", "n_scores"]
    assert rows == [
        ["org/a", "org", "unknown", "1.5", "3"],
        ["b", "unknown", "unknown", "unknown", "2"],
        ["c", "tab here and there", "x", "7.0", "1"],
    ]
