"""Curves of the report: counted anew by hand, and as a reader meets them."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from test_report_page import packed
from watched_page import watched

from locus.publication.content import SnapshotContent
from locus.publication.curves import BUDGETS, measure
from locus.report import ReportDataError, render, write
from locus.report.curves import Curves, curve_words

KINDS = 3
UNPRICED, UNSIZED, UNTRAINED = 1, 2, 3


class World:
    """Specialists of three kinds; one has no price, one no size, one no training scores.

    Half of the queries are for test; a tenth of the scores is missing.
    """

    def __init__(self, ids: list[str], n_queries: int = 120) -> None:
        rng = np.random.default_rng(5)
        n = len(ids)
        own, kind = np.arange(n) % KINDS, rng.integers(0, KINDS, n_queries)
        skill = rng.uniform(0.0, 0.25, n)
        chance = np.where(kind[:, None] == own, 0.7, 0.2) + skill
        self.test = np.arange(n_queries) % 2 == 0
        self.p_TM = (chance - 0.05 * rng.random(chance.shape)).astype(np.float32)
        self.y_TM = (rng.random(chance.shape) < chance).astype(np.float32)
        self.y_TM[rng.random(chance.shape) < 0.1] = np.nan
        self.y_TM[~self.test, UNTRAINED] = np.nan
        price = rng.lognormal(0, 1, n)
        params = rng.lognormal(2, 1, n)
        price[UNPRICED], params[UNSIZED] = np.nan, np.nan
        self.price, self.params, self.ids = price, params, ids
        queries = [f"q{i}" for i in range(n_queries)]
        split = np.where(self.test, "test", "train")
        row, column = np.nonzero(~np.isnan(self.y_TM))
        known = pl.Series(split).gather(row)
        self.content = SnapshotContent(
            created_at=datetime(2026, 3, 1, tzinfo=UTC),
            models=pl.DataFrame(
                {
                    "model_id": ids,
                    "params_b": pl.Series(params).fill_nan(None),
                    "price_in_usd_per_mtok": pl.Series(price).fill_nan(None),
                    "price_out_usd_per_mtok": pl.Series([None] * n, dtype=pl.Float64),
                }
            ),
            z_Md=np.zeros((n, 2), np.float32),
            reference=pl.DataFrame({"query_id": queries, "task": "t", "split": split}),
            x_Tf=np.zeros((n_queries, 1), np.float32),
            scores=pl.DataFrame(
                {
                    "model_id": pl.Series(ids).gather(column),
                    "query_id": pl.Series(queries).gather(row),
                    "split": known,
                    "score": self.y_TM[row, column],
                }
            ),
            cost=pl.DataFrame(),
            predictor=None,  # type: ignore[arg-type]  # curves ask it nothing
            lineage={},
        )

    def curves(self) -> Curves:
        return measure(self.content, self.p_TM, self.y_TM)

    def share(self, chosen: list[int]) -> tuple[float, int]:
        """Of test queries that one of them answered, the share that the likeliest got right."""
        scores = []
        for t in np.flatnonzero(self.test):
            asked = [m for m in chosen if not np.isnan(self.y_TM[t, m])]
            if asked:
                scores.append(self.y_TM[t, max(asked, key=lambda m: self.p_TM[t, m])])
        return float(np.mean(scores)), len(scores)


def made_up_curves(ids: list[str]) -> Curves:
    return World(ids).curves()


@pytest.fixture(scope="module")
def world() -> World:
    return World([f"org/m{i:02}" for i in range(24)])


@pytest.fixture(scope="module")
def curves(world: World) -> Curves:
    return world.curves()


def test_sets_are_judged_as_counted_by_hand(world: World, curves: Curves) -> None:
    for choice in ("best", "naive"):
        rows = curves.portfolio.filter(choice=choice)
        chosen = [world.ids.index(m) for m in rows["model_id"]]
        for size, hit, n in rows.select("size", "hit1", "n").iter_rows():
            assert (hit, n) == pytest.approx(world.share(chosen[:size]))
        assert ((rows["low"] < rows["hit1"]) & (rows["hit1"] < rows["high"])).all()
        known = [UNPRICED not in chosen[:size] for size in rows["size"]]
        assert rows["price"].is_not_null().to_list() == known
    assert not all(known)
    train_TM = world.y_TM[~world.test]
    train_TM[:, UNTRAINED] = 0
    assert chosen[0] == np.nanmean(train_TM, axis=0).argmax()
    # Who has no training scores can't be known to be accurate.
    assert world.ids[UNTRAINED] not in rows["model_id"]
    first = curves.portfolio.filter(choice="best", size=KINDS).row(0, named=True)
    assert first["hit1"] > curves.portfolio.filter(choice="best", size=1)["hit1"][0] + 0.1


@pytest.mark.parametrize(("unit", "unknown"), [("price", UNPRICED), ("params", UNSIZED)])
def test_a_budget_is_kept(world: World, curves: Curves, unit: str, unknown: int) -> None:
    rows = curves.budget.filter(unit=unit)
    assert 3 < rows.height <= BUDGETS
    assert (rows["cost"] <= rows["budget"]).all()
    assert rows["cost"].is_sorted()
    cost = world.price if unit == "price" else world.params
    for row in rows.iter_rows(named=True):
        alone = world.ids.index(row["model_id"])
        assert alone != unknown
        assert cost[alone] <= row["budget"]
        assert (row["single_hit1"], row["single_n"]) == pytest.approx(world.share([alone]))


def test_cost_against_quality(world: World, curves: Curves) -> None:
    routed = curves.cost.filter(kind="routed").sort("weight")
    priced = [m for m in range(24) if m != UNPRICED]
    assert (routed["hit1"][0], routed["n"][0]) == pytest.approx(world.share(priced))
    assert routed["cost"].is_sorted(descending=True)
    single = curves.cost.filter(pl.col("kind") != "routed")
    assert set(single["model_id"]) == {world.ids[m] for m in priced}
    for model, hit, n, cost in single.select("model_id", "hit1", "n", "cost").iter_rows():
        m = world.ids.index(model)
        assert (hit, n) == pytest.approx(world.share([m]))
        assert cost == pytest.approx(world.price[m])
    assert single.filter(kind="best single").height == 1
    assert curves.without_price == 1


def test_what_cannot_be_measured_says_why(world: World, report_data) -> None:
    free = world.content.models.with_columns(
        price_in_usd_per_mtok=pl.lit(None, pl.Float64), params_b=pl.lit(None, pl.Float64)
    )
    found = measure(replace(world.content, models=free), world.p_TM, world.y_TM)
    assert found.portfolio.height > 0
    assert "Neither prices nor" in found.absent["budget"]
    assert "The price of no model" in found.absent["cost"]
    unasked = np.where(world.test[:, None], np.nan, world.y_TM)
    nothing = measure(world.content, world.p_TM, unasked)
    assert set(nothing.absent) == {"portfolio", "budget", "cost"}
    page = render(replace(report_data, curves=nothing))
    assert page.count("No held-out test query was answered") == 1
    assert "-plot" not in page.split('id="curves"')[1].split("</section>")[0]
    with pytest.raises(ReportDataError, match=r"curves.portfolio.model_id names 'org/m"):
        render(replace(report_data, curves=found))


def test_words_hold_back_where_chance_explains_it() -> None:
    def words(best: float, naive: float, half: float) -> str:
        rows = [
            ("best", 1, best, best - half, best + half, 0.9),
            ("naive", 1, naive, naive - half, naive + half, 0.9),
        ]
        names = ["choice", "size", "hit1", "low", "high", "pool_hit1"]
        portfolio = pl.DataFrame(rows, schema=names, orient="row").with_columns(n=pl.lit(9))
        return curve_words(Curves(portfolio))["portfolio"]

    assert "may be chance" in words(0.8, 0.7, 0.2)
    assert "may be chance" not in words(0.8, 0.7, 0.01)
    assert "1 model comes within one point" in words(0.895, 0.7, 0.2)
    assert "No set of up to 1" in words(0.8, 0.7, 0.2)


def test_the_best_set_ends_where_nobody_adds_anything(world: World) -> None:
    p_TM = np.broadcast_to(np.linspace(0.2, 0.9, 24, dtype=np.float32), world.p_TM.shape)
    found = measure(world.content, p_TM, world.y_TM)
    assert found.portfolio.filter(choice="best")["model_id"].to_list() == [world.ids[-1]]
    assert "Beyond the best 1, no model" in curve_words(found)["portfolio"]


def test_the_page_carries_what_was_measured(report_data) -> None:
    ids = report_data.models["model_id"].to_list()
    found = made_up_curves(ids)
    page = render(replace(report_data, curves=found))
    rows = packed(page)["curves"]
    best = found.portfolio.filter(choice="best")
    shown = rows["portfolio"]["best"]
    assert [ids[row[1]] for row in shown] == best["model_id"].to_list()
    assert [row[2] for row in shown] == [round(1000 * hit) for hit in best["hit1"]]
    assert [row[8] is None for row in shown] == best["price"].is_null().to_list()
    assert len(rows["cost"]["single"]) == len(ids) - 1
    assert "Sets were chosen by predictions on 60 other queries and judged on" in page
    assert "1 model without a known price is missing here" in page


@pytest.mark.slow
def test_charts_and_tables_of_a_page(browser, make_report, tmp_path) -> None:
    hostile = ["<img src=x onerror=alert(1)>", "evil/\u202egnp.exe", "--ink"]
    ids = [*hostile, *(f"org/m{i:02}" for i in range(17))]
    found = made_up_curves(ids)
    path = tmp_path / "report.html"
    write(make_report(20, ids=ids, curves=found), path)
    with watched(browser, path, width=390, color_scheme="light") as page:
        page.wait_for_selector("#cost-plot[data-ready]")
        points = {
            name: page.locator(f"#{name}-plot .scatterlayer .point")
            for name in ("portfolio", "budget", "cost")
        }
        assert points["portfolio"].count() == found.portfolio.height
        rows = found.budget.filter(unit="price")
        assert points["budget"].count() == rows.height + rows["single_hit1"].count()
        assert points["cost"].count() == found.cost.height
        colour = "() => getComputedStyle(document.querySelector('#cost-plot .point')).fill"
        light = page.evaluate(colour)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"(old) => ({colour})() !== old", arg=light)

        # The tables open by keyboard, and follow the unit of the budget.
        for summary in page.locator("#curves summary").all():
            summary.focus()
            page.keyboard.press("Enter")
        page.select_option("#budget-unit", "params")
        rows = found.budget.filter(unit="params")
        assert points["budget"].count() == rows.height + rows["single_hit1"].count()
        assert page.locator("#budget-table").count() == 1
        assert f"{rows.height} rows" in page.locator("#budget-table").inner_text()
        page.locator("#cost-search").fill("onerror")
        assert hostile[0] in page.locator("#cost-rows").inner_text()
        page.locator("#cost-search").fill("routed")
        routed = found.cost.filter(kind="routed").row(0, named=True)
        cells = page.locator("#cost-rows tr").first.locator("td").all_inner_texts()
        assert cells[1].startswith(f"{100 * routed['hit1']:.1f} %")
        assert cells[2:] == ["nothing", str(routed["n"])]
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(width) <= 0

        last = points["portfolio"].last
        last.scroll_into_view_if_needed()
        box = last.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 4, y)
        page.wait_for_timeout(80)
        page.mouse.move(x, y)
        page.locator("#tip").wait_for(state="visible")
        assert "Whole pool" in page.locator("#tip").inner_text()
