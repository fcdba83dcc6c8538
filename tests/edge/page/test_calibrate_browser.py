"""The guided calibration in a real Chromium: the region of interest is drawn by the mouse, nothing
is wider than the screen, and everything is large enough for a finger.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.page.roles import Role
from tests.support.broker import wait_until
from tests.support.commissioned import new_browser, opened_page
from tests.support.patience import HANG_S
from tests.support.served_page import PASSWORD, add_user, served_page
from tests.support.socketed import socketed
from tests.support.station import SERIAL, StationRoot, make_station

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
    made = make_station(tmp_path / "station", calibrated=False)
    made.configure("realsense", None, more=MORE)
    add_user(made.root, "carl", Role.CALIBRATE)
    return made


@pytest.fixture
def page(station: StationRoot) -> Iterator[Any]:
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
    page.wait_for_function("() => document.querySelector('[data-view]').naturalWidth === 128")
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
