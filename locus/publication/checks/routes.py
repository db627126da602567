"""Canned queries, routed by a router that was loaded as anybody loads it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from locus.publication.canned import CANNED
from locus.publication.checks.places import Places
from locus.publication.checks.reading import Checked, Reader
from locus.routing.policy import PolicyError
from locus.routing.predictor import PredictorError
from locus.routing.router import Router, RoutingError
from locus.snapshots import SNAPSHOTS, make_current

PREDICTOR = "routing/predictor"
_FILES = ("predictor.json", "predictor.safetensors", "test_vectors.safetensors")
_CANNED = CANNED.as_posix()


def check_routes(reader: Reader, places: Places) -> list[Checked]:
    """The router loads, and routes the canned queries as when the snapshot was built.

    A snapshot that was published before there were canned queries has none: then it only loads.
    """
    router = _load(reader)
    if router.models != places.ids:
        reader.fail(PREDICTOR, "the router knows other models than the embeddings")
    checked = [
        Checked(f"{PREDICTOR}/{_FILES[0]}", "loads as a router, with the places and stand-ins"),
        *(Checked(f"{PREDICTOR}/{name}", "computes its own test vectors") for name in _FILES[1:]),
    ]
    if not reader.has(_CANNED):
        return checked
    document = reader.json(_CANNED)
    found = reader.shaped(_CANNED, lambda: _route(reader, router, document, places))
    return [*checked, Checked(_CANNED, found)]


def _load(reader: Reader) -> Router:
    """Load a router from a private published folder, whose current snapshot this one is."""
    snapshot = reader.snapshot
    with tempfile.TemporaryDirectory(prefix="locus-check-") as folder:
        published = Path(folder)
        (published / SNAPSHOTS).mkdir()
        (published / SNAPSHOTS / snapshot.snapshot_id).symlink_to(
            snapshot.folder.resolve(), target_is_directory=True
        )
        make_current(published, snapshot)
        try:
            return Router.load_encoded(published)
        except (PredictorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            reader.fail(PREDICTOR, f"no router can be loaded: {type(error).__name__}: {error}")


def _route(reader: Reader, router: Router, document: dict[str, Any], places: Places) -> str:
    queries = document["queries"]
    if not queries:
        reader.fail(_CANNED, "holds no query")
    tolerance = float(document["tolerance"])
    x_Cf = np.asarray([query["features"] for query in queries], dtype=np.float32)
    try:
        routed = router.decide_encoded(x_Cf, k=len(router.models))
        selected = router.select(x_Cf)
    except (PolicyError, RoutingError) as error:
        reader.fail(_CANNED, f"can't be routed: {error}")
    largest = 0.0
    for row, (query, choices) in enumerate(zip(queries, routed.choices, strict=True)):
        name = query["name"]
        p = {choice.model_id: choice.p_correct for choice in choices}
        bounds = [choice.lower_bound for choice in choices if choice.lower_bound is not None]
        if len(p) != len(places.at) or not np.isfinite([*p.values(), *bounds]).all():
            reader.fail(_CANNED, f"query {name!r}: a model has no finite p or lower bound")
        first, then = choices[0], query["choices"][0]
        reader.known(_CANNED, [c["model_id"] for c in query["choices"]], places.at, repr(name))
        gaps = [abs(p[c["model_id"]] - c["p_correct"]) for c in query["choices"]]
        # The first one may be another of equal ones, but no better and no worse.
        gaps.append(abs(first.p_correct - then["p_correct"]))
        fast = router.models[int(selected.chosen_T[row])]
        gaps.append(abs(float(selected.p_T[row]) - then["p_correct"]))
        largest = max(largest, *gaps)
        if not largest <= tolerance:
            reader.fail(
                _CANNED,
                f"query {name!r} went to {then['model_id']!r} (p {then['p_correct']:.6f}) when the "
                f"snapshot was built; it goes to {first.model_id!r} (p {first.p_correct:.6f}), by "
                f"select to {fast!r}, and {then['model_id']!r} has {p[then['model_id']]:.6f}: "
                f"{max(gaps):.2g} off, {tolerance:g} allowed",
            )
    return (
        f"{len(queries)} queries routed as when it was built, p within {largest:.1g} "
        f"({tolerance:g} allowed)"
    )
