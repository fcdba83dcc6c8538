"""The page: complete in itself, true to the numbers it is given, and readable whatever the run left
out.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer import pictures
from trainer.evaluate.report import Choice, Claim, KnownDefect, Report, charts, write_report
from trainer.evaluate.report.page import percent, render
from trainer.metrics import figures
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
        figures(
            name, labels[keep], scores[keep], [maps[i] for i in keep], [truths[i] for i in keep]
        )
        for name, keep in (("dent", [*range(7)]), ("stain", [0, 1, 2, 3, 7]), ("all", [*range(8)]))
    ]
    values: dict[str, Any] = {
        "product": "washer", "system": "MATS", "preset": "compact", "names": names,
        "defects": defects,
        "labels": labels, "scores": scores, "maps": maps, "truths": truths, "threshold": 3.5,
        "rows": rows,
        "image": lambda index: np.full((*SIZE, 3), 90 + index, np.uint8),
        "curves": {"teacher": [3.0, 2.0, 1.0], "student": [1.0, float("nan"), 0.5]},
        "drawn": [KnownDefect(names[4], "depth", "dent", 0.01, 3.0), KnownDefect(names[7], "color",
        "stain", 0.002)],
        "parameters": {"seed": "0"}, "claims": [Claim("INT8 on a Jetson", "never executed")],
    }  # fmt: skip
    return Report(**(values | changes))


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
    assert parser.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in parser.addresses)
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)


def test_it_counts_what_the_threshold_does() -> None:
    page = " ".join(re.sub(r"<[^>]+>", " ", render(_report())).split())
    assert "Of 4 defective parts 3 are rejected , 1 would pass." in page
    assert "Of 4 good parts 1 is rejected" in page
    assert re.search(r"dent 3 2 of 3", page)
    assert re.search(r"stain 1 1 of 1", page)
    assert "all defects 4 3 of 4" in page
    assert "1 defective image nobody outlined counts in the image figures only" in page


def test_the_missed_part_comes_first_and_good_parts_by_falling_score() -> None:
    shown = re.findall(r"<h3>(.*?)</h3>|<span>(test/\w+/\d+) ·", render(_report()))
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
    page = render(_report())
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
    assert "Threshold 3.5: 10.0% of normal parts are rejected on average" in page
    assert len(re.findall(r'<tr class="chosen">', first)) == 1


def test_an_outlier_without_its_picture_and_a_run_without_a_choice_still_give_a_page() -> None:
    assert '<div class="warning">' in render(_report(choice=_choice(None)))
    assert "Outlier" not in render(_report())
    plain = dataclasses.replace(_choice(None), outliers=())
    assert "Outlier" not in render(_report(choice=plain))


def test_names_cannot_inject_markup() -> None:
    page = render(_report(product="<script>alert(1)</script>", parameters={"<i>": "<b>&"}))
    assert "<script" not in page
    assert "&lt;b&gt;&amp;" in page


def test_depth_adds_a_picture_of_the_height() -> None:
    without, with_depth = (
        render(_report()),
        render(_report(height=lambda _: np.ones((24, 32), np.float32))),
    )
    assert 'alt="height of' not in without
    assert with_depth.count('alt="height of') == without.count('alt="close-up of')


@pytest.mark.parametrize(
    "keep", [[0, 1], [4, 7], []], ids=["only good", "only defective", "no image"]
)
def test_a_run_without_one_of_the_classes_still_gives_a_page(keep: list[int]) -> None:
    whole = _report()
    part = dataclasses.replace(
        whole, names=[whole.names[i] for i in keep], defects=[whole.defects[i] for i in keep],
        labels=whole.labels[keep], scores=whole.scores[keep], maps=[whole.maps[i] for i in keep],
        truths=[whole.truths[i] for i in keep], rows=[], drawn=(), curves={},
    )  # fmt: skip
    assert f"{len(keep)} images judged" in render(part)


def test_lists_of_different_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="8 names"):
        write_report(tmp_path / "report.html", _report(defects=["good"]))
    assert list(tmp_path.iterdir()) == []


def test_percentages_are_rounded_towards_honesty() -> None:
    assert [percent(value) for value in (0.9731, 0.9999, 1.0, 0.0, float("nan"))] == [
        "97.3",
        "99.9",
        "100.0",
        "0.0",
        "–",
    ]


def _shapes(svg: str, tag: str) -> list[dict[str, str]]:
    """Attributes of every such element; parsing also proves the drawing well formed."""
    return [element.attrib for element in ElementTree.fromstring(svg).iter(tag)]


def test_histogram_has_an_image_in_every_unit_of_bar() -> None:
    report = _report()
    svg = charts.histogram(report.scores, report.labels, report.threshold)
    for color, count in ((charts.NORMAL, 4), (charts.DEFECTIVE, 4)):
        heights = [float(bar["height"]) for bar in _shapes(svg, "rect") if bar["fill"] == color]
        assert sum(heights) / min(heights) == pytest.approx(count, abs=0.05)
    line = next(
        float(line["x1"]) for line in _shapes(svg, "line") if line.get("class") == "threshold"
    )
    assert line == pytest.approx(charts.score_axis(report.scores, 3.5, 50, 620)(3.5), abs=0.1)


def test_strips_have_one_dot_per_image_on_its_side_of_the_threshold() -> None:
    rows = {"good": np.array([1.0, 2.0]), "dent": np.array([30.0, 400.0, 5.0])}
    svg = charts.strips(rows, "good", threshold=10.0)
    line = next(
        float(line["x1"]) for line in _shapes(svg, "line") if line.get("class") == "threshold"
    )
    dots = _shapes(svg, "circle")
    assert len(dots) == 5
    assert sum(float(dot["cx"]) > line for dot in dots) == 2
    assert {dot["fill"] for dot in dots if float(dot["cx"]) > line} == {charts.DEFECTIVE}


def test_axis_turns_logarithmic_only_where_it_can_and_must() -> None:
    assert charts.score_axis(np.array([1.0, 100.0]), 5.0, 0, 100).log
    assert not charts.score_axis(np.array([1.0, 10.0]), 5.0, 0, 100).log
    assert not charts.score_axis(np.array([0.0, 100.0]), 5.0, 0, 100).log
    equal = charts.score_axis(np.array([2.0, 2.0]), 2.0, 0, 100)
    assert 0 < equal(2.0) < 100
    assert len(charts.Axis(0.01, 100.0, 0, 100, log=True).ticks()) == 5


def test_training_curves_skip_what_is_not_finite_and_what_is_empty() -> None:
    drawn = dict(
        charts.lines({"student": [1.0, float("nan"), 0.5], "nothing": [], "broken": [float("inf")]})
    )
    assert list(drawn) == ["student"]
    assert len(_shapes(drawn["student"], "polyline")[0]["points"].split()) == 2


def test_drawn_defects_are_stacked_by_group() -> None:
    svg = charts.scatter_distribution(
        [1.0, 1.0, 1.0], ["depth", "both", "depth"], "share", {"depth": "#1", "both": "#2"}
    )
    lower, upper = sorted(_shapes(svg, "rect"), key=lambda bar: -float(bar["y"]))
    assert float(lower["height"]) == pytest.approx(2 * float(upper["height"]), abs=0.2)
    assert float(upper["y"]) + float(upper["height"]) == pytest.approx(float(lower["y"]), abs=0.2)


def _decoded(address: str) -> NDArray[np.int64]:
    data = np.frombuffer(base64.b64decode(address.split(",", 1)[1]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1].astype(np.int64)


def test_heat_colors_only_what_exceeds_the_normal() -> None:
    image = np.full((90, 120, 3), (60, 120, 60), np.uint8)
    anomaly_map = np.ones((9, 12), np.float32)
    anomaly_map[2, 3] = 5
    shown = _decoded(pictures.heat(image, anomaly_map, None, pictures.HeatScale(1, 4)))
    spread = shown.max(axis=2) - shown.min(axis=2)
    height, width = spread.shape
    assert spread[int(2.5 / 9 * height), int(3.5 / 12 * width)] > 60
    assert spread[height // 2 :].max() < 6


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
    assert rows.min() < 40 * 3 < 44 * 3 < rows.max()
    assert columns.min() < 60 * 3 < 64 * 3 < columns.max()
    assert abs(shown[41 * 3 : 43 * 3, 61 * 3 : 63 * 3] - 128).max() < 40


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
