"""Prices: those of the registry replace what was there, for the models given and no others."""

from datetime import date
from typing import Any

import polars as pl
import pytest

from warehouse.contracts import PriceFrame, build
from warehouse.errors import ContractError
from warehouse.store import Warehouse

SINCE = date(2026, 3, 1)


def prices(*rows: tuple[str, date | None, float, float]) -> pl.DataFrame:
    names = ("model_id", "valid_from", "in_usd_per_mtok", "out_usd_per_mtok")
    return build(PriceFrame, [dict(zip(names, row, strict=True)) for row in rows])


ALPHA = [("a/alpha", None, 1.0, 3.0), ("a/alpha", SINCE, 0.5, 2.0)]
BETA = [("b/beta", None, 0.0, 0.0)]


def test_prices_replace_those_of_their_models_only(catalogued: Warehouse) -> None:
    assert catalogued.prices.replace(prices(*ALPHA, *BETA)) == 3
    assert catalogued.prices.list().rows() == [*ALPHA, *BETA]
    assert catalogued.prices.replace(prices(*ALPHA, *BETA)) == 3
    assert catalogued.prices.list().rows() == [*ALPHA, *BETA]
    assert catalogued.prices.replace(prices(("a/alpha", SINCE, 9.0, 9.0))) == 1
    assert catalogued.prices.list().rows() == [("a/alpha", SINCE, 9.0, 9.0), *BETA]


def test_a_model_that_lost_its_prices_has_none(catalogued: Warehouse) -> None:
    catalogued.prices.replace(prices(*ALPHA, *BETA))
    assert catalogued.prices.replace(prices(), ["a/alpha", "d/delta"]) == 0
    assert catalogued.prices.list().rows() == BETA
    assert catalogued.prices.replace(prices()) == 0
    assert catalogued.prices.list().rows() == BETA


@pytest.mark.parametrize(
    ("bad", "models", "says"),
    [
        (("z/none", None, 1.0, 1.0), None, "not in table model"),
        (("b/beta", None, 1.0, 1.0), ["a/alpha"], "not among the models"),
        (("a/alpha", None, 7.0, 7.0), None, "must be unique"),
        (("a/alpha", date(2026, 4, 1), -1.0, 1.0), None, "not negative"),
        (("a/alpha", date(2026, 4, 1), 1.0, float("inf")), None, "finite"),
    ],
)
def test_a_refused_price_changes_nothing(
    catalogued: Warehouse, bad: Any, models: list[str] | None, says: str
) -> None:
    catalogued.prices.replace(prices(*ALPHA))
    with pytest.raises(ContractError, match=says):
        catalogued.prices.replace(prices(("a/alpha", None, 5.0, 5.0), bad), models)
    assert catalogued.prices.list().rows() == ALPHA


def test_a_surrounding_transaction_takes_it_back(catalogued: Warehouse) -> None:
    catalogued.prices.replace(prices(*ALPHA))

    def fail() -> None:
        with catalogued.transaction():
            catalogued.prices.replace(prices(), ["a/alpha"])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert catalogued.prices.list().rows() == ALPHA
