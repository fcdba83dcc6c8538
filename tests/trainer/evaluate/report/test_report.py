"""The page: complete in itself, true to the numbers it is given, and readable whatever the run left
out.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer import pictures
from trainer.evaluate.report import (
    Choice,
    Claim,
    KnownDefect,
    Report,
    ReportedImage,
    charts,
    write_report,
)
from trainer.evaluate.report.page import percent, render
from trainer.metrics import metrics_of
from trainer.train.defect_scores import DefectScores
from trainer.train.operating_points import operating_points, suggestion
from trainer.train.outliers import Outlier

SIZE = (48, 64)


def _report(**changes: Any) -> Report:
    """Four good parts with scores 1, 2, 3, 4; dents with 2.5, 5, 6, one of them not outlined; a
    stain with 9.
    """
    scores = np.array([1, 2, 3, 4, 2.5, 5, 6, 9], np.float32)
    labels = np.array([False] * 4 + [True] * 4)
    defects = ["good"] * 4 + ["dent", "dent", "dent", "stain"]
    names = [f"test/{defect}/{index:03}" for index, defect in enumerate(defects)]
    truths: list[NDArray[np.bool_] | None] = [np.zeros(SIZE, bool) for _ in names]
    for index in range(4, 8):
        truth = np.zeros(SIZE, bool)
        truth[10:16, 20:30] = True
        truths[index] = truth
    truths[6] = None
    maps = [np.full((12, 16), 0.1, np.float32) * score for score in scores]
    for index in range(4, 8):
        maps[index][2:5, 5:8] = scores[index]
    rows = [
        metrics_of(
            name, labels[keep], scores[keep], [maps[i] for i in keep], [truths[i] for i in keep]
        )
        for name, keep in (("dent", [*range(7)]), ("stain", [0, 1, 2, 3, 7]), ("all", [*range(8)]))
    ]
    values: dict[str, Any] = {
        "product": "washer",
        "system": "MATS",
        "preset": "compact",
        "threshold": 3.5,
        "images": [
            ReportedImage(
                names[index],
                defects[index],
                bool(labels[index]),
                float(scores[index]),
                maps[index],
                truths[index],
                lambda index=index: np.full((*SIZE, 3), 90 + index, np.uint8),
            )
            for index in range(8)
        ],
        "rows": rows,
        "curves": {"teacher": [3.0, 2.0, 1.0], "student": [1.0, float("nan"), 0.5]},
        "known": [
            KnownDefect(names[4], "relief", "dent", 0.01, 3.0),
            KnownDefect(names[7], "color", "stain", 0.002),
        ],
        "parameters": {"seed": "0"},
        "claims": [Claim("INT8 on a Jetson", "never executed")],
    }
    return Report(**(values | changes))


@functools.cache
def _page() -> str:
    """Of the report as it is, rendered once for all tests that only read it."""
    return render(_report())


class _Balance(HTMLParser):
    """Collects addresses, and fails on a tag that closes another than the last one opened."""

    void = frozenset({"meta", "img", "br", "line", "circle", "rect", "polyline", "polygon"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")
        ]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def test_the_file_needs_no_other_and_no_network(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", _report())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    pictures_shown = [address for address in parser.addresses if not address.startswith("#")]
    assert pictures_shown
    assert all(address.startswith("data:image/jpeg;base64,") for address in pictures_shown)
    assert not re.search(r"https?://|<link|@import|url\([^#]", page)


def test_no_request_leaves_the_page_and_only_its_own_script_runs() -> None:
    page = _page()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert not re.search(r"\bon(click|load|error)=|fetch\(|XMLHttpRequest|import\(", page)


def test_the_same_report_is_the_same_page_byte_for_byte() -> None:
    assert render(_report()) == _page()


def test_every_id_is_there_once_and_every_reference_finds_its_own() -> None:
    """Several drawings of one program stand in one page."""
    page = _page()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)) <= {
        pair for name in ids for pair in ((name, ""), ("", name))
    }


def test_every_image_is_a_line_of_the_table_with_the_highest_score_first() -> None:
    page = _page()
    rows = re.findall(
        r'<tr><td>(test/[^<]+)</td><td>(\w+)</td><td class="n" data-value="([^"]+)">.*?'
        r'<td class="chip [a-z ]+">([a-z ]+)</td></tr>',
        page,
        re.DOTALL,
    )
    assert [(name, float(value), result) for name, _, value, result in rows] == [
        ("test/stain/007", 9.0, "found"),
        ("test/dent/006", 6.0, "found"),
        ("test/dent/005", 5.0, "found"),
        ("test/good/003", 4.0, "false alarm"),
        ("test/good/002", 3.0, "passed"),
        ("test/dent/004", 2.5, "missed"),
        ("test/good/001", 2.0, "passed"),
        ("test/good/000", 1.0, "passed"),
    ]


def test_every_panel_has_a_heading_and_the_color_bar_its_threshold() -> None:
    page = _page()
    panels = re.findall(r'class="panel"><span>([^<]+)</span><img src="data', page)
    assert panels[:3] == ["image", "anomaly map", "close-up"]
    scale = pictures.heat_scale([one.map for one in _report().images], _report().labels)
    share = re.search(r'<div class="ramp"><i style="left: ([0-9.]+)%">', page)
    assert share is not None
    assert float(share[1]) == pytest.approx(
        100 * (3.5 - scale.low) / (scale.high - scale.low), abs=0.1
    )


def test_it_counts_what_the_threshold_does() -> None:
    page = " ".join(re.sub(r"<[^>]+>", " ", _page()).split())
    assert "Of 4 defective parts 3 are rejected , 1 would pass." in page
    assert "Of 4 good parts 1 is rejected" in page
    assert re.search(r"dent 3 2 of 3", page)
    assert re.search(r"stain 1 1 of 1", page)
    assert "all defects 4 3 of 4" in page
    assert "1 defective image without an outline counts in the image metrics only" in page


def test_the_missed_part_comes_first_and_good_parts_by_falling_score() -> None:
    shown = re.findall(r"<h3>(.*?)</h3>|<span>(test/\w+/\d+) ·", _page())
    order = [title or name for title, name in shown]
    assert order[order.index("Missed") + 1] == "test/dent/004"
    start = order.index("Most suspicious good parts")
    assert order[start + 1 : start + 5] == [
        "test/good/003",
        "test/good/002",
        "test/good/001",
        "test/good/000",
    ]


def test_every_verdict_is_named_as_what_it_is() -> None:
    page = _page()
    for score, verdict in (
        ("2.5", "OK, missed"),
        ("4", "NG, false alarm"),
        ("9", "NG, found"),
        ("3", "OK, passed"),
    ):
        assert f"{score} {verdict}" in page


def _choice(picture: NDArray[np.uint8] | None) -> Choice:
    """Nine normal scores with an outlier of 4, three real defects; the highest is chosen."""
    scores = [4.0, 1.3, 1.2, 1.15, 1.1, 1.05, 1.0, 0.95, 0.9]
    points = operating_points(
        scores, 1, 0.05, DefectScores(kind="real", groups={"real": (1.25, 2.0, 3.0)})
    )
    outlier = Outlier("validation/good/<7>", 4.0, 1.3, 1.1)
    return Choice(
        points[0].threshold.guarantee, points, 1, suggestion(points, 1), [(outlier, picture)]
    )


def test_the_first_section_shows_the_outlier_and_the_operating_points() -> None:
    picture = np.full((30, 40, 3), (200, 30, 60), np.uint8)
    html = render(_report(choice=_choice(picture)))
    first = html[html.index("<section>") : html.index("</section>")]
    address = re.search(r'<div class="warning">\s*<img src="([^"]+)"', first)
    assert address is not None
    assert abs(_decoded(address[1]) - picture).max() < 20
    page = " ".join(re.sub(r"<[^>]+>", " ", first).split())
    assert (
        "Outlier among the normal parts: validation/good/&lt;7&gt;. Score 4, next 1.3, median 1.1."
        in page
    )
    assert (
        "It alone sets the threshold. `trainer export` stops until you say --leave-out NAME or"
        " --keep NAME." in page
    )
    assert "highest (chosen) 4 10.0% 28.3% 0 of 3" in page
    assert "2nd highest 1.3 20.0% 42.9% 2 of 3" in page
    assert "would suggest the 3rd highest: 3 of 3 found instead of 0" in page
    assert "Threshold 3.5. With 95% confidence at most 28.3% of normal parts are rejected" in page
    assert len(re.findall(r'<tr class="chosen">', first)) == 1


def test_an_outlier_without_its_picture_and_a_run_without_a_choice_still_give_a_page() -> None:
    assert '<div class="warning">' in render(_report(choice=_choice(None)))
    assert "Outlier" not in _page()
    plain = dataclasses.replace(_choice(None), outliers=())
    assert "Outlier" not in render(_report(choice=plain))


def test_names_cannot_inject_markup() -> None:
    page = render(_report(product="<script>alert(1)</script>", parameters={"<i>": "<b>&"}))
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;&amp;" in page


def test_depth_adds_a_picture_of_the_height() -> None:
    flat = _report()
    deep = [
        dataclasses.replace(image, height=lambda: np.ones((24, 32), np.float32))
        for image in flat.images
    ]
    without, with_depth = render(flat), render(dataclasses.replace(flat, images=deep))
    assert 'alt="height of' not in without
    assert with_depth.count('alt="height of') == without.count('alt="close-up of')


@pytest.mark.parametrize(
    "keep", [[0, 1], [4, 7], []], ids=["only good", "only defective", "no image"]
)
def test_a_run_without_one_of_the_classes_still_gives_a_page(keep: list[int]) -> None:
    whole = _report()
    images = [whole.images[i] for i in keep]
    part = dataclasses.replace(whole, images=images, rows=[], known=(), curves={})
    assert f"{len(keep)} images judged" in render(part)


def test_percentages_are_rounded_towards_honesty() -> None:
    assert [percent(value) for value in (0.9731, 0.9999, 1.0, 0.0, float("nan"))] == [
        "97.3",
        "99.9",
        "100.0",
        "0.0",
        "–",
    ]


Points = list[tuple[float, float]]


def _paths(svg: str, color: str, what: str = "fill") -> list[Points]:
    """Corners of every path of a color; parsing also proves the drawing well formed."""
    return [
        [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", element.attrib["d"])]
        for element in ElementTree.fromstring(svg).iter("path")
        if f"{what}: {color}" in element.attrib.get("style", "")
    ]


def _bars(svg: str, color: str) -> list[float]:
    """Heights of the bars of a color, without the legend's own patch."""
    boxes = [
        path
        for group in ElementTree.fromstring(svg).iter("g")
        if re.search(r"-axes_1$", group.attrib.get("id", ""))
        for part in group
        if "legend" not in part.attrib.get("id", "")
        for path in _paths(ElementTree.tostring(part).decode(), color)
    ]
    heights = [max(y for _, y in box) - min(y for _, y in box) for box in boxes]
    return [height for height in heights if height > 0]


