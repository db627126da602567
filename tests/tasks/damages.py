"""Ways to damage a published snapshot so that its bytes are as its manifest says.

`DAMAGES` has, by a name, the file that the error must name, the damage, and what the error says.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import yaml
from safetensors.numpy import load_file, save_file

from locus.routing import predictor as predictors
from locus.snapshots import Snapshot, building_folder, seal

Damage = Callable[[Path], object]


def sealed_again(snapshot: Snapshot, published: Path, damage: Damage) -> Snapshot:
    """A copy that was damaged before it was sealed, so that every byte is as the manifest says."""
    building = building_folder(published)
    shutil.copytree(snapshot.folder, building, dirs_exist_ok=True)
    (building / "manifest.json").unlink()
    damage(building)
    own = {"schema_version", "snapshot_id", "created_at", "files"}
    facts = {name: value for name, value in snapshot.manifest.items() if name not in own}
    return seal(building, facts, datetime.now(UTC))


def rows(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        change(pl.read_parquet(path)).write_parquet(path)

    return damage


def at(row: int, **values: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Other values in one row."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        picked = pl.int_range(pl.len()) == row
        return frame.with_columns(
            pl.when(picked)
            .then(pl.lit(value, dtype=frame.schema[name]))
            .otherwise(pl.col(name))
            .alias(name)
            for name, value in values.items()
        )

    return change


def document(name: str, change: Callable[[Any], object]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        plain = name.endswith(".json")
        content = json.loads(path.read_text()) if plain else yaml.safe_load(path.read_text())
        change(content)
        path.write_text(json.dumps(content) if plain else yaml.safe_dump(content))

    return damage


def text(name: str, old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_text(encoding="utf-8")
        assert old in content
        (folder / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return damage


def write(name: str, content: str) -> Damage:
    return lambda folder: (folder / name).write_text(content)


def arrays(name: str, key: str, factor: float) -> Damage:
    def damage(folder: Path) -> None:
        content = load_file(folder / name)
        content[key] = content[key] * np.float32(factor)
        save_file(content, folder / name)

    return damage


def database(sql: str) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "warehouse.duckdb"
        path.chmod(0o644)
        with duckdb.connect(str(path)) as con:
            con.execute(sql)

    return damage


def another_map(folder: Path) -> None:
    """A predictor that computes its own test vectors, but is not the one of the routing table."""
    where = folder / "routing" / "predictor"
    old: Any = predictors.read(where)
    examples = load_file(where / "test_vectors.safetensors")
    other = replace(old, calibration=replace(old.calibration, intercept=1.0))
    predictors.write(other, examples["embeddings"], examples["features"], where)


def another_place(folder: Path) -> None:
    """One place is another one, and distances are as before."""
    path = folder / "similarity" / "embeddings.parquet"
    frame = pl.read_parquet(path)
    z_Md = np.asarray(frame["vector"].to_list(), np.float32)
    z_Md[0] *= 30
    frame.with_columns(vector=pl.Series(z_Md.tolist(), dtype=pl.List(pl.Float32))).write_parquet(
        path
    )


def short(frame: pl.DataFrame) -> pl.DataFrame:
    vector = frame["vector"].to_list()
    vector[2] = vector[2][:-1]
    return frame.with_columns(vector=pl.Series(vector, dtype=pl.List(pl.Float32)))


def nan(frame: pl.DataFrame) -> pl.DataFrame:
    vector = frame["vector"].to_list()
    vector[2][1] = float("nan")
    return frame.with_columns(vector=pl.Series(vector, dtype=pl.List(pl.Float32)))


TABLE, DOC = "routing/table.parquet", "routing/table.json"
PLACES, PAIRS, NEAREST = (f"similarity/{n}.parquet" for n in ("embeddings", "pairs", "nearest"))
TENSORS, METADATA = "similarity/tensors.tsv", "similarity/metadata.tsv"
CANNED, REPORT = "routing/canned.json", "similarity/report.html"
LITELLM, SEMANTIC = "routing/litellm.yaml", "routing/semantic-router.yaml"
PREDICTOR = "routing/predictor"

DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "no table": (TABLE, write(TABLE, "id,rank"), "can't be read"),
    "no p": (TABLE, rows(TABLE, lambda f: f.drop("p_correct")), "lacks the column p_correct"),
    "p as text": (
        TABLE, rows(TABLE, lambda f: f.cast({"p_correct": pl.String})), "of type String, not Fl",
    ),
    "p too large": (TABLE, rows(TABLE, at(0, p_correct=1.5)), r"p_correct must be in \[0, 1\]"),
    "p is NaN": (
        TABLE, rows(TABLE, at(0, p_correct=float("nan"))), r"p_correct must be in \[0, 1\]",
    ),
    "bound above p": (TABLE, rows(TABLE, at(3, lower_bound=1.0)), "must not be above p_correct"),
    "a rank twice": (TABLE, rows(TABLE, at(1, rank=1)), "ranks of a bucket must run from 1"),
    "ranked wrongly": (
        TABLE, rows(TABLE, at(0, p_correct=0.0, lower_bound=0.0)), "must have the better rank",
    ),
    "a row is gone": (TABLE, rows(TABLE, lambda f: f.slice(1)), "each of 12 models once"),
    "a stranger": (TABLE, rows(TABLE, at(5, model_id="org/x")), "'org/x', which is no model"),
    "free of charge": (
        TABLE, rows(TABLE, at(5, price_in_usd_per_mtok=-1.0)), "price_in_usd_per_mtok must be 0",
    ),
    "one more field": (
        DOC, document(DOC, lambda d: d["buckets"]["sums"].update(x=1)), r"at \$.buckets.sums",
    ),
    "another best": (
        DOC, document(DOC, lambda d: d["buckets"]["sums"].update(best="org/m1")),
        "best of bucket 'sums' is 'org/m1'",
    ),
    "another best for the money": (
        DOC, document(DOC, lambda d: d["buckets"]["all"].update(best_for_the_money="org/m7")),
        "best_for_the_money of bucket 'all' is 'org/m7'",
    ),
    "another fallback": (
        DOC, document(DOC, lambda d: d["buckets"]["all"]["fallbacks"].reverse()),
        "fallbacks of bucket 'all'",
    ),
    "another last digit": (
        DOC,
        document(DOC, lambda d: d["buckets"]["all"]["models"][4].update(observed_accuracy=0.123)),
        "observed_accuracy must be the same as in routing/table.parquet; 1 rows",
    ),
    "no bucket": (DOC, document(DOC, lambda d: d["buckets"].pop("sums")), "bucket 'sums' is not"),
    "a far stand-in": (
        DOC, document(DOC, lambda d: d["stand_ins"]["org/m0"].reverse()),
        "stand_ins of 'org/m0' are not its nearest",
    ),
    "no schema": ("routing/table.schema.json", write("routing/table.schema.json", '{"type": 7}'),
                  "is no JSON Schema"),
    "no topics": (
        "routing/buckets.safetensors", lambda f: (f / "routing/buckets.safetensors").unlink(),
        "is missing, and routing/table.parquet has",
    ),
    "topics askew": (
        "routing/buckets.safetensors", arrays("routing/buckets.safetensors", "centres", 2),
        "no unit vector",
    ),
    "a place is NaN": (PLACES, rows(PLACES, nan), "vector of 'org/m10' is not finite"),
    "a short place": (PLACES, rows(PLACES, short), "several widths, as that of 'org/m10'"),
    "a model is gone": (PLACES, rows(PLACES, lambda f: f.slice(1)), "has 11 models, and the manif"),
    "a model twice": (PLACES, rows(PLACES, at(1, model_id="org/m0")), "is there twice"),
    "a place elsewhere": (NEAREST, another_place, "must be that of the places"),
    "a distance": (PAIRS, rows(PAIRS, at(0, euclidean_distance=0.5)), "must be that of the places"),
    "no distance": (PAIRS, rows(PAIRS, at(0, euclidean_distance=None)), "must be that of the pl"),
    "a pair is gone": (PAIRS, rows(PAIRS, lambda f: f.slice(1)), "has 65 pairs, and 12 models"),
    "a neighbour is gone": (NEAREST, rows(NEAREST, lambda f: f.slice(1)), "must have 10 neigh"),
    "the model itself": (
        NEAREST, rows(NEAREST, at(0, neighbour_id="org/m0", euclidean_distance=0.0)),
        "others than the model",
    ),
    "a row too few": (TENSORS, lambda f: (f / TENSORS).write_text("1.0\t2.0\n"), "has 1 rows, and"),
    "another number": (TENSORS, text(TENSORS, "\t", "e1\t"), "has other numbers than"),
    "another name": (METADATA, text(METADATA, "org/m10", "org/x"), "names 'org/x' where"),
    "pointing nowhere": (
        "similarity/projector_config.pbtxt",
        text("similarity/projector_config.pbtxt", "tensors.tsv", "tensor.tsv"),
        "does not point to tensors.tsv",
    ),
    "no YAML": (LITELLM, write(LITELLM, "model_list: [\n"), "can't be read"),
    "no list": (LITELLM, document(LITELLM, lambda d: d.pop("model_list")), "expected form: KeyErr"),
    "a stranger's address": (
        LITELLM, document(LITELLM, lambda d: d["model_list"][0].update(model_name="org/x")),
        "model_list names 'org/x'",
    ),
    "an alias of nobody": (
        LITELLM,
        document(LITELLM, lambda d: d["router_settings"]["model_group_alias"].update(b="org/m9")),
        "model_group_alias names 'org/m9', which the file gives no address of",
    ),
    "a score too high": (
        SEMANTIC,
        document(
            SEMANTIC,
            lambda d: d["routing"]["signals"]["domains"][0]["model_scores"][0].update(score=1.1),
        ),
        r"is 1.1, which is not in \[0, 1\]",
    ),
    "a decision for a stranger": (
        SEMANTIC,
        document(
            SEMANTIC, lambda d: d["routing"]["decisions"][0]["modelRefs"][0].update(model="org/x")
        ),
        "decision '.*' names 'org/x'",
    ),
    "no signal": (
        SEMANTIC,
        document(SEMANTIC, lambda d: d["routing"]["signals"]["domains"].clear()),
        "asks a signal that is not there",
    ),
    "half a page": (REPORT, text(REPORT, '"models":{', '"models":{{'), "expected form: JSONDecod"),
    "a page without a model": (REPORT, text(REPORT, '"id":["org/m0",', '"id":['), "holds 11 mod"),
    "no drawing": (
        REPORT, text(REPORT, 'id="plotly">', 'id="plotly">AAAA'), "program can't be unpacked",
    ),
    "another count": (
        "similarity/summary.md", text("similarity/summary.md", "12 models", "13 models"),
        "doesn't say 12 models",
    ),
    "other weights": (
        PREDICTOR, arrays(f"{PREDICTOR}/predictor.safetensors", "text.weights_Lj", 1.5),
        "off its own test vectors",
    ),
    "another predictor": (CANNED, another_map, "when the snapshot was built"),
    "another choice": (
        CANNED,
        document(CANNED, lambda d: d["queries"][3]["choices"][1].update(p_correct=0.01)),
        "query 'reference query 4' went to",
    ),
    "another query": (
        CANNED, document(CANNED, lambda d: d["queries"][0].update(features=[1.0] * 3)),
        "expected form|can't be routed",
    ),
    "nothing canned": (CANNED, document(CANNED, lambda d: d["queries"].clear()), "holds no query"),
    "no database": (
        "warehouse.duckdb",
        lambda f: ((f / "warehouse.duckdb").unlink(), (f / "warehouse.duckdb").write_text("x")),
        "can't be queried",
    ),
    "a score is gone": (
        "warehouse.duckdb",
        database("DELETE FROM score WHERE rowid = (SELECT min(rowid) FROM score)"),
        "has 2159 scores, and the manifest counts 2160",
    ),
    "a place is gone": (
        "warehouse.duckdb",
        database("DELETE FROM model_embedding WHERE model_id = 'org/m3'"),
        "model 'org/m3' is not both placed",
    ),
    "a view is broken": (
        "warehouse.duckdb", database("DROP TABLE prediction; DROP TABLE canary"), "be queried",
    ),
}  # fmt: skip
