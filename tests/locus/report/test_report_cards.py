"""A model's card: what travels for it, and how a reader opens, reads, shares and leaves it."""

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import polars as pl
import pytest
from test_report_of_snapshot import World, page_of
from test_report_page import packed
from watched_page import watched

from locus.publication import build
from locus.report import FRAMES, ReportData, ReportDataError, render, write
from locus.report.cards import RANKED_CELLS, STAND_INS, pack_cards
from locus.report.tidy import visible

IDS = [
    "llama-lab/llama-3B",
    "<script>window.hacked=1</script>",
    "per%cent/a%20b%",
    "hash#mark/a&b=c?d#model=e",
    "evil/\u202egnp.exe\u202c",
    "rtl/שלום-עולם",
    "emoji/\U0001f469\u200d\U0001f680-model",
    "long/" + "x" * 300,
    "quo\"te's/one",
    "=1+1",
    "new\nline/two",
    "model=/three",
]
PLAIN = IDS[0]
DASH = "\N{EN DASH}"


def unpacked(cards: dict) -> dict:
    return json.loads(zlib.decompress(base64.b64decode(cards["packed"])))


@pytest.fixture(scope="module")
def data(make_report) -> ReportData:
    """Hostile names, a bucket of all queries, one chance and one bound that nobody knows."""
    data = make_report(len(IDS), ids=IDS)
    task = pl.col("bucket") == data.buckets["bucket"][0]
    overall = data.models.select(
        pl.lit("all").alias("bucket"),
        "model_id",
        p_correct="accuracy",
        lower_bound=pl.col("accuracy") - 0.07,
        n_observed="n_scores",
        observed_accuracy="accuracy",
    ).with_columns(rank=pl.col("p_correct").rank("ordinal", descending=True).cast(pl.Int64))
    blank = data.routing.with_columns(
        rank=pl.col("rank").cast(pl.Int64),
        p_correct=pl.when(~(task & (pl.col("rank") == 3))).then("p_correct"),
        lower_bound=pl.when(~(task & (pl.col("rank") == 5))).then("lower_bound"),
    )
    bucket = pl.DataFrame([("all", "all", None, PLAIN)], data.buckets.schema, orient="row")
    return replace(
        data,
        routing=pl.concat([overall, blank], how="diagonal_relaxed"),
        buckets=pl.concat([bucket, data.buckets]),
    )


# ---- what travels ----


def test_every_rank_chance_and_bound_travels(data):
    content = packed(render(data))
    ids = content["models"]["id"]
    found = []
    for bucket, (who, steps, falls, gaps) in zip(
        content["routing"]["bucket"], unpacked(content["cards"])["ranked"], strict=True
    ):
        rank, chance = 0, 1000
        for model, step, fall, gap in zip(who, steps, falls, gaps, strict=True):
            rank, chance = rank + step, chance - (fall or 0)
            p = None if fall is None else chance
            found.append((bucket, ids[model], rank, p, None if gap is None else chance - gap))
    expected = data.checked().routing.select(
        "bucket",
        "model_id",
        "rank",
        (pl.col("p_correct") * 1000).round().cast(pl.Int64),
        # A bound without a chance has nothing to lie below.
        pl.when(pl.col("p_correct").is_not_null())
        .then((pl.col("lower_bound") * 1000).round())
        .cast(pl.Int64),
    )
    assert sorted(found, key=str) == sorted(expected.rows(), key=str)


def test_buckets_that_do_not_fit_are_left_out_whole_and_said(data):
    n = RANKED_CELLS // 2
    ids = [f"org/m{i}" for i in range(n)]
    at = pl.DataFrame({"model_id": ids}).with_row_index("at")
    buckets = pl.DataFrame({"bucket": ["all", "b", "c"]}).with_row_index("in")
    routing = (
        buckets.select("bucket")
        .join(at.select("model_id", rank=pl.col("at").cast(pl.Int64) + 1), how="cross")
        .with_columns(p_correct=pl.lit(0.5), lower_bound=pl.lit(None, pl.Float64))
    )
    cards, cap = pack_cards(pl.DataFrame(schema=FRAMES["facts"]), routing, buckets, at)
    assert [len(one[0]) for one in unpacked(cards)["ranked"]] == [n, n]
    assert cap.startswith("With 9,000 models a card shows ranks in the first 2 of 3 buckets")
    assert packed(render(data))["caps"]["cards"] == ""


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (lambda f: pl.concat([f, f]), "facts lists .* twice"),
        (lambda f: f.with_columns(model_id=pl.lit("nobody")).head(1), "facts.model_id names"),
        (lambda f: f.drop("revision"), r"facts lacks the column\(s\) \['revision'\]"),
    ],
)
def test_facts_that_cannot_be_shown_are_named(data, facts, words):
    with pytest.raises(ReportDataError, match=words):
        render(replace(data, facts=facts(data.facts)))


