"""The guided calibration in a real Chromium: region of interest and crop are drawn by the mouse,
nothing is wider than the screen, and everything is large enough for a finger.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.install.install import install_bundle
from edge.page.roles import Role
from edge.station.trust import trust
from tests.support.broker import wait_until
from tests.support.commissioned import new_browser, opened_page
from tests.support.patience import HANG_S
from tests.support.served_page import PASSWORD, add_user, served_page
from tests.support.socketed import socketed
from tests.support.station import SERIAL, StationRoot, make_station
from tests.support.tiny_bundle import make_key, make_tiny_bundle

MORE = "[page]\nenabled = true\ntls = false\n"
BOUNCED = """() => {
    let sent = 0;
    document.addEventListener("submit", (event) => {
        if (!event.defaultPrevented) sent += 1;
        event.preventDefault();
    });
    for (let tap = 0; tap < 2; tap += 1) document.querySelector("form.begin").requestSubmit();
    return sent;
}"""
SMALL = """() => [...document.querySelectorAll("a, button, summary, input, select")]
    .filter(one => one.checkVisibility() && !one.matches(".skip, [type=hidden], [type=checkbox]"))
    .filter(one => Math.min(one.offsetHeight, one.offsetWidth) < 40)
    .map(one => one.outerHTML.slice(0, 80))"""


@pytest.fixture
def station(tmp_path: Path) -> StationRoot:
    return ready(make_station(tmp_path / "station", calibrated=False))


@pytest.fixture
def narrow(tmp_path: Path) -> StationRoot:
    """Its product is judged in a crop of 96 x 72 of the camera's 128 x 96 pixels."""
    key = make_key(tmp_path)
    seen: dict[str, object] = {"width": 128, "height": 96}
    bundle = make_tiny_bundle(tmp_path, key, height=72, width=96, camera=seen)
    station = StationRoot(tmp_path / "root", key.private)
    trust(station.store, key.public)
    install_bundle(bundle, station.root)
    return ready(station)


def ready(station: StationRoot) -> StationRoot:
    """With a page, and somebody who may calibrate."""
    station.configure("realsense", None, more=MORE)
    add_user(station.root, "carl", Role.CALIBRATE)
    return station


@pytest.fixture
def page(station: StationRoot) -> Iterator[Any]:
    with calibrating(station) as page:
        yield page


@contextmanager
def calibrating(station: StationRoot) -> Iterator[Any]:
    """The guided calibration of a station at work."""
    with (
        socketed(station),
        new_browser() as browser,
        served_page(station.root) as port,
        opened_page(browser, port) as page,
    ):
        page.fill("input[name=name]", "carl")
        page.fill("input[name=secret]", PASSWORD)
        page.click("button.primary")
        page.click("a[href='/calibrate']")
        yield page


def test_the_region_of_interest_is_drawn_on_the_picture(page: Any, station: StationRoot) -> None:
    page.wait_for_function("() => document.querySelector('[data-view]')?.naturalWidth === 128")
    page.click("text=Region of interest")
    page.wait_for_selector("[data-drawn]:not([hidden])", state="attached")
    box = page.locator(".picture").bounding_box()
    at = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
          for x, y in ((0.75, 0.8), (0.4, 0.4), (0.25, 0.2))]  # fmt: skip
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1])
    page.mouse.move(*at[2])
    page.mouse.up()
    shares = [float(page.input_value(f"[name={side}]")) for side in ("left", "top", "width")]
    assert shares == pytest.approx([25, 20, 50], abs=1)
    station.calibrate()  # by the command line, meanwhile
    page.wait_for_selector(".steps .is-done")
    assert float(page.input_value("[name=left]")) == shares[0], "what was drawn stays"
    assert page.locator("[data-region][open]").count() == 1
    for size in ((390, 844), (1024, 600)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert page.evaluate(SMALL) == []
    page.click("text=The table is empty: measure it")
    page.wait_for_selector("[data-step=plane][data-phase=done]")
    wait_until(lambda: station.store.geometry("washer", SERIAL), HANG_S, "nothing saved")
    geometry = station.store.geometry("washer", SERIAL)
    assert geometry is not None
    assert geometry.region is not None
    rows, columns = np.nonzero(geometry.region)
    assert (columns.min(), columns.max() + 1) == pytest.approx((32, 96), abs=2)
    assert (rows.min(), rows.max() + 1) == pytest.approx((19, 77), abs=2)
    assert page.evaluate(BOUNCED) == 1, "a glove bounces, and the form is sent once"


def drag(page: Any, *shares: tuple[float, float]) -> None:
    """Over the picture, from the first point to the last."""
    box = page.locator(".picture").bounding_box()
    points = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in shares]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def test_the_crop_is_dragged_over_the_whole_picture(narrow: StationRoot) -> None:
    with calibrating(narrow) as page:
        page.wait_for_function("() => document.querySelector('[data-view]')?.naturalWidth === 96")
        page.click("text=Region of interest")
        page.click("text=Place of the crop")
        page.wait_for_function("() => document.querySelector('[data-view]')?.naturalWidth === 128")
        page.wait_for_selector("[data-drawn]:not([hidden])", state="attached")
        assert page.locator("[data-region][open]").count() == 0, "one of both is drawn"
        drag(page, (0.3, 0.3), (0.35, 0.4), (0.425, 0.4))
        corner = [int(page.input_value(f"[name=crop_{axis}]")) for axis in "xy"]
        assert corner == pytest.approx([16, 10], abs=1)
        drag(page, (0.5, 0.5), (0.99, 0.99))
        assert [page.input_value(f"[name=crop_{axis}]") for axis in "xy"] == ["32", "24"]
        page.focus("[name=crop_x]")
        page.keyboard.press("ArrowDown")
        page.click("text=The table is empty: measure it")
        page.wait_for_selector("[data-step=plane][data-phase=done]")
        geometry = narrow.store.geometry("washer", SERIAL)
        assert geometry is not None
        assert (geometry.crop_x, geometry.crop_y) == (31, 24)
        page.wait_for_function("() => document.querySelector('[data-view]')?.naturalWidth === 96")


def test_a_crop_that_was_dragged_is_saved_and_shown_again(narrow: StationRoot) -> None:
    for corner, way in (((16, 12), (0.3, 0.3, 0.425, 0.425)), ((32, 12), (0.5, 0.5, 0.625, 0.5))):
        with calibrating(narrow) as page:
            page.goto(page.url.split("?")[0] + "?step=plane")
            page.click("text=Place of the crop")
            page.wait_for_selector("[data-drawn]:not([hidden])", state="attached")
            drag(page, way[:2], way[2:])
            page.click("text=The table is empty: measure it")
            page.wait_for_selector("[data-step=plane][data-phase=done]")
        geometry = narrow.store.geometry("washer", SERIAL)
        assert geometry is not None
        assert (geometry.crop_x, geometry.crop_y) == pytest.approx(corner, abs=1)


def test_a_crop_that_fills_the_picture_is_not_asked_for(page: Any) -> None:
    page.wait_for_selector("text=Region of interest")
    assert page.locator("[data-crop]").count() == 0
