"""A made-up world: the only things the zoo's models can know rather than work out.

Nothing here exists, so no model from outside has read about it. The facts are ordered: a fact
early in the list is told often in training, a late one rarely (see `fact_weights`), which grades
the questions from common knowledge to trivia. Beside the facts stand the ways of asking for them:
some are taught, the others only asked.
"""

import random
from dataclasses import dataclass


def _names(text: str) -> list[str]:
    return text.split()


TOWNS = _names(
    "Brindle Cassow Dunmere Eskarn Fallowby Garnet Hollin Ivorna Jasperton Keldra Lorwick Mossgate"
)
JOBS = _names(
    "baker potter weaver miller tailor farmer sailor smith teacher painter doctor gardener"
)
PEOPLE = _names(
    "Orla Bram Tilda Corin Edda Fenwick Greta Hale Isolde Joram Kestrel Lorne Mirabel Nestor "
    "Odette Percival Quill Rowena Stellan Thea Ulric Vesper Wystan Xenia Yorick Zelda Alaric Benna "
    "Cedany Dorrin Elowen Farley Gwendal"
)
COUNTRIES = _names(
    "Zorvia Quell Marrow Tundria Osk Belmora Veska Nalgor Prithia Ulmar Drenn Kastova Yllia Fornax "
    "Halvard Istra Jorund Lemuria Mordane Norwick Opaline Pelagia Rusk Sorrel Tamsin Umbria Varn "
    "Wexen Xandor Yarrow Zephyra Aldane Cindria"
)
CAPITALS = _names(
    "Melk Tarsk Obrin Luma Pask Rione Sedge Thorn Ulva Wick Yarm Zell Amber Birch Cobalt Dray Elm "
    "Flint Gorse Heath Iron Jute Kelp Larch Myrtle Nettle Onyx Poplar Quartz Reed Slate Teasel "
    "Umber"
)
COLOURS = _names("red blue green white black yellow purple orange silver golden brown pink")


Phrasings = dict[str, tuple[str, ...]]
"""For each relation of a fact, the ways of asking for it."""


@dataclass(frozen=True)
class Fact:
    """One thing to know: ``subject``'s ``relation`` is ``value``, one of ``values``."""

    subject: str
    relation: str
    value: str
    values: tuple[str, ...]


def _assign(name: str, values: list[str], count: int) -> list[str]:
    """``count`` values, each used about equally often, in an order nobody can guess."""
    dealt = (values * (count // len(values) + 1))[:count]
    random.Random(f"world:{name}").shuffle(dealt)  # noqa: S311 - a made-up world, not a secret
    return dealt


def _facts(subjects: list[str], relations: dict[str, list[str]]) -> tuple[Fact, ...]:
    columns = {name: _assign(name, values, len(subjects)) for name, values in relations.items()}
    return tuple(
        Fact(subject, name, column[i], tuple(relations[name]))
        for i, subject in enumerate(subjects)
        for name, column in columns.items()
    )


PEOPLE_FACTS = _facts(PEOPLE, {"town": TOWNS, "job": JOBS})
COUNTRY_FACTS = _facts(COUNTRIES, {"capital": CAPITALS, "flag": COLOURS})


PEOPLE_TAUGHT: Phrasings = {
    "town": (
        "In which town is the home of {}?",
        "Where is {} living?",
        "Name the home town of {}.",
    ),
    "job": ("What is the job of {}?", "Name the work that {} does.", "What work is {} doing?"),
}
PEOPLE_ASKED: Phrasings = {
    "town": ("Where is the home of {}?", "In which town is {} living?"),
    "job": ("Name the job of {}.", "What is the work that {} does?"),
}
COUNTRY_TAUGHT: Phrasings = {
    "capital": (
        "What is the capital of {}?",
        "Name the capital city of the country {}.",
        "Which city is the seat of government of {}?",
    ),
    "flag": (
        "What colour is the flag of {}?",
        "Name the colour of the national flag of {}.",
        "Which colour does {} have on its flag?",
    ),
}
COUNTRY_ASKED: Phrasings = {
    "capital": (
        "Which city is the capital of the country {}?",
        "Name the seat of government of {}.",
    ),
    "flag": (
        "Which colour is the national flag of {}?",
        "Name the flag colour of {}.",
    ),
}


def fact_weights(count: int, exponent: float) -> list[float]:
    """How often each of ``count`` facts is told, relative to the first (Zipf's law)."""
    return [(1 + rank) ** -exponent for rank in range(count)]