def test_a_snapshot_gives_facts_and_stand_ins(tmp_path):
    world = World(["org/a", "org/b"], [[0, 0], [1, 0]], [[0.9, 0.5]] * 4)
    cards = packed(page_of(*world.night(0, n_scores=10), tmp_path / "page.html"))["cards"]
    assert unpacked(cards)["facts"] == {
        "revision": ["r", "r"],
        "price_in_usd_per_mtok": [5.0, 6.0],
        "price_out_usd_per_mtok": [None, None],
        "cost_usd": [None, None],
        "latency_ms": [None, None],
        "uncertainty": [0.25, 0.25],
    }
    assert cards["stand_ins"] == STAND_INS == build.STAND_INS


# ---- in a browser ----


@pytest.fixture(scope="module")
def opened(browser, data, tmp_path_factory) -> Iterator:
    path = tmp_path_factory.mktemp("cards") / "report.html"
    write(data, path)
    with watched(browser, path) as page:
        yield page


@pytest.fixture
def page(opened):
    """The page as it is first seen: no card, no hash."""
    opened.evaluate("history.replaceState(null, '', location.href.split('#')[0])")
    opened.evaluate("dispatchEvent(new HashChangeEvent('hashchange'))")
    closed(opened)
    return opened


def closed(page) -> None:
    page.wait_for_function("() => !location.hash && !document.querySelector('#card').open")
    assert page.title() == "A map of language models"


def follow(page, model: str) -> None:
    """Go where a shared link to a model leads."""
    page.evaluate("(hash) => { location.hash = hash }", f"model={quote(model, safe='')}")
    page.wait_for_function("(start) => document.title.startsWith(start)", arg=visible(model))


def rows_of(page, kind: str) -> list[list[str]]:
    return page.locator(f"#card table.{kind} tbody tr").evaluate_all(
        "(all) => all.map((row) => [...row.children].map((cell) => cell.innerText))"
    )


def as_percent(share: float | None) -> str:
    # Shares travel as whole thousandths and are rounded once more for show.
    return DASH if share is None else f"{int(int(1000 * share + 0.5) / 10 + 0.5)} %"


@pytest.mark.slow
def test_a_card_says_what_the_frames_say(page, data):
    follow(page, PLAIN)
    ranked = {row["bucket"]: row for row in data.routing.filter(model_id=PLAIN).to_dicts()}
    measured = {row["task"]: row for row in data.task_accuracy.filter(model_id=PLAIN).to_dicts()}
    kinds = dict(data.buckets.select("bucket", "kind").iter_rows())
    shown = {row[0]: row[1:] for row in rows_of(page, "profile:not(.topics)")}
    assert list(shown) == ["All queries", *(b for b in kinds if kinds[b] == "task")]
    for bucket, (rank, chance, low, observed, _, n) in shown.items():
        place = ranked["all" if bucket == "All queries" else bucket]
        assert rank.split() == [str(place["rank"]), "of", str(len(IDS))]
        assert chance.strip() == as_percent(place["p_correct"])
        assert low == as_percent(place["lower_bound"])
        if bucket in measured:
            assert observed == as_percent(measured[bucket]["accuracy"])
            assert n == str(measured[bucket]["n"])
    topics = {row[0].split("\n")[0]: row[1] for row in rows_of(page, "topics")}
    for bucket, rank in topics.items():
        assert rank.split()[0] == str(ranked[bucket]["rank"])
    assert set(topics) == {bucket for bucket in kinds if kinds[bucket] == "topic"}
    near = data.neighbours.filter(model_id=PLAIN).sort("rank")
    assert [row[0] for row in rows_of(page, "nearest")] == [
        visible(name) for name in near["neighbour_id"]
    ]
    assert [float(row[1]) for row in rows_of(page, "nearest")] == pytest.approx(
        near["euclidean_distance"].to_list(), abs=0.006
    )
    words = page.locator("#card").inner_text()
    facts = data.facts.row(by_predicate=pl.col("model_id") == PLAIN, named=True)
    for text in (
        "It is new: the last snapshot did not have it.",
        f"{facts['latency_ms'] / 1000:.1f} s a query"
        if facts["latency_ms"] >= 999.5
        else f"{facts['latency_ms']:.0f} ms a query",
        facts["revision"][:10],
        f"Price of output\n{DASH}",
        data.lineage["Checkpoint"],
        data.snapshot_id,
    ):
        assert text in words


