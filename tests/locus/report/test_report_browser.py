"""The page as a reader meets it: opened from disk in a real headless Chromium."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import polars as pl
import pytest
from test_report_curves import made_up_curves
from watched_page import watched

from locus.report import ReportData, write
from locus.report.data import visible

pytestmark = pytest.mark.slow

HOSTILE = [
    "<script>window.hacked=1;alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '"><a href="javascript:alert(3)">click</a>',
    "</script><script>alert(4)</script>",
    "evil/\u202egnp.exe\u202c",
    "emoji/\U0001f469\u200d\U0001f680-model",
    "long/" + "x" * 300,
    "--ink",
    "a'b\"c&amp;%{customdata}$x^2$",
    "{{ 7*7 }}\\u003c",
    "new\nline\tand\u2028more",
]


@pytest.fixture
def open_page(browser, tmp_path) -> Iterator[Callable]:
    """Opens a report; on leaving, fails if it logged an error, spoke up or used the network."""

    def opened(data: ReportData, width: int = 1280, before: str = "", **options):
        write(data, tmp_path / "report.html")
        return watched(browser, tmp_path / "report.html", width, before, **options)

    yield opened


def overflow(page) -> int:
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def test_headings_landmarks_and_tables(open_page, report_data):
    with open_page(report_data) as page:
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() == 1, landmark
        assert page.get_by_role("heading", level=1).inner_text() == report_data.title
        headings = page.get_by_role("heading", level=2).all_inner_texts()
        assert headings == [
            "How good the routing is",
            "What changed since the last snapshot",
            "Map of models",
            "Who answers alike",
            "Nearest models",
            "Who should answer what",
            "What few models cover, and what quality costs",
            "Accuracy by task",
            "How to read it",
        ]
        tables = page.locator("table").all()
        assert len(tables) == 8
        for table in tables:
            assert table.locator("caption").inner_text().strip()
            heads = table.locator("th").all()
            assert heads
            assert all(head.get_attribute("scope") in {"col", "row"} for head in heads)
        for figure in page.locator("figure .plot").all():
            assert figure.get_attribute("aria-label")
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input, select')].filter((e) => !e.labels.length).length"
        )
        assert unnamed == 0


def test_skip_link_is_the_first_stop_and_focus_is_seen(open_page, report_data):
    with open_page(report_data) as page:
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.inner_text() == "Skip to the content"
        assert focused.bounding_box()["y"] >= 0
        assert focused.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_map_draws_every_placed_model_with_details(open_page, report_data):
    first = report_data.models["model_id"][0]
    unplaced = report_data.models.with_columns(
        x=pl.when(pl.col("model_id") != first).then(pl.col("x"))
    )
    with open_page(report_data) as page:
        points = page.locator("#map-plot .scatterlayer .point")
        assert points.count() == report_data.models.height
        rgb = page.evaluate("getComputedStyle(document.body).color")
        outlined = points.evaluate_all(
            "(all, rgb) => all.filter((e) => getComputedStyle(e).stroke === rgb).length", rgb
        )
        assert outlined == len(report_data.new_models)
        page.locator("#map-plot").scroll_into_view_if_needed()
        page.wait_for_timeout(100)
        hover(page, points.nth(0))
        tip = page.locator("#tip")
        tip.wait_for(state="visible")
        assert tip.locator(".title").inner_text().split("\n")[0].split(" new")[0] in set(
            report_data.models["model_id"]
        )
        assert "Parameters" in tip.inner_text()
        page.keyboard.press("Escape")
        assert tip.is_hidden()
    with open_page(replace(report_data, models=unplaced)) as page:
        assert page.locator("#map-plot .scatterlayer .point").count() == 15
        assert "1 model has no position yet" in page.locator("#map").inner_text()


def hover(page, target) -> None:
    """Move onto the middle of an element in two steps, as a hand does."""
    box = target.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 4, y)
    page.wait_for_timeout(80)
    page.mouse.move(x, y)


def test_map_legend_size_and_search_work(open_page, report_data):
    with open_page(report_data) as page:
        points = page.locator("#map-plot .scatterlayer .point")
        sizes = points.evaluate_all("(all) => all.map((e) => e.getAttribute('d'))")
        page.select_option("#map-size", "accuracy")
        page.wait_for_timeout(100)
        assert points.evaluate_all("(all) => all.map((e) => e.getAttribute('d'))") != sizes
        group = page.locator("#map-legend button").first
        members = int(group.locator(".size").inner_text())
        group.click()
        assert group.get_attribute("aria-pressed") == "false"
        page.wait_for_function(
            "(n) => document.querySelectorAll('#map-plot .scatterlayer .point').length === n",
            arg=report_data.models.height - members,
        )
        group.click()
        one = report_data.models["model_id"][3]
        page.fill("#map-find", one)
        page.wait_for_timeout(100)
        strong = points.evaluate_all(
            "(all) => all.filter((e) => getComputedStyle(e).opacity > 0.5).length"
        )
        assert strong == 1


def test_heat_map_tells_the_pair_under_the_pointer(open_page, report_data):
    with open_page(report_data) as page:
        # One picture per triangle; a third one only where something is missing.
        assert page.locator("#heat-plot .heatmaplayer image").count() == 2
        # The tree has one bracket a merge, and stands as high as the heat map.
        tree = page.locator("#heat-plot .scatterlayer .lines")
        assert tree.locator("path").count() == report_data.models.height - 1
        rows, lines = page.locator("#heat-plot .nsewdrag").first.bounding_box(), tree.bounding_box()
        cell = rows["height"] / report_data.models.height
        assert lines["height"] == pytest.approx(rows["height"] - cell, abs=3)
        assert lines["x"] > rows["x"] + rows["width"]
        plane = page.locator("#heat-plot .nsewdrag").first
        plane.scroll_into_view_if_needed()
        page.wait_for_timeout(100)
        order = json.loads(page.locator("#content").text_content())["heat"]["order"]
        ids = report_data.models["model_id"].to_list()
        row, column = 2, 9
        box = plane.bounding_box()
        cell = box["width"] / len(ids)
        x, y = box["x"] + (column + 0.5) * cell, box["y"] + (row + 0.5) * box["height"] / len(ids)
        page.mouse.move(x - 3, y)
        page.wait_for_timeout(80)
        page.mouse.move(x, y)
        tip = page.locator("#tip")
        tip.wait_for(state="visible")
        a, b = sorted([ids[order[row]], ids[order[column]]])
        pair = report_data.pairs.filter((pl.col("model_a") == a) & (pl.col("model_b") == b)).row(
            0, named=True
        )
        words = tip.inner_text()
        assert a.split("/")[1] in words
        assert b.split("/")[1] in words
        assert f"{pair['observed_agreement']:.0%}".replace("%", " %") in words
        assert str(pair["n_common"]) in words


def column_texts(page, table: str, nth: int) -> list[str]:
    return page.locator(f"#{table}-rows tr > :nth-child({nth})").all_inner_texts()


def test_tables_search_sort_and_turn_pages(open_page, report_data):
    rows = report_data.neighbours
    with open_page(report_data) as page:
        box = page.locator("#neighbours-table")
        assert box.locator("tbody tr").count() == 15
        assert box.get_by_role("status").inner_text() == f"{rows.height} rows"
        distance = box.get_by_role("button", name="Distance")
        for way, descending in (("descending", True), ("ascending", False)):
            distance.click()
            assert box.locator("th[aria-sort=" + way + "]").inner_text() == "Distance"
            expected = rows["euclidean_distance"].sort(descending=descending).head(15)
            shown = [float(text) for text in column_texts(page, "neighbours", 4)]
            assert shown == pytest.approx(expected.to_list(), abs=0.006)
        box.get_by_role("button", name="Next").click()
        expected = rows["euclidean_distance"].sort()[15:30]
        shown = [float(text) for text in column_texts(page, "neighbours", 4)]
        assert shown == pytest.approx(expected.to_list(), abs=0.006)
        box.get_by_role("searchbox").fill("MISTRAL 3.4")
        both = pl.concat_str("model_id", pl.lit(" "), "neighbour_id")
        hits = rows.filter(both.str.contains("mistral") & both.str.contains("3.4", literal=True))
        assert box.get_by_role("status").inner_text() == f"{hits.height} of {rows.height} rows"
        box.get_by_role("searchbox").fill("no such model")
        assert "Nothing matches" in box.inner_text()


def test_routing_rows_show_bound_and_observation_side_by_side(open_page, report_data):
    kinds = dict(report_data.buckets.select("bucket", "kind").iter_rows())
    with open_page(report_data) as page:
        field = page.locator("#routing-search")
        for bucket in report_data.buckets["bucket"]:
            field.fill(bucket)
            best = report_data.routing.filter(pl.col("bucket") == bucket).sort("rank")
            # The best for the money of a task stands fourth here; topics have none.
            best = best.head(4 if kinds[bucket] == "task" else 3)
            rows = page.locator("#routing-rows tr")
            assert rows.count() == best.height
            shown = rows.all_inner_texts()
            assert kinds[bucket] in shown[0]
            assert ("best for the money" in shown[-1]) == (kinds[bucket] == "task")
            assert (f"{bucket}, words" in shown[0]) == (kinds[bucket] == "topic")
            for nth, pick in enumerate(best.iter_rows(named=True)):
                cells = rows.nth(nth).locator("td").all_inner_texts()
                assert pick["model_id"].split("/")[1] in cells[1]
                # Shares travel as thousandths and are rounded once more for show.
                numbers = [int(cell.removesuffix(" %")) for cell in cells[3:]]
                assert numbers[0] == pytest.approx(100 * pick["lower_bound"], abs=0.56)
                assert numbers[1] == pytest.approx(100 * pick["observed_accuracy"], abs=0.56)
                assert numbers[2] == pick["n_observed"]
        # Kind and words are searched as well.
        field.fill("topic")
        assert page.locator("#routing-table").get_by_role("status").inner_text() == "12 of 28 rows"


def test_changes_are_told_with_doubt_beside_movement(open_page, report_data):
    since = report_data.since
    with open_page(report_data) as page:
        assert "gone-lab/gone-1B" in page.locator("#changes .lists").inner_text()
        first = page.locator("#moved-rows tr").first.locator("th, td").all_inner_texts()
        assert first[1:] == ["0.400", *first[2:4], "yes"]
        assert first[2].startswith("0.080 →")
        assert first[3].replace(" before, now ", "").split()[0] == "100"
        unexpected = column_texts(page, "moved", 5)
        assert unexpected[1:4] == ["no", "no", "\N{EN DASH}"]
        assert page.locator("#flips-rows tr").count() == since.flips.height
        assert column_texts(page, "ranks", 3) == ["down 13", "up 13"]


def test_an_old_browser_keeps_its_tables(open_page, report_data):
    with open_page(report_data, before="delete window.DecompressionStream") as page:
        assert "too old to draw" in page.locator("#map figure").inner_text()
        assert "too old to draw" in page.locator("#agreement figure").inner_text()
        assert page.locator("#neighbours-rows tr").count() == 15


def test_task_cells_show_share_interval_and_n(open_page, report_data):
    with open_page(report_data) as page:
        page.locator("#tasks-search").fill(report_data.models["model_id"][5])
        mine = report_data.task_accuracy.filter(
            pl.col("model_id") == report_data.models["model_id"][5]
        ).sort("task")
        cells = page.locator("#tasks-rows .cell").all_inner_texts()
        assert len(cells) == mine.height
        for cell, n in zip(cells, mine["n"], strict=True):
            assert cell.endswith(f"n {n}")
            assert cell.count("%") == 2


def test_dark_mode_recolours_page_and_figures_without_a_reload(open_page, report_data):
    with open_page(report_data, color_scheme="light") as page:

        def colours():
            return page.evaluate(
                "[getComputedStyle(document.body).backgroundColor,"
                " getComputedStyle(document.querySelector('#map-plot .point')).fill,"
                " getComputedStyle(document.querySelector('#heat-plot .ytick text')).fill]"
            )

        light = colours()
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(
            "(old) => old !=="
            " getComputedStyle(document.querySelector('#heat-plot .ytick text')).fill",
            arg=light[2],
        )
        dark = colours()
        assert all(one != other for one, other in zip(light, dark, strict=True))


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_overflows_sideways(open_page, report_data, width):
    with open_page(report_data, width=width) as page:
        assert overflow(page) <= 0
        assert page.locator("#map-plot .scatterlayer .point").count() == 16
        # A phone that is turned draws its figures anew.
        page.set_viewport_size({"width": width + 300, "height": 700})
        page.wait_for_function(
            "() => document.querySelector('#heat-plot .main-svg').clientWidth"
            " === document.querySelector('#heat-plot').clientWidth"
        )
        page.set_viewport_size({"width": width, "height": 700})
        page.wait_for_function(
            "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )


@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_names_are_text_and_nothing_else(open_page, make_report, width):
    buckets = tuple(f"{name} " for name in HOSTILE[:8])
    data = make_report(len(HOSTILE), ids=HOSTILE, buckets=buckets)
    names = pl.Series(HOSTILE)
    data = replace(
        data,
        title=HOSTILE[0],
        snapshot_id=HOSTILE[4],
        limits=HOSTILE,
        lineage=dict.fromkeys(HOSTILE, HOSTILE[0]),
        routing_quality={name: {"hit@1": 0.5, "low": 0.4, "high": 0.6, "n": 9} for name in HOSTILE},
        models=data.models.with_columns(family=names, org=names.reverse()),
        new_models=HOSTILE,
    )
    with open_page(data, width=width) as page:
        assert page.evaluate("window.hacked") is None
        assert page.title() == HOSTILE[0]
        # Links to cards are the only ones.
        assert page.locator('main a:not([href^="#model="])').count() == 0
        assert page.locator("img").count() == 0
        assert overflow(page) <= 0
        page.locator("#neighbours-search").fill("")
        shown: set[str] = set()
        while True:
            shown |= set(
                page.locator("#neighbours-rows th bdi").evaluate_all(
                    "(all) => all.map((e) => e.textContent)"
                )
            )
            following = page.locator("#neighbours-table").get_by_role("button", name="Next")
            if not following.is_visible() or following.is_disabled():
                break
            following.click()
        assert shown == {visible(name) for name in HOSTILE}
        assert "evil/⟨U+202E⟩gnp.exe⟨U+202C⟩" in shown
        isolated = page.locator("#neighbours-rows bdi").first
        assert isolated.evaluate("(e) => getComputedStyle(e).unicodeBidi").startswith("isolate")
        labels = page.locator("#heat-plot .ytick text, #map-plot .textpoint text")
        texts = labels.evaluate_all("(all) => all.map((e) => e.textContent)")
        assert "--ink" in texts
        assert not any("\u202e" in text for text in texts)
        assert page.locator("#map-plot svg a, #heat-plot svg a").count() == 0
        if width == 1280:
            assert any(text.startswith("<img src=x onerror=") for text in texts)
        # Every detail of every model passes through the tooltip as well.
        page.locator("#map-plot").scroll_into_view_if_needed()
        page.wait_for_timeout(100)
        for at in range(3):
            hover(page, page.locator("#map-plot .scatterlayer .point").nth(at))
            page.locator("#tip").wait_for(state="visible")
        assert page.locator("#tip a, #tip img, #tip script").count() == 0


def test_an_empty_report_opens(open_page, report_data):
    empty = {
        name: getattr(report_data, name).clear()
        for name in (
            "models",
            "pairs",
            "neighbours",
            "buckets",
            "routing",
            "task_accuracy",
            "facts",
        )
    }
    data = replace(report_data, new_models=[], since=None, routing_quality={}, **empty)
    with open_page(data) as page:
        assert "Nothing has been published here yet" in page.locator("main").inner_text()


def test_two_thousand_models_stay_light_and_usable(open_page, make_report, tmp_path):
    data = make_report(2000, n_queries=300)
    data = replace(
        data,
        curves=made_up_curves(data.models["model_id"].to_list()),
        layouts={"tsne": data.models.select("model_id", x="y", y="x")},
    )
    with open_page(data) as page:
        assert (tmp_path / "report.html").stat().st_size < 3_500_000
        page.wait_for_selector("#cost-plot[data-ready]")
        assert page.locator("#cost-plot .scatterlayer .point").count() > 2000
        # A tree over a part of the pool would show groups that aren't there.
        assert page.locator("#heat-plot .scatterlayer path").count() == 0
        assert page.locator("#map-plot .scatterlayer .point").count() == 2000
        assert page.locator("#heat-plot .heatmaplayer image").count() == 2
        assert "the heat map shows 150" in page.locator("#agreement").inner_text()
        assert page.locator("*").count() < 12_000
        wanted = data.models["model_id"][1234]
        page.locator("#neighbours-search").fill(wanted)
        assert wanted in "".join(
            page.locator("#neighbours-rows bdi").evaluate_all(
                "(all) => all.map((e) => e.textContent)"
            )
        )
        assert page.locator("#neighbours-rows tr").count() <= 15
        page.fill("#map-find", wanted)
        page.wait_for_selector("#map-plot .textpoint")
        assert page.locator("#map-plot .textpoint").count() == 1
