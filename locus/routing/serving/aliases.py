"""Names that stand for a choice: `locus-best` and `locus-cheap`."""

from collections.abc import Sequence

from locus.routing.router import Choice, Router, RoutingError
from locus.routing.table import MONEY_MARGIN

BEST = "locus-best"
CHEAP = "locus-cheap"
ALIASES = {
    BEST: "the model with the highest predicted P(correct)",
    CHEAP: f"the cheapest model within {MONEY_MARGIN} of the highest predicted P(correct)",
}


def pick(router: Router, text: str, alias: str, only: Sequence[str] = ()) -> Choice:
    """The model that an alias stands for, for one query.

    ``locus-cheap`` is the routing table's best for the money, for a query instead of a bucket;
    where no good enough model has a known price it is ``locus-best``.

    Args:
        router: ranks the pool.
        text: the query.
        alias: one of `ALIASES`.
        only: the only models that may answer; none named means all.

    Raises:
        RoutingError: an unknown alias, or as `Router.route`.
    """
    if alias not in ALIASES:
        raise RoutingError(f"{alias!r} is no alias; there are {', '.join(ALIASES)}")
    ranked = router.route([text], 1 if alias == BEST else len(router.models), only=only)[0]
    enough = [c for c in ranked if c.p_correct >= ranked[0].p_correct - MONEY_MARGIN]
    priced = [(c.price_usd_per_mtok, c.rank, c) for c in enough if c.price_usd_per_mtok is not None]
    return min(priced)[2] if alias == CHEAP and priced else ranked[0]