@pytest.mark.slow
def test_what_nobody_knows_is_a_dash(page, data):
    bucket = data.routing.filter(pl.col("p_correct").is_null())["bucket"][0]
    # The third has no chance, the fifth no bound; those that come after have theirs.
    for rank in (3, 5, len(IDS)):
        place = data.routing.filter(bucket=bucket, rank=rank).row(0, named=True)
        follow(page, place["model_id"])
        (row,) = (cells for cells in rows_of(page, "profile") if cells[0] == bucket)
        known = None if place["p_correct"] is None else place["lower_bound"]
        assert [row[1].split()[0], *(cell.strip() for cell in row[2:4])] == [
            str(rank),
            as_percent(place["p_correct"]),
            as_percent(known),
        ]


@pytest.mark.slow
def test_table_map_and_search_open_a_card_and_four_ways_close_it(page):
    # A name is a link: Enter opens its card, Escape gives the focus back to it.
    link = page.locator("#tasks-rows a.to-card", has_text="llama-3B")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#card[open]")
    assert page.title() == f"{PLAIN} · A map of language models"
    assert page.url.endswith("#model=llama-lab%2Fllama-3B")
    dialog = page.get_by_role("dialog", name=PLAIN)
    assert dialog.locator("h2").evaluate("(e) => e === document.activeElement")
    page.keyboard.press("Escape")
    closed(page)
    assert link.evaluate("(e) => e === document.activeElement")
    # Anywhere else in the row opens it too; the close link closes it.
    page.locator("#tasks-rows tr", has_text="llama-3B").locator(".cell").first.click()
    dialog.wait_for()
    page.get_by_role("link", name="Close").click()
    closed(page)
    # From one card to the next and back through both.
    page.fill("#card-find", "LLAMA 3b")
    page.press("#card-find", "Enter")
    dialog.wait_for()
    other = page.locator("#card .nearest a.to-card").first
    name = other.inner_text()
    other.click()
    page.wait_for_function("(name) => document.title.startsWith(name)", arg=name)
    page.go_back()
    dialog.wait_for()
    page.go_back()
    closed(page)
    # A click on the map; beside the card is out of it. Every way out left the history as it was.
    page.fill("#map-find", "llama-3B")
    page.locator("#map-plot").scroll_into_view_if_needed()
    page.wait_for_selector("#map-plot .textpoint")
    faded = "(all) => all.findIndex((e) => getComputedStyle(e).opacity > 0.5)"
    points = page.locator("#map-plot .scatterlayer .point")
    box = points.nth(points.evaluate_all(faded)).bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(middle[0] - 4, middle[1])
    page.wait_for_timeout(80)
    page.mouse.click(*middle)
    dialog.wait_for()
    page.mouse.click(5, 400)
    closed(page)
    assert page.evaluate("history.state") is None
    page.go_forward()
    dialog.wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_any_name_can_be_shared_and_is_only_text(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    for model in IDS:
        follow(page, model)
        assert page.locator("#card h2 bdi").text_content() == visible(model)
        over = "(e) => e.scrollWidth - e.clientWidth"
        assert page.locator("#card").evaluate(over) <= 0, model
    assert page.locator("#card :is(img, script)").count() == 0
    assert page.evaluate("window.hacked") is None
    # The address that the page itself writes leads to the same card.
    page.locator("#card .nearest a.to-card").first.click()
    page.wait_for_function("(name) => !document.title.startsWith(name)", arg=IDS[-1])
    heading = page.locator("#card h2 bdi").text_content()
    assert page.url.split("#model=")[1] == quote(heading, safe="!'()*~")


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["llama-lab/llama-3", "%E0%A4%A", "", "<img src=x>", "a\u202eb"])
def test_an_unknown_or_damaged_link_says_so(page, asked):
    page.evaluate("(hash) => { location.hash = hash }", f"model={asked}")
    page.get_by_role("dialog", name="No such model on this page").wait_for()
    words = page.locator("#card").inner_text()
    assert (visible(asked) or "a model without a name") in words
    assert page.title() == "Model not found · A map of language models"
    assert ("Called alike: llama-lab/llama-3B" in words) == (asked == "llama-lab/llama-3")
    assert page.locator("#card img").count() == 0


@pytest.mark.slow
def test_a_shared_link_opens_in_an_old_browser_too(browser, data, tmp_path):
    """Without a way to unpack ranks the first places are shown, and closing stays on the page."""
    path = tmp_path / "report.html"
    write(replace(data, since=None), path)
    with watched(browser, path, before="delete window.DecompressionStream") as page:
        best = data.routing.filter(bucket="all", rank=1)["model_id"][0]
        # A new entry of the history that begins with a card has no page to go back to.
        page.goto("about:blank")
        page.goto(f"{path.as_uri()}#model={quote(visible(best), safe='')}")
        page.wait_for_selector("#card[open]")
        words = page.locator("#card").inner_text()
        assert "too old to unpack every rank" in words
        assert "This is the first snapshot" in words
        assert rows_of(page, "profile")[0][1] == "1"
        page.keyboard.press("Escape")
        closed(page)
        assert page.url == path.as_uri()
