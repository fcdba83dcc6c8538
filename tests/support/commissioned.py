"""A station from its installed bundle on: `edge run` as a process whose camera shows what a test
lays before it, and its page in a real browser.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.control.client import find_station
from edge.control.guide import GuideLook
from edge.page.roles import Role
from tests.support.broker import wait_until
from tests.support.patience import HANG_S, patience_s
from tests.support.process import ENVIRONMENT, REPOSITORY
from tests.support.served_page import add_user
from tests.support.shown_camera import FPS, IN_VIEW, PICTURES, View
from tests.support.site_parts import TRAINED, SitePart, draw_site_part, normal_parts
from tests.support.station import EMPTY as EMPTY_TABLE
from tests.support.station import INTRINSICS, SERIAL, StationRoot, draw_shot, make_station
from tests.support.tiny_bundle import UNIT, Adapts

NORMAL, BAD = 10, 3
EMPTY, FIRST_NORMAL, FIRST_BAD, NEXT = 0, 1, 1 + NORMAL, 1 + NORMAL + BAD  # numbers of the pictures
MORE = f"""\
fps = {FPS}
resets = 0
max_age_ms = 60000
[decision]
max_frames = 9999
deadline_ms = 60000
[page]
enabled = true
tls = false
"""
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PANEL = (1024, 600)


class Site:
    """One station. A part is laid before its camera by the number of its picture."""

    def __init__(self, folder: Path) -> None:
        self.station: StationRoot = make_station(
            folder / "station", calibrated=False, defects=TRAINED, adapts=Adapts()
        )
        self.station.configure("realsense", None, more=MORE)
        self.root, self._folder, self._log = self.station.root, folder / "shown", folder / "log"
        self._view = drawn_view(self._folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """`edge run`, until its socket answers and frames come."""
        environment = {**ENVIRONMENT, "SHOWN": str(self._folder), "PYTHONPATH": str(REPOSITORY)}
        words = [sys.executable, "-m", "tests.support.shown_station", "run"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*words, "--root", str(self.root)], cwd=REPOSITORY, env=environment, stderr=log
            )
        wait_until(lambda: self._frames() > 3, HANG_S, "no frames")

    def kill(self) -> None:
        """As a power cut would, for this process."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(HANG_S)

    def lay(self, number: int) -> None:
        """This is in view, and several frames of it were judged."""
        self._view.show(number)
        begun = self._frames() + 1  # one may have been on its way
        wait_until(lambda: self._frames() >= begun + 5, HANG_S, "no frames")

    def pass_part(self, number: int) -> None:
        """It comes into view and leaves."""
        self.lay(number)
        self.lay(EMPTY)

    def said(self) -> dict[str, Any]:
        """What the station says now; empty while it does not answer."""
        client = find_station(self.root)
        if client is None:
            return {}
        with client:
            return dict(client.live().said)

    def judges_as_calibrated(self) -> bool:
        """Whether the station has taken up a threshold of this site."""
        client = find_station(self.root)
        assert client is not None
        with client:
            return client.ask(GuideLook()).said["site"]["threshold"] is not None

    def _frames(self) -> int:
        said = self.said()
        return int(said["state"]["frames"]) if said else -1


def drawn_view(folder: Path) -> View:
    """The pictures of the empty table, ten normal parts, known-bad ones and the next part."""
    folder.mkdir()
    parts = [
        *normal_parts(NORMAL),
        *(SitePart(defect=80.0 + 10 * number, at=500 + number) for number in range(BAD)),
        SitePart(defect=8.0, at=700),
    ]
    drawn = [draw_shot(EMPTY_TABLE, 0), *(draw_site_part(part) for part in parts)]
    lens = (INTRINSICS.fx, INTRINSICS.fy, INTRINSICS.cx, INTRINSICS.cy)
    np.savez(
        folder / PICTURES,
        colors=np.stack([color for color, _ in drawn]),
        depths=np.stack([depth for _, depth in drawn]),
        lens=np.array(lens),
        unit=UNIT,
        serial=SERIAL,
    )
    (folder / IN_VIEW).write_bytes(b"\0")
    return View(folder)


@contextmanager
def new_site(folder: Path) -> Iterator[Site]:
    """A station with an installed bundle at work, and who may calibrate it."""
    folder.mkdir(parents=True, exist_ok=True)
    site = Site(folder)
    add_user(site.root, "carl", Role.CALIBRATE)
    try:
        site.start()
        yield site
    finally:
        site.kill()


@contextmanager
def new_browser() -> Iterator[Any]:
    """Debian's Chromium; the test is skipped where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get it")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(SWITCHES))
        yield browser
        browser.close()


class Hand:
    """What a person does on the page, counted: clicks, typed fields and keys."""

    def __init__(self, page: Any) -> None:
        self.page, self.acts = page, 0

    def click(self, selector: str) -> None:
        self.acts += 1
        self.page.click(selector)

    def write(self, selector: str, text: str) -> None:
        self.acts += 1
        self.page.fill(selector, text)

    def sees(self, selector: str) -> Any:
        return self.page.wait_for_selector(selector)


@contextmanager
def opened_page(
    browser: Any, port: int, size: tuple[int, int] = PANEL, **more: Any
) -> Iterator[Any]:
    """A tab at the page. A request to any other host, an error of a script or of the content
    security policy fails the test.
    """
    home, wrong = f"http://127.0.0.1:{port}/", list[str]()
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **more)
    context.set_default_timeout(1000 * patience_s(5))

    def keep_home(route: Any) -> None:
        if route.request.url.startswith((home, f"blob:{home}")):
            route.continue_()
        else:
            wrong.append(route.request.url)
            route.abort()

    context.route("**/*", keep_home)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(home)
    try:
        yield page
    finally:
        context.close()
    assert wrong == []


def patiently(page: Any, condition: Any, what: str) -> None:
    """Wait until this holds, while the page goes on."""
    end_s = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < end_s, what
        page.wait_for_timeout(50)  # and no time.sleep: requests pass through this thread
