"""What the page says and packs, without a browser."""

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from locus.report import FRAMES, ReportData, ReportDataError, render, write
from locus.report.page import embedded_json
from locus.report.payload import HEAT_MODELS, NEIGHBOUR_ROWS, TASK_CELLS, pack
from locus.report.since import ROWS
from locus.similarity import distance_matrix

EMPTY = {name: pl.DataFrame(schema=schema) for name, schema in FRAMES.items()}


def packed(page: str, block: str = "content") -> dict:
    found = re.search(rf'<script type="application/json" id="{block}">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


class Outline(HTMLParser):
    """Counts elements and collects scripts and everything that could make a request."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_headline_states_what_is_published(report_data):
    page = render(report_data)
    assert "16 models, placed by" in page
    assert f"{report_data.models['n_scores'].sum():,} scores on\n      640 queries" in page
    assert "Published 3 March 2026, 02:14 UTC" in page
    assert "71.2 % of held-out queries are answered right" in page
    assert "The two intervals overlap" in page
    for limit in report_data.limits:
        assert limit in page
    for value in report_data.lineage.values():
        assert value in page


def test_another_time_zone_is_shown_in_utc(report_data):
    zone = timezone(timedelta(hours=9))
    page = render(replace(report_data, created_at=datetime(2026, 3, 3, 3, 0, tzinfo=zone)))
    assert "Published 2 March 2026, 18:00 UTC" in page


@pytest.mark.parametrize(
    ("own", "best", "words"),
    [
        ((0.8, 0.78, 0.82), (0.6, 0.58, 0.62), "larger than chance explains"),
        ((0.5, 0.48, 0.52), (0.6, 0.58, 0.62), "Routing is worse here"),
        ((0.6, 0.5, 0.7), (0.62, 0.52, 0.72), "may be chance"),
    ],
)
def test_summary_is_honest_about_the_gain(report_data, own, best, words):
    def row(value):
        return {"hit@1": value[0], "low": value[1], "high": value[2], "n": 100}

    quality = {"locus": row(own), "best_single": row(best)}
    assert words in render(replace(report_data, routing_quality=quality))


def test_page_asks_the_network_for_nothing_by_construction(report_data):
    page = render(report_data)
    outline = Outline(page)
    linked = [
        value
        for _, attributes in outline.tags
        for key, value in attributes.items()
        if key in {"src", "href", "srcset", "action", "poster", "data"}
    ]
    assert linked
    assert all(value.startswith("#") or value == "data:," for value in linked)
    policy = next(
        attributes["content"]
        for tag, attributes in outline.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    # The drawing library is run from unpacked text: the policy allows exactly that text.
    packed_library = re.search(r'<script type="text/plain" id="plotly">(.*?)</script>', page)
    library = zlib.decompress(base64.b64decode(packed_library[1]))
    assert b"plotly.js v" in library[:200]
    assert base64.b64encode(hashlib.sha256(library).digest()).decode() in policy


def test_same_data_in_any_order_gives_the_same_page(report_data):
    assert render(report_data) == render(report_data)
    shuffled = replace(
        report_data, pairs=report_data.pairs.sample(fraction=1, shuffle=True, seed=1)
    )
    assert packed(render(shuffled))["heat"] == packed(render(report_data))["heat"]


def test_heat_map_holds_the_pairs_it_was_given(report_data):
    heat = packed(render(report_data))["heat"]
    ids = report_data.models["model_id"].to_list()
    order = [ids[i] for i in heat["order"]]
    assert sorted(order) == sorted(ids)
    upper = np.triu_indices(len(ids), k=1)
    for column, key, scale in (
        ("observed_agreement", "agreement", 1000),
        ("agreement_low", "low", 1000),
        ("n_common", "n", 1),
        ("euclidean_distance", "distance", 1),
    ):
        expected = distance_matrix(report_data.pairs, order, column)[upper] * scale
        np.testing.assert_allclose(heat[key], expected, atol=0.51, rtol=1e-3)


def test_tree_and_expected_agreement_follow_the_distances(report_data):
    content = packed(render(report_data))
    heat = content["heat"]
    n = len(heat["order"])
    assert len(heat["tree"]) == n - 1
    assert sorted(node for merge in heat["tree"] for node in merge[:2]) == list(range(2 * n - 2))
    heights = [merge[2] for merge in heat["tree"]]
    assert heights == sorted(heights)
    assert heights[0] == min(heat["distance"])
    # Expected agreement never rises with distance, and on the whole it is what was observed.
    by_distance = sorted(zip(heat["distance"], heat["expected"], strict=True))
    expected = [share for _, share in by_distance]
    assert expected == sorted(expected, reverse=True)
    observed = np.average(heat["agreement"], weights=heat["n"])
    assert np.average(heat["expected"], weights=heat["n"]) == pytest.approx(observed, abs=1)
    # A pair without a distance would get a stand-in in the tree, so there is none.
    blank = report_data.pairs.with_columns(
        euclidean_distance=pl.when(pl.int_range(pl.len()) > 0).then(pl.col("euclidean_distance"))
    )
    assert packed(render(replace(report_data, pairs=blank)))["heat"]["tree"] == []


def test_missing_stays_missing(report_data):
    a, b = report_data.pairs.row(0)[:2]
    gone = (pl.col("model_a") == a) & (pl.col("model_b") == b)
    measured = ["observed_agreement", "agreement_low", "agreement_high"]
    blank = report_data.pairs.with_columns(
        pl.when(~gone).then(pl.col(name)).alias(name) for name in measured
    )
    heat = packed(render(replace(report_data, pairs=blank)))["heat"]
    assert heat["agreement"].count(None) == heat["low"].count(None) == 1
    nan = report_data.models.with_columns(accuracy=pl.lit(float("nan")))
    assert set(packed(render(replace(report_data, models=nan)))["models"]["accuracy"]) == {None}


def test_caps_are_applied_and_said(make_report):
    data = make_report(220, n_queries=60, neighbours=60)
    data = replace(data, new_models=[data.models.sort("n_scores")["model_id"][0]])
    first = pl.col("bucket") == data.buckets["bucket"][0]
    kind = pl.when(first).then(pl.lit("all")).otherwise("kind").alias("kind")
    data = replace(data, buckets=data.buckets.with_columns(kind))
    many = pl.concat(data.task_accuracy.with_columns(pl.col("task") + f" {i}") for i in range(12))
    data = replace(data, task_accuracy=many)
    payload = pack(data.checked())
    content = payload.content
    assert len(content["heat"]["order"]) == HEAT_MODELS
    ids = data.models["model_id"].to_list()
    shown = {ids[i] for i in content["heat"]["order"]}
    assert data.new_models[0] in shown
    overall = data.routing.filter(bucket=data.buckets.filter(kind="all")["bucket"][0])
    best = [m for m in overall.sort("rank")["model_id"] if m != data.new_models[0]]
    assert shown == {data.new_models[0], *best[: HEAT_MODELS - 1]}
    assert len(content["neighbours"]["model"]) <= NEIGHBOUR_ROWS
    assert set(content["neighbours"]["model"]) == set(range(220))
    assert len(content["tasks"]["model"]) * len(content["tasks"]["names"]) <= TASK_CELLS
    page = render(data)
    assert all(payload.caps[name] for name in ("neighbours", "tasks", "heat"))
    for sentence in filter(None, payload.caps.values()):
        assert sentence in page


def test_changes_say_what_cannot_be_compared(report_data):
    page = render(replace(report_data, since=None))
    assert "This is the first snapshot" in page
    assert packed(page)["since"] == {"moved": [], "flips": [], "ranks": []}
    other = replace(report_data.since, same_map=False, moved=report_data.since.moved.clear())
    page = render(replace(report_data, since=other))
    assert "places on two maps can't be compared" in page
    assert 'id="moved-table"' not in page
    assert 'id="moved-table"' in render(report_data)


def test_many_changes_are_cut_and_said(report_data):
    since = report_data.since
    many = pl.concat([since.moved] * 20)
    names = [f"org/m{i}" for i in range(30)]
    page = render(replace(report_data, since=replace(since, moved=many, gone=names)))
    assert f"The first {ROWS} of {many.height} are shown." in page
    assert len(packed(page)["since"]["moved"]) == ROWS
    assert "and 18 more" in page
    assert "Gone (30)" in page
    # Moved 0.4 under a doubt of 0.08 and 0.06, which together are 0.1; then 0.2, and one unknown.
    beyond = [row[-1] for row in packed(page)["since"]["moved"][:4]]
    assert beyond == [True, False, False, None]


def test_groups_past_the_palette_share_a_neutral_colour(report_data):
    models = report_data.models.with_columns(
        cluster=pl.when(pl.int_range(pl.len()) < 15).then(pl.int_range(pl.len()) % 11)
    )
    groups = packed(render(replace(report_data, models=models)))["groups"]
    assert [group["slot"] for group in groups] == [*range(8), -1, -1, -1, -1]
    assert groups[-1]["label"] == "No group yet"
    assert sum(group["size"] for group in groups) == 16


def test_an_empty_snapshot_still_renders():
    data = ReportData(
        title="Nothing yet",
        snapshot_id="s",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        n_queries=0,
        **EMPTY,
    )
    page = render(data)
    assert "0 models, placed by 0 scores" in page
    assert "Routing has not been measured" in page


def test_hostile_text_is_escaped_in_every_field(report_data):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2028\ud800"
    page = render(
        replace(
            report_data,
            title=evil,
            snapshot_id=evil,
            limits=[evil],
            lineage={evil: evil},
            routing_quality={evil: {"hit@1": 0.5, "low": None, "high": None, "n": None}},
            since=replace(
                report_data.since,
                snapshot=evil,
                gone=[evil],
                added=[evil],
                quality={evil: (0.1, 0.2)},
                flips=report_data.since.flips.with_columns(old_best=pl.lit(evil[:-1])),
            ),
            buckets=report_data.buckets.with_columns(words=pl.lit(evil[:-1])),
        )
    )
    page.encode("utf-8")
    tags = [tag for tag, _ in Outline(page).tags]
    assert tags.count("script") == 4
    assert "img" not in tags


def test_text_that_turns_direction_is_written_out(report_data):
    turned = "a\u202eb\u2066c\nd\u200fe"
    page = render(replace(report_data, title=turned, limits=[turned]))
    assert "a⟨U+202E⟩b⟨U+2066⟩c⟨U+000A⟩d⟨U+200F⟩e" in page
    assert "\u202e" not in page.split("<script")[0]
    tasks = report_data.task_accuracy.with_columns(pl.col("task") + "\u202e")
    names = packed(render(replace(report_data, task_accuracy=tasks)))["tasks"]["names"]
    assert all(name.endswith("⟨U+202E⟩") for name in names)


def test_embedded_json_cannot_leave_its_element():
    hostile = ["</script>", "<!--<script>", "&amp;", "\u2028\u2029", 'quote"', "\\"]
    text = str(embedded_json(hostile))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == hostile


def test_write_leaves_one_whole_utf8_file(report_data, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    size = write(replace(report_data, title="Karte · 地図"), path)
    assert size == path.stat().st_size
    assert "Karte · 地図" in path.read_bytes().decode("utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(report_data, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ReportDataError):
        write(replace(report_data, created_at=datetime(2026, 1, 1)), path)  # noqa: DTZ001
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: {"models": d.models.drop("x")}, r"models lacks the column\(s\) \['x'\]"),
        (lambda d: {"models": pl.concat([d.models, d.models])}, "twice"),
        (lambda d: {"models": d.models.head(3)}, "not in models"),
        (lambda d: {"routing": d.routing.with_columns(p_correct=pl.lit("?"))}, "wrong type"),
        (lambda d: {"routing": d.routing.with_columns(bucket=pl.lit(None))}, "empty values"),
        (lambda d: {"since": replace(d.since, moved=d.since.moved.drop("moved"))}, "since.moved"),
        (
            lambda d: {"buckets": d.buckets.with_columns(best_for_the_money=pl.lit("nobody"))},
            "buckets.best_for_the_money names 'nobody'",
        ),
        (lambda d: {"routing_quality": {"locus": {"hit@1": 1}}}, "'high', 'low', 'n'"),
    ],
)
def test_data_that_cannot_be_shown_is_named(report_data, change, words):
    with pytest.raises(ReportDataError, match=words):
        render(replace(report_data, **change(report_data)))
