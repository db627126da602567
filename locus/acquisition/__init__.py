"""Which queries to ask a model next, and which models are worth the next queries.

Only choosing belongs here; placing a model by its answers is `locus.embedding`'s.
"""

from locus.acquisition.budget import Purse, allocate, expected_gain, expected_gains
from locus.acquisition.items import Items, items_of
from locus.acquisition.simulation import simulate
from locus.acquisition.strategies import (
    Adaptive,
    Panel,
    Random,
    Strategy,
    Stratified,
    choose,
    panel_order,
)

__all__ = [
    "Adaptive",
    "Items",
    "Panel",
    "Purse",
    "Random",
    "Strategy",
    "Stratified",
    "allocate",
    "choose",
    "expected_gain",
    "expected_gains",
    "items_of",
    "panel_order",
    "simulate",
]
