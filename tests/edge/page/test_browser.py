"""The page in a real Chromium: what a person sees, on a panel and on a phone, in both languages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.archive.labels import read_labels
from edge.page.roles import Role
from edge.page.security import COOKIE
from edge.page.texts import LANGUAGES
from tests.support.patience import patience_s
from tests.support.played_socket import NG, OK, UNKNOWN, PlayedStation, played_station
from tests.support.recorded import record_parts
from tests.support.served_page import PASSWORD, served_page, session_of, users_of

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get it")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PANEL, PHONE, DESK = (1024, 600), (390, 844), (1600, 900)


def picture(level: int) -> bytes:
    """A JPEG of one gray."""
    return cv2.imencode(".jpg", np.full((360, 640, 3), level, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield browser
        browser.close()


Open = Callable[..., Any]


@pytest.fixture
def open_page(chromium: Any, port: int, shared_root: Path) -> Iterator[Open]:
    """Opens tabs of one browser, in which somebody has logged in.

    A request to any other host fails the test, as an error of the script or of the content security
    policy does.
    """
    contexts: list[Any] = []
    wrong: list[str] = []

    def keep_home(route: Any) -> None:
        url = route.request.url
        if url.startswith((f"http://127.0.0.1:{port}/", "blob:")):
            route.continue_()
        else:
            wrong.append(url)
            route.abort()

    def opened(
        name: str | None = "lena", size: tuple[int, int] = PANEL, context: Any = None, **more: Any
    ) -> Any:
        if context is None:
            viewport = {"width": size[0], "height": size[1]}
            context = chromium.new_context(viewport=viewport, **more)
            context.set_default_timeout(1000 * patience_s(5))
            context.route("**/*", keep_home)
            contexts.append(context)
            if name is not None:
                cookie = {"name": COOKIE, "value": session_of(shared_root, name)}
                context.add_cookies([{**cookie, "url": f"http://127.0.0.1:{port}"}])
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if _is_error(said) else None)
        page.goto(f"http://127.0.0.1:{port}/")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def _is_error(said: Any) -> bool:
    """Answers such as 401 are shown there, too; they are tested elsewhere."""
    return said.type == "error" and "Failed to load resource" not in said.text


def log_in(page: Any, name: str, secret: str = PASSWORD) -> Any:
    page.fill("input[name=name]", name)
    page.fill("input[name=secret]", secret)
    page.keyboard.press("Enter")
    return page


def shows(page: Any, word: str) -> None:
    page.wait_for_function("word => document.querySelector('[data-word]')?.textContent === word",
                           arg=word)  # fmt: skip


def visible_symbol(page: Any) -> list[str]:
    symbols = page.locator(".symbol svg")
    return [one.get_attribute("class") for one in symbols.all() if one.is_visible()]


def test_from_the_code_of_the_console_to_the_live_view(
    open_page: Open, shared_root: Path, station: PlayedStation
) -> None:
    with users_of(shared_root) as users:
        code = users.add("kim", Role.CALIBRATE)
    station.show(OK, picture(90))
    page = log_in(open_page(None), "kim", code)
    page.fill("input[name=new]", PASSWORD)
    page.fill("input[name=again]", PASSWORD)
    page.click("button.primary")
    shows(page, "OK")
    page.click("summary")
    page.click("text=Log out")
    page.wait_for_url("**/login")
    shows(log_in(page, "kim"), "OK")


def test_the_verdict_changes_by_itself(open_page: Open, station: PlayedStation) -> None:
    station.show(OK, picture(90))
    page = open_page()
    shows(page, "OK")
    assert visible_symbol(page) == ["for-1"]
    page.wait_for_function("document.querySelector('[data-picture]').naturalWidth === 640")
    station.show(NG, picture(120))
    shows(page, "NG")
    assert visible_symbol(page) == ["for-2"]
    assert page.inner_text("[data-reason-name]") == "Deviates from normal parts"
    assert page.inner_text("[data-reason-do]").startswith("Look at the marked place")
    assert page.inner_text("[data-part]") == "A1304"
    assert page.inner_text("[data-score]") == "13.25"
    station.show(UNKNOWN)
    shows(page, "UNKNOWN")
    assert visible_symbol(page) == ["for-3"]
    assert not page.locator("[data-meter]").is_visible()


@pytest.mark.parametrize(
    ("said", "word", "sentence"),
    [
        (
            {"state": "fault", "reason": "uncalibrated", "ready": False},
            "FAULT",
            "The station is not calibrated.",
        ),
        (
            {"state": "degraded", "reason": "blind", "ready": False, "why": "lens cap?"},
            "NOT READY",
            "The camera sees nothing.",
        ),
        ({"state": "degraded", "reason": "archive", "ready": True}, "OK", "The broker takes no"),
        ({"ready": False}, "NOT READY", "The station does not judge at this moment."),
    ],
)
def test_a_station_that_does_not_judge_says_so_in_place_of_the_verdict(
    open_page: Open, station: PlayedStation, said: dict[str, Any], word: str, sentence: str
) -> None:
    station.show(OK, picture(90))
    station.state |= said
    page = open_page()
    shows(page, word)
    assert page.inner_text("[data-notice-name]").startswith(sentence)
    assert page.inner_text("[data-notice-why]") == said.get("why", "")


def test_a_station_that_is_killed_and_comes_back(open_page: Open, shared_root: Path) -> None:
    page = open_page()
    shows(page, "STOPPED")
    with played_station(shared_root) as station:
        station.show(NG, picture(90))
        shows(page, "NG")
    shows(page, "STOPPED")
    assert page.locator("[data-no-picture]").is_visible()


def test_a_page_that_has_lost_its_server_shows_no_verdict(
    chromium: Any, shared_root: Path, station: PlayedStation
) -> None:
    station.show(OK, picture(90))
    context = chromium.new_context()
    with served_page(shared_root) as port:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        shows(log_in(page, "lena"), "OK")
    page.set_default_timeout(1000 * patience_s(10))
    shows(page, "NO CONNECTION")
    assert page.locator(".picture.is-old").count() == 1
    context.close()


def test_three_tabs_cost_the_station_no_more_than_one(
    open_page: Open, station: PlayedStation
) -> None:
    station.show(OK, picture(90))
    first = open_page()
    shows(first, "OK")
    tabs = [first, *(open_page(context=first.context) for _ in range(2))]
    for tab in tabs:
        shows(tab, "OK")
    asked, begun_s = station.asked, time.monotonic()
    first.wait_for_timeout(1000)  # and no time.sleep: requests pass through this thread
    assert 0 < station.asked - asked <= 1 + 5 * (time.monotonic() - begun_s)
    station.show(NG, picture(120))
    for tab in tabs:
        shows(tab, "NG")


def test_a_tab_that_nobody_sees_asks_nothing(open_page: Open, station: PlayedStation) -> None:
    station.show(OK, picture(90))
    page = open_page()
    shows(page, "OK")
    turn = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(turn, True)
    page.wait_for_timeout(500)  # and no time.sleep: requests pass through this thread
    asked = station.asked
    page.wait_for_timeout(800)
    assert station.asked == asked
    station.show(NG)
    page.evaluate(turn, False)
    shows(page, "NG")


def test_a_rejected_part_is_shown_as_it_was_judged_and_labeled(
    open_page: Open, shared_root: Path, station: PlayedStation
) -> None:
    *_, last = record_parts(shared_root, 2, pictured=1)
    station.show({**NG, "seq": last["seq"]}, picture(90))
    page = open_page()
    page.wait_for_selector(".picture.has-evidence")
    assert page.evaluate("document.querySelector('[data-evidence]').naturalWidth") > 0
    assert page.get_attribute("[data-show-part]", "href") == f"/history/{last['seq']}"
    for click, said in (("bad", "bad"), ("good", "good"), ("good", None)):
        page.click(f"[data-say={click}]")
        page.wait_for_selector(f"[data-say={click}][aria-pressed={str(said == click).lower()}]")
        label = read_labels(shared_root).get(last["seq"])
        assert (label and label.said) == said
    station.show(NG)  # of which there is no record
    page.wait_for_selector(".picture:not(.has-evidence)")
    page.click("[data-say=bad]")
    page.wait_for_selector("[data-say-problem]")
    assert page.get_attribute("[data-say=bad]", "aria-pressed") == "false"
    station.show({**OK, "seq": 9999})
    shows(page, "OK")


FITS = """() => {
    const box = selector => document.querySelector(selector).getBoundingClientRect();
    return {
        wide: document.documentElement.scrollWidth - innerWidth,
        high: document.documentElement.scrollHeight - innerHeight,
        word: parseFloat(getComputedStyle(document.querySelector("[data-word]")).fontSize),
        cut: document.querySelector("[data-word]").scrollWidth
             - document.querySelector("[data-word]").clientWidth,
        counters: innerHeight - box(".counters").bottom,
        picture: box(".picture").width,
    };
}"""


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("size", [PANEL, PHONE, DESK], ids=["panel", "phone", "desk"])
def test_it_fits_the_screen_in_both_languages(
    open_page: Open, station: PlayedStation, language: str, size: tuple[int, int]
) -> None:
    station.show(UNKNOWN, picture(90))
    page = open_page(size=size, locale=language)
    assert page.get_attribute("html", "lang") == language
    page.wait_for_selector("[data-show='3']")
    fit = page.evaluate(FITS)
    assert fit["wide"] <= 0
    assert fit["cut"] <= 0
    assert fit["picture"] > 360
    if size != PHONE:
        assert fit["high"] <= 0, "a panel is not scrolled"
        assert fit["counters"] >= 0
        assert fit["word"] >= 100, "read from three meters"
    for said in ({"state": "fault", "reason": "camera_mismatch", "ready": False}, {"ready": False}):
        station.state |= {"state": "online", "reason": "", **said}
        page.wait_for_selector(f"[data-show='{'fault' if 'state' in said else 'not_ready'}']")
        fit = page.evaluate(FITS)
        assert max(fit["wide"], fit["cut"]) <= 0, (said, fit)


def test_it_is_used_by_keyboard_alone(open_page: Open, station: PlayedStation) -> None:
    page = open_page("anna")
    shows(page, "WAITING")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    assert page.locator(".sheet").is_visible()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.value") == "de":
            break
    page.keyboard.press("Enter")
    shows(page, "WARTET")


def test_targets_are_large_enough_for_a_finger(open_page: Open, station: PlayedStation) -> None:
    page = open_page(size=PHONE)
    shows(page, "WAITING")
    page.click("summary")
    small = page.evaluate("""() => [...document.querySelectorAll("a, button, summary, input")]
        .filter(one => one.checkVisibility() && !one.matches(".skip, [type=hidden]"))
        .filter(one => Math.min(one.offsetHeight, one.offsetWidth) < 40)
        .map(one => one.outerHTML.slice(0, 80))""")
    assert small == []