def _dots(svg: str, color: str) -> Points:
    """Centers of the dots of a color."""
    return [
        (float(element.attrib["x"]), float(element.attrib["y"]))
        for element in ElementTree.fromstring(svg).iter("use")
        if f"fill: {color}" in element.attrib.get("style", "")
    ]


def _threshold_at(svg: str) -> float:
    """Where the threshold's line stands."""
    group = next(
        group
        for group in ElementTree.fromstring(svg).iter("g")
        if group.attrib.get("id", "").endswith("-threshold")
    )
    return float(next(group.iter("path")).attrib["d"].split()[1])


def test_histogram_has_an_image_in_every_unit_of_bar() -> None:
    report = _report()
    svg = charts.histogram(report.scores, report.labels, report.threshold)
    for color in (charts.NORMAL, charts.DEFECTIVE):
        heights = _bars(svg, color)
        assert sum(heights) / min(heights) == pytest.approx(4, abs=0.05)
    low, high, log = charts.score_limits(report.scores, 3.5)
    assert (low, high, log) == (pytest.approx(0.68), pytest.approx(9.32), False)
    assert "good (4)" in svg
    assert "threshold 3.5" in svg


def test_the_zoom_shows_what_lies_near_the_threshold_and_counts_the_rest() -> None:
    report = _report()
    low, high = charts.limits_around(report.scores, report.labels, 3.5)
    assert (low, high) == (2.0, 5.0)  # 1.5 times as far as the median of 1, 2, 3, 4
    svg = charts.zoomed_histogram(report.scores, report.labels, 3.5)
    assert "(3 of 8 images outside)" in svg
    assert len(_bars(svg, charts.NORMAL)) == 3
    assert len(_bars(svg, charts.DEFECTIVE)) == 2


