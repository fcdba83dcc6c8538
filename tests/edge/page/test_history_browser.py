"""The pages of history and engineer in a real browser: by mouse and keyboard, on a phone and on a
panel of 1024x600, light and dark, printed; nothing is asked of another host, nothing is refused by
the page's own policy.

PAGE_SHOTS=FOLDER keeps the screenshots.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from edge.archive.labels import read_labels
from edge.page.app import create_app
from edge.page.roles import Role
from edge.page.security import COOKIE
from tests.support.page_client import PASSWORD, StillSource
from tests.support.recorded import DRIFT, label_parts, record_parts, with_drift
from tests.support.station import make_station

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PARTS = 300
PANEL, PHONE, DESK = (1024, 600), (390, 844), (1440, 900)
PLACES = [
    "/history",
    "/history/counts",
    "/history/lot",
    "/history/299",
    "/engineer",
    "/audit",
    "/api",
]
WAIT_MS = 10_000
Page = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("no browser at /usr/bin/chromium: apt-get install chromium")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_station(tmp_path_factory.mktemp("station")).root
    label_parts(root, record_parts(root, PARTS, pictured=60))
    with_drift(root, json.dumps(DRIFT))
    return root


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Address and cookie of an engineer."""
    app = create_app(root, StillSource())
    context = app.state.context
    context.users.add("uschi", Role.CALIBRATE)
    context.users.choose_password("uschi", PASSWORD)
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="on", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    cookie = {"name": COOKIE, "value": context.sessions.begin("uschi"), "url": address}
    yield address, cookie
    server.should_exit = True
    thread.join(10)


class Opened:
    """A page, and what went wrong in it."""

    def __init__(self, browser: Any, served: tuple[str, dict[str, str]], **about: Any) -> None:
        address, cookie = served
        about.setdefault("viewport", {"width": DESK[0], "height": DESK[1]})
        self.context = browser.new_context(base_url=address, **{"locale": "en-US", **about})
        self.context.set_default_timeout(WAIT_MS)
        self.context.add_cookies([cookie])
        self.wrong: list[str] = []
        self.context.route("**/*", self._pass)
        self.page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def _pass(self, route: Any) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            self.wrong.append(f"asked for {route.request.url}")
            route.abort()

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)


@pytest.fixture
def opened(browser: Any, served: tuple[str, dict[str, str]]) -> Iterator[Any]:
    """Opens pages; at the end nothing may have gone wrong in them."""
    made: list[Opened] = []

    def open_page(**about: Any) -> Page:
        made.append(Opened(browser, served, **about))
        return made[-1].page

    yield open_page
    for one in made:
        one.context.close()
    assert [what for one in made for what in one.wrong] == []


def shoot(page: Page, name: str) -> None:
    if "PAGE_SHOTS" in os.environ:
        page.wait_for_load_state("networkidle")
        folder = Path(os.environ["PAGE_SHOTS"])
        page.screenshot(path=folder / f"{name}.png", full_page=True)


@pytest.mark.parametrize(
    ("size", "dark", "language"),
    [(DESK, False, "en-US"), (PANEL, False, "de-DE"), (PHONE, True, "en-US")],
    ids=["desk", "panel", "phone"],
)
def test_every_page_fits_every_screen(opened: Any, size: Any, dark: bool, language: str) -> None:
    page = opened(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        locale=language,
    )
    for place in PLACES:
        page.goto(place)
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        shoot(page, f"{size[0]}{place.replace('/', '-')}")
        assert wide <= 0, f"{place} is {wide} pixels wider than the screen"
        small = page.evaluate(
            "[...document.querySelectorAll('button, .tabs a, input:not([type=hidden])')]"
            ".filter(e => e.offsetParent && e.type !== 'checkbox' && e.offsetHeight < 40)"
            ".map(e => e.outerHTML.slice(0, 80))"
        )
        assert small == [], "every control is large enough for a finger"


