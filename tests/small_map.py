"""A published folder in half a second: a real map of a few models, without a warehouse."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from locus.bank import Array, Bank, Queries
from locus.embedding.factors import FactorPlacement
from locus.embedding.maps import FactorMap
from locus.encoding import DEFAULT_ENCODER, Precision, TextEncoder, encoder_identity
from locus.encoding.surface import surface
from locus.publication.build import build
from locus.publication.content import SnapshotContent
from locus.publication.emit.endpoints import Endpoint
from locus.snapshots import Snapshot, building_folder, make_current, seal

SUMS = "What is {a} plus {b}, and what is {b} minus {a}?"
CAPITALS = "Which city is the capital of country number {a}, north of river {b}?"
TASKS = {"sums": SUMS, "capitals": CAPITALS}
EACH = 40


@dataclass(frozen=True)
class _Encoded:
    texts: list[str]
    task: list[str]
    phi_Qp: Array
    identity: str


@cache
def _encoded(precision: Precision) -> _Encoded:
    pairs = [(f.format(a=i + 2, b=3 * i + 4), t) for i in range(EACH) for t, f in TASKS.items()]
    texts, task = [text for text, _ in pairs], [name for _, name in pairs]
    phi = TextEncoder(precision=precision).encode(texts)
    return _Encoded(texts, task, phi, encoder_identity(DEFAULT_ENCODER, precision))


def publish_small(
    published: Path,
    *,
    each: int = 4,
    current: bool = True,
    endpoints: Sequence[Endpoint] = (),
    precision: Precision = "float32",
) -> Snapshot:
    """Publish ``each`` models that know sums (``sums/m0`` ...) and as many that know capitals.

    The price of ``m<i>`` is i + 1 USD per Mtok; that of ``capitals/m0`` is unknown.

    Args:
        published: the published folder.
        each: models of a kind.
        current: whether readers shall see it.
        endpoints: addresses of models.
        precision: of the sentence encoder.
    """
    made = _encoded(precision)
    ids = [f"{task}/m{i}" for task in TASKS for i in range(each)]
    own = np.repeat(np.arange(len(TASKS)), each)
    kind = np.array([list(TASKS).index(t) for t in made.task])
    rng = np.random.default_rng(3)
    chance = np.where(own[:, None] == kind, 0.9, 0.2)
    y_MQ = (rng.random(chance.shape) < chance).astype(np.float32)
    extra = surface(made.texts)
    bank = Queries(made.phi_Qp, tuple(made.task), extra)
    placement = FactorPlacement()
    placement.fit(Bank(bank, y_MQ, bank, y_MQ), 0)
    queries = tuple(f"q{i}" for i in range(len(made.texts)))
    x_Qf = np.concatenate([made.phi_Qp, extra], axis=1)
    whole = FactorMap(placement, queries)
    embedded = whole.embed(queries, x_Qf, y_MQ)
    price = [None if m == "capitals/m0" else int(m[-1]) + 1.0 for m in ids]
    models = pl.DataFrame(
        {
            "model_id": ids,
            "revision": "r",
            "org": [m.split("/")[0] for m in ids],
            "family": "small",
            "params_b": 1.0,
            "price_in_usd_per_mtok": price,
            "price_out_usd_per_mtok": pl.Series([None] * len(ids), dtype=pl.Float64),
            "n_scores": len(queries),
        }
    )
    reference = pl.DataFrame(
        {"query_id": queries, "task": made.task, "split": "train", "text": made.texts}
    )
    scores = pl.DataFrame(
        [
            (m, q, t, "train", float(y_MQ[i, j]))
            for i, m in enumerate(ids)
            for j, (q, t) in enumerate(zip(queries, made.task, strict=True))
        ],
        schema=["model_id", "query_id", "task", "split", "score"],
        orient="row",
    )
    created_at = datetime.now(UTC)
    content = SnapshotContent(
        created_at=created_at,
        models=models,
        z_Md=embedded.z_Md,
        reference=reference,
        x_Tf=x_Qf,
        scores=scores,
        cost=pl.DataFrame(
            schema={"model_id": pl.String, "cost_usd": pl.Float64, "latency_ms": pl.Float64}
        ),
        predictor=whole.predictor(made.identity),
        lineage={"parent": None, "encoder": made.identity, "encoder_name": DEFAULT_ENCODER},
        uncertainty_M=embedded.uncertainty_M,
        covariance_Mu=embedded.covariance_Mu,
        endpoints=[*endpoints],
    )
    building = building_folder(published)
    facts = build(content, building)
    snapshot = seal(building, facts.to_manifest(content), created_at)
    if current:
        make_current(published, snapshot)
    return snapshot