def test_strips_have_one_dot_per_image_on_its_side_of_the_threshold() -> None:
    rows = {"good": np.array([1.0, 2.0]), "<dent> $5": np.array([30.0, 400.0, 5.0])}
    svg = charts.strips(rows, "good", threshold=10.0)
    line = _threshold_at(svg)
    assert len(_dots(svg, charts.NORMAL)) == 2
    assert all(x < line for x, _ in _dots(svg, charts.NORMAL))
    assert sorted(x > line for x, _ in _dots(svg, charts.DEFECTIVE)) == [False, True, True]
    assert "&lt;dent&gt; $5" in svg


def test_axis_turns_logarithmic_only_where_it_can_and_must() -> None:
    assert charts.score_limits(np.array([1.0, 100.0]), 5.0)[2]
    assert not charts.score_limits(np.array([1.0, 10.0]), 5.0)[2]
    assert not charts.score_limits(np.array([0.0, 100.0]), 5.0)[2]
    low, high, _ = charts.score_limits(np.array([2.0, 2.0]), 2.0)
    assert low < 2 < high
    ticks = re.findall(
        r">([0-9.]+)</text>",
        charts.histogram(np.array([0.01, 1.0, 90.0]), np.array([False, False, True]), 1.0),
    )
    assert {"0.01", "0.1", "1", "10"} <= set(ticks)