def test_a_label_by_keyboard_alone(opened: Any, root: Path) -> None:
    page = opened()
    page.goto("/history?code=NG&label=none")
    seq = int(page.locator(".part").first.get_attribute("id").removeprefix("part-"))
    good = page.locator(f"#part-{seq} button[value=good]")
    for _ in range(60):
        if good.evaluate("e => e === document.activeElement"):
            break
        page.keyboard.press("Tab")
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.keyboard.press("Enter")
    assert read_labels(root)[seq].said == "good"
    assert read_labels(root)[seq].who == "uschi (page)"
    page.goto(f"/history/{seq}")
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.get_by_role("button", name="Take back").click()
    assert seq not in read_labels(root)


def test_searching_and_going_through_the_pages(opened: Any) -> None:
    page = opened()
    page.goto("/history")
    page.get_by_text("Choose", exact=True).click()
    page.get_by_label("Part (").fill("P29*")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**part=P29*")
    assert page.locator(".part").count() == 11
    page.goto("/history?limit=20")
    first = page.locator(".part").first.get_attribute("id")
    page.get_by_role("link", name="Older").click()
    page.wait_for_url("**before=*")
    assert page.locator(".part").first.get_attribute("id") != first
    page.locator(".part a b").first.click()
    page.wait_for_url("**/history/*")
    assert page.get_by_text("What people say of it").is_visible()


def test_the_slider_counts_as_the_station_would(opened: Any) -> None:
    page = opened()
    page.goto("/engineer")
    slider = page.locator("#try.live [type=range]")
    slider.focus()
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    at = page.locator("#try [name=at]").input_value()
    assert float(at) < 2
    shown = {
        name: int(page.locator(f"[data-count={name}]").inner_text())
        for name in ("rejected-good", "rejected-unlabeled", "accepted-bad", "newly_rejected")
    }
    said = page.evaluate(f"fetch('/api/v1/scores?at={at}').then(a => a.json())")["effect"]
    assert shown["rejected-good"] == said["rejected"]["good"]
    assert shown["rejected-unlabeled"] == said["rejected"]["unlabeled"]
    assert shown["accepted-bad"] == said["accepted"]["bad"]
    assert shown["newly_rejected"] == said["newly_rejected"] > 0
    assert page.locator("[data-list=newly_rejected] a").count() == min(24, said["newly_rejected"])
    shoot(page, "slider")


def test_the_slider_works_without_script(opened: Any) -> None:
    page = opened(java_script_enabled=False)
    page.goto("/engineer")
    page.locator("#try [name=at]").fill("1.5")
    page.get_by_role("button", name="Try").click()
    page.wait_for_url("**at=1.5*")
    assert int(page.locator("[data-count=newly_rejected]").inner_text()) > 0


def test_chosen_parts_are_downloaded_as_a_data_set(opened: Any, tmp_path: Path) -> None:
    page = opened(accept_downloads=True)
    page.goto("/history")
    for box in page.locator(".choose input").all()[:3]:
        box.check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the chosen parts").click()
    download.value.save_as(tmp_path / "chosen.zip")
    names = zipfile.ZipFile(tmp_path / "chosen.zip").namelist()
    assert sum(name.endswith("/color.png") for name in names) == 3


def test_a_lot_prints_without_the_controls(opened: Any, tmp_path: Path) -> None:
    page = opened()
    page.goto("/history/lot?since=2026-11-20")
    page.emulate_media(media="print")
    for control in ("nav.tabs", "form.filter", "header.top", "[data-print]"):
        assert not page.locator(control).first.is_visible(), control
    assert page.locator(".lot-parts li").count() > 5
    assert len(page.pdf(path=tmp_path / "lot.pdf", format="A4")) > 10_000
    shoot(page, "print-lot")
    page.goto("/history/299")
    assert not page.locator("form.say").is_visible()
    shoot(page, "print-part")
