"""Files for people and for other tools: the report, the summary, configurations of routers."""

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from typing import Any

from locus.publication.checks.places import Places
from locus.publication.checks.reading import Checked, Reader
from locus.publication.emit.files import LITELLM, SEMANTIC_ROUTER
from locus.report.tidy import visible

REPORT = "similarity/report.html"
SUMMARY = "similarity/summary.md"
_LITELLM, _SEMANTIC = LITELLM.as_posix(), SEMANTIC_ROUTER.as_posix()


def check_litellm(reader: Reader, places: Places) -> Checked:
    """LiteLLM is told of known models only, and every other name leads to one of them."""
    config = reader.yaml(_LITELLM)
    names = reader.shaped(_LITELLM, lambda: _check_litellm(reader, config, places))
    return Checked(_LITELLM, f"{names} models with an address, every alias leads to one")


def _check_litellm(reader: Reader, config: Mapping[str, Any], places: Places) -> int:
    names = [entry["model_name"] for entry in config["model_list"]]
    reader.known(_LITELLM, names, places.at, "model_list")
    settings = config["router_settings"]
    served = dict.fromkeys(names, 0)
    aliases: Mapping[str, str] = settings["model_group_alias"]
    _refuse(reader, _LITELLM, aliases.values(), served, "model_group_alias")
    for entry in settings["fallbacks"]:
        for name, others in entry.items():
            _refuse(reader, _LITELLM, [name], {**served, **dict.fromkeys(aliases, 0)}, "fallbacks")
            _refuse(reader, _LITELLM, others, served, f"fallbacks of {name!r}")
    return len(names)


def check_semantic_router(reader: Reader, places: Places) -> Checked:
    """The Semantic Router is told of known models only, and decides by signals that are there."""
    config = reader.yaml(_SEMANTIC)
    n = reader.shaped(_SEMANTIC, lambda: _check_semantic(reader, config, places))
    return Checked(_SEMANTIC, f"{n[0]} models with an address, {n[1]} decisions among them")


def _check_semantic(reader: Reader, config: Mapping[str, Any], places: Places) -> tuple[int, int]:
    providers, routing = config["providers"], config["routing"]
    names = [card["name"] for card in routing["modelCards"]]
    reader.known(_SEMANTIC, names, places.at, "modelCards")
    cards = dict.fromkeys(names, 0)
    _refuse(reader, _SEMANTIC, [p["name"] for p in providers["models"]], cards, "providers")
    _refuse(reader, _SEMANTIC, providers["defaults"].values(), cards, "defaults")
    signals = routing["signals"]
    domains, keywords = signals["domains"], signals["keywords"]
    for domain in domains:
        for score in domain["model_scores"]:
            _refuse(reader, _SEMANTIC, [score["model"]], cards, f"domain {domain['name']!r}")
            if not 0 <= score["score"] <= 1:
                reader.fail(
                    _SEMANTIC,
                    f"the score of {score['model']!r} in domain {domain['name']!r} is "
                    f"{score['score']!r}, which is not in [0, 1]",
                )
    known = {("domain", one["name"]) for one in domains}
    known |= {("keyword", one["name"]) for one in keywords}
    for decision in routing["decisions"]:
        where = f"decision {decision['name']!r}"
        _refuse(reader, _SEMANTIC, [m["model"] for m in decision["modelRefs"]], cards, where)
        for told in decision["rules"]["conditions"]:
            if (told["type"], told["name"]) not in known:
                reader.fail(_SEMANTIC, f"{where} asks a signal that is not there: {told!r}")
    return len(names), len(routing["decisions"])


def check_report(reader: Reader, places: Places) -> Checked:
    """The page's data decode, and hold every model; its drawing program unpacks."""
    scripts = _Scripts(reader.text(REPORT)).found
    content = reader.shaped(REPORT, lambda: json.loads(scripts["content"]))
    shown = reader.shaped(REPORT, lambda: list(content["models"]["id"]))
    reader.shaped(REPORT, lambda: json.loads(scripts["figures"]))
    expected = [visible(model) for model in places.at]
    if sorted(shown) != sorted(expected):
        odd = sorted(set(expected) - set(shown)) or sorted(set(shown) - set(expected)) or shown
        reader.fail(
            REPORT,
            f"holds {len(shown)} models and there are {len(expected)}; the first that differs is "
            f"{odd[0]!r}",
        )
    try:
        zlib.decompress(base64.b64decode(scripts.get("plotly", ""), validate=True))
    except (ValueError, zlib.error) as error:
        reader.fail(REPORT, f"its drawing program can't be unpacked: {error}")
    return Checked(REPORT, f"its data decode and hold {len(shown)} models")


def check_summary(reader: Reader) -> Checked:
    """The summary counts what the manifest counts."""
    text = reader.text(SUMMARY)
    for name in ("models", "queries", "scores"):
        counted = f"{reader.count(name)} {name}"
        if counted not in text:
            reader.fail(SUMMARY, f"doesn't say {counted}, which the manifest counts")
    return Checked(SUMMARY, "counts what the manifest counts")


class _Scripts(HTMLParser):
    """Texts of a page's script elements, by their id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._inside: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.found[self._inside] = self.found.get(self._inside, "") + data


def _refuse(
    reader: Reader, file: str, names: Iterable[str], served: Mapping[str, int], where: str
) -> None:
    """Refuse names that the file itself gives no address of."""
    for name in names:
        if name not in served:
            reader.fail(file, f"{where} names {name!r}, which the file gives no address of")