def test_training_curves_skip_what_is_not_finite_and_what_is_empty() -> None:
    drawn = dict(
        charts.curves(
            {"student": [1.0, float("nan"), 0.5], "nothing": [], "broken": [float("inf")]}
        )
    )
    assert list(drawn) == ["student"]
    assert len(_paths(drawn["student"], charts.SERIES[0], "stroke")[0]) == 2


def test_synthetic_defects_are_stacked_by_group() -> None:
    svg = charts.stacked(
        "areas",
        [1.0, 1.0, 1.0],
        ["relief", "both", "relief"],
        "share",
        {"relief": "#112233", "both": "#445566"},
    )
    lower = max(_paths(svg, "#112233"), key=lambda box: box[0][1] - box[2][1])
    upper = max(_paths(svg, "#445566"), key=lambda box: box[0][1] - box[2][1])
    assert lower[0][1] - lower[2][1] == pytest.approx(2 * (upper[0][1] - upper[2][1]), abs=0.2)
    assert upper[0][1] == pytest.approx(lower[2][1], abs=0.2)


def test_another_process_draws_the_same_bytes_and_no_date() -> None:
    script = (
        "import hashlib, numpy as np; from trainer.evaluate.report import charts;"
        "svg = charts.roc(np.array([0, .5, 1]), np.array([0, .9, 1]), (.5, .9));"
        "print(hashlib.sha256(svg.encode()).hexdigest())"
    )
    root = str(Path(__file__).resolve().parents[4])
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    svg = charts.roc(np.array([0, 0.5, 1]), np.array([0, 0.9, 1]), (0.5, 0.9))
    assert there.stdout.strip() == hashlib.sha256(svg.encode()).hexdigest()
    assert not re.search(r"20\d\d-\d\d|matplotlib\.org|http", svg)


