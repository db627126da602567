"""The part of the routing table whose models have an address, and names for its buckets."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from locus.ids import short_hash
from locus.publication.emit.endpoints import Endpoint
from locus.routing.table import ALL

_SLUG = 60
_NAMED_MISSING = 50


@dataclass(frozen=True)
class Served:
    """What a router can be told.

    Attributes:
        table: rows of `locus.routing.table.routing_table` of models with an address.
        endpoints: their addresses, by id, in the order of ids.
        missing: published models without one, in the order of ids.
    """

    table: pl.DataFrame
    endpoints: dict[str, Endpoint]
    missing: list[str]

    def ranking(self) -> list[str]:
        """The models by their rank among all queries."""
        return self.table.filter(kind=ALL).sort("rank")["model_id"].to_list()


def served(table: pl.DataFrame, endpoints: Iterable[Endpoint]) -> Served:
    """Keep what has an address.

    Args:
        table: the routing table.
        endpoints: addresses; models that are not in the table are left out.
    """
    published = sorted(table["model_id"].unique())
    known = {one.model_id: one for one in endpoints}
    found = {name: known[name] for name in published if name in known}
    return Served(
        table.filter(pl.col("model_id").is_in(list(found))),
        found,
        [name for name in published if name not in found],
    )


def slugs(names: Sequence[str]) -> dict[str, str]:
    """A name of lower-case letters, digits and hyphens for each, no two the same.

    Args:
        names: names of buckets, any text, no two the same.
    """
    plain = {
        name: re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG].strip("-")
        for name in names
    }
    seen = list(plain.values())
    return {
        name: slug
        if slug and seen.count(slug) == 1
        else f"{slug}-{short_hash(name, 8)}".lstrip("-")
        for name, slug in plain.items()
    }


def header(title: str, lines: Sequence[str], missing: Sequence[str]) -> str:
    """Comments for the top of a YAML file; names are quoted, so that none can end its comment."""
    text = [title, *lines]
    if missing:
        text.append(f"Left out, because nothing is known that could be asked ({len(missing)}):")
        text += [f"  {json.dumps(name)}" for name in missing[:_NAMED_MISSING]]
        if len(missing) > _NAMED_MISSING:
            text.append(f"  and {len(missing) - _NAMED_MISSING} more")
    return "".join(f"# {line}".rstrip() + "\n" for line in text)
