"""What tokens cost, and since when: a price belongs to the days on which it was asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Price:
    """A price of a model.

    Attributes:
        in_usd_per_mtok: US dollars for a million tokens read.
        out_usd_per_mtok: US dollars for a million tokens written.
        valid_from: its first day (UTC); None for ever since.
    """

    in_usd_per_mtok: float
    out_usd_per_mtok: float
    valid_from: date | None = None

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """US dollars for some tokens."""
        return (tokens_in * self.in_usd_per_mtok + tokens_out * self.out_usd_per_mtok) / 1e6


def price_on(prices: Iterable[Price], day: date) -> Price | None:
    """The price on a day (UTC): the latest that is valid by then; None where none is known."""
    valid = [p for p in prices if p.valid_from is None or p.valid_from <= day]
    return max(valid, key=lambda p: p.valid_from or date.min, default=None)
