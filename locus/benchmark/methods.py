"""The methods of a benchmark by the names they have on the command line and in tables."""

from collections.abc import Callable

from locus.bank import Method

SLOW = ("locus-published",)
"""Methods that a quick run leaves out unless they are named: training them takes too long."""


def makers_by_name(quick: bool = False) -> dict[str, Callable[[], Method]]:
    """What makes each method afresh; trained peers take few steps if ``quick``.

    A name says which are not on a par: ``*-known`` reads the benchmark of the target query, which
    a router in use does not know.
    """
    from locus.embedding.factors import FactorPlacement
    from locus.peers.embedllm import EmbedLLM
    from locus.peers.irt_net import IRTNet
    from locus.peers.knn import KNearest
    from locus.peers.published import LocusPublished
    from locus.peers.ridge import RidgeOnEncodings
    from locus.peers.trivial import BestSingle, Majority, MajorityPredicted
    from locus.peers.uniroute import UniRoute

    return {
        "factors": FactorPlacement,
        "best-single": BestSingle,
        "majority-known": Majority,
        "majority-predicted": MajorityPredicted,
        "knn": KNearest,
        "uniroute": UniRoute,
        "ridge": RidgeOnEncodings,
        "embedllm": (lambda: EmbedLLM(steps=150)) if quick else EmbedLLM,
        "irt-net": (lambda: IRTNet(steps=150)) if quick else IRTNet,
        "locus-published": (lambda: LocusPublished(steps=50)) if quick else LocusPublished,
    }