def _decoded(address: str) -> NDArray[np.int64]:
    data = np.frombuffer(base64.b64decode(address.split(",", 1)[1]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1].astype(np.int64)


def test_heat_colors_only_what_exceeds_the_normal() -> None:
    image = np.full((90, 120, 3), (60, 120, 60), np.uint8)
    anomaly_map = np.ones((9, 12), np.float32)
    anomaly_map[2, 3] = 5
    shown = _decoded(pictures.heat(image, anomaly_map, None, pictures.HeatScale(1, 4), 9.0))
    spread = shown.max(axis=2) - shown.min(axis=2)
    height, width = spread.shape
    assert spread[int(2.5 / 9 * height), int(3.5 / 12 * width)] > 60
    assert spread[height // 2 :].max() < 6


def test_a_line_surrounds_what_exceeds_the_threshold_and_the_surface_below_stays_visible() -> None:
    image = np.full((120, 120, 3), 60, np.uint8)
    image[50:70, 50:70] = 200
    anomaly_map = np.zeros((12, 12), np.float32)
    anomaly_map[3:9, 3:9] = 5
    scale = pictures.HeatScale(0, 4)
    lined = _decoded(pictures.heat(image, anomaly_map, None, scale, 2.0))
    plain = _decoded(pictures.heat(image, anomaly_map, None, scale, 9.0))
    rows, columns = np.nonzero(abs(lined - plain).max(axis=2) > 60)
    for places in (rows, columns):  # a quarter from each rim, in a picture of 480
        assert (places.min(), places.max()) == pytest.approx((120, 360), abs=16)
    assert abs(lined - plain)[160:320, 160:320].max() < 30  # nothing inside the line
    spot, around = lined[240, 240].mean(), lined[160, 240].mean()
    assert spot > around + 40  # a bright spot under the most tinted place is still seen


def test_heat_scale_is_one_for_all_and_set_by_good_parts() -> None:
    good = [np.random.default_rng(seed).random((20, 20)).astype(np.float32) for seed in range(3)]
    defective = good[0] + 9
    scale = pictures.heat_scale([*good, defective], np.array([False, False, False, True]))
    assert 0.95 < scale.low < 1
    assert scale.high == pytest.approx(float(defective.max()))
    flat = pictures.heat_scale([np.zeros((4, 4), np.float32)], np.array([False]))
    assert flat.high > flat.low


def test_outline_surrounds_the_defect_and_leaves_it_visible() -> None:
    image = np.full((90, 120, 3), 128, np.uint8)
    truth = np.zeros((90, 120), bool)
    truth[40:44, 60:64] = True
    shown = _decoded(pictures.photograph(image, truth))
    cyan = (shown[..., 2] - shown[..., 0]) > 100
    rows, columns = np.nonzero(cyan)
    assert rows.min() < 40 * 4 < 44 * 4 < rows.max()
    assert columns.min() < 60 * 4 < 64 * 4 < columns.max()
    assert abs(shown[41 * 4 : 43 * 4, 61 * 4 : 63 * 4] - 128).max() < 40


@pytest.mark.parametrize("outlined", [True, False])
def test_close_up_shows_the_defect_or_else_the_peak(outlined: bool) -> None:
    image = np.zeros((80, 120, 3), np.uint8)
    image[60:64, 100:104] = 255
    truth = np.zeros((80, 120), bool)
    truth[60:64, 100:104] = outlined
    anomaly_map = np.zeros((8, 12), np.float32)
    anomaly_map[6, 10] = 1
    assert _decoded(pictures.close_up(image, anomaly_map, truth)).max() > 240


def test_relief_shows_a_dent_darker_than_the_part_around_it() -> None:
    height = np.full((40, 60), 0.01, np.float32) + np.random.default_rng(0).normal(
        0, 1e-5, (40, 60)
    ).astype(np.float32)
    height[20:23, 30:33] -= 0.001
    truth = np.zeros((80, 120), bool)
    truth[40:46, 60:66] = True
    shown = _decoded(pictures.relief(height, np.zeros((4, 6), np.float32), truth))[..., 0]
    middle = shown[
        shown.shape[0] // 2 - 8 : shown.shape[0] // 2 + 8,
        shown.shape[1] // 2 - 8 : shown.shape[1] // 2 + 8,
    ]
    assert middle.mean() + 60 < shown[:20].mean()
