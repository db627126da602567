"""The methods of a benchmark by the names they have on the command line and in tables."""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass

from locus.bank import Method
from locus.ids import short_hash

Maker = Callable[[], Method]

DEFAULT = "factors"
"""What the others are compared with, where it is among them."""

SLOW = ("locus-published",)
"""Methods that a quick run leaves out unless they are named: training them takes too long."""

QUICK_STEPS = {"embedllm": 150, "irt-net": 150, "locus-published": 30}
"""Most optimiser steps of the trained methods in a quick run."""

WIDE_STEPS = {"embedllm": 300, "irt-net": 300}
"""Most optimiser steps in P3, whose pool is many times larger."""

WIDE_LEFT_OUT = {
    "locus-published": "its step reads every score of the pool: hours to days on processor cores"
}
"""Methods that P3 leaves out, and why."""


class UnknownMethodError(ValueError):
    """A method that isn't there; the message lists those that are."""


def makers_by_name(quick: bool = False, caps: Mapping[str, int] | None = None) -> dict[str, Maker]:
    """What makes each method afresh; trained peers take few steps if ``quick``.

    A name says which are not on a par: ``*-known`` reads the benchmark of the target query, which
    a router in use does not know.

    Args:
        quick: a quick run.
        caps: most optimiser steps of trained methods, by name; they win over those of a quick run.

    Raises:
        UnknownMethodError: a cap for a method that is not trained in steps.
    """
    from locus.embedding.factors import FactorPlacement
    from locus.peers.embedllm import EmbedLLM
    from locus.peers.irt_net import IRTNet
    from locus.peers.knn import KNearest
    from locus.peers.published import LocusPublished
    from locus.peers.ridge import RidgeOnEncodings
    from locus.peers.trivial import BestSingle, Majority, MajorityPredicted
    from locus.peers.uniroute import UniRoute

    steps = {**(QUICK_STEPS if quick else {}), **(caps or {})}
    for name in steps:
        if name not in QUICK_STEPS:
            raise UnknownMethodError(
                f"{name!r} can't be capped: only {', '.join(QUICK_STEPS)} train in steps"
            )

    def embedllm() -> Method:
        return EmbedLLM(steps["embedllm"]) if "embedllm" in steps else EmbedLLM()

    def irt_net() -> Method:
        return IRTNet(steps["irt-net"]) if "irt-net" in steps else IRTNet()

    return {
        "factors": FactorPlacement,
        "best-single": BestSingle,
        "majority-known": Majority,
        "majority-predicted": MajorityPredicted,
        "knn": KNearest,
        "uniroute": UniRoute,
        "ridge": RidgeOnEncodings,
        "embedllm": embedllm,
        "irt-net": irt_net,
        "locus-published": lambda: LocusPublished(steps.get("locus-published")),
    }


def caps_of(protocol: str, caps: Mapping[str, int] | None = None) -> dict[str, int]:
    """Caps under a protocol: P3 has its own, which the caller's win over."""
    return {**(WIDE_STEPS if protocol == "P3" else {}), **(caps or {})}


def settings_key(method: Method) -> str:
    """Short name of how a fresh method is set up, so that cells of two settings never mix.

    Its own `settings_key` where it has one, else a hash of its plain attributes. It knows nothing
    of code: after a change of code, cells are measured again by ``--again``.
    """
    own = getattr(method, "settings_key", None)
    if isinstance(own, str):
        return short_hash(own, 6)
    plain = {k: v for k, v in vars(method).items() if not k.startswith("_") and _plain(v)}
    return short_hash(repr(sorted(plain.items())), 6)


def _plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, (str, int, float)) or is_dataclass(value)
