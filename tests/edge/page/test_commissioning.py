"""From an installed bundle to the first production verdict: by the page alone, and by the command
line alone, to the same state, in at most 15 clicks or commands.

`edge run` is a process of its own, its camera shows what the test lays before it; the browser is
Chromium.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.station.commissioning import read_commissioning
from edge.station.store import Store
from tests.support.broker import wait_until
from tests.support.commissioned import (
    BAD,
    EMPTY,
    FIRST_BAD,
    FIRST_NORMAL,
    NEXT,
    NORMAL,
    Hand,
    Site,
    new_browser,
    new_site,
    opened_page,
)
from tests.support.patience import HANG_S, patience_s
from tests.support.process import ENVIRONMENT, REPOSITORY
from tests.support.served_page import PASSWORD, served_page
from tests.support.station import SERIAL

MOST_ACTS = 15
OF_THE_PERSON = {"who", "when", "frame_number"}


def by_page(site: Site) -> int:
    """Returns how many clicks and typed fields it took."""
    with new_browser() as browser, served_page(site.root) as port:
        with opened_page(browser, port) as page:
            hand = Hand(page)
            log_in(hand)
            hand.click("a[href='/calibrate']")
            hand.click("text=The table is empty: measure it")
            hand.sees("[data-step=plane][data-phase=done]")
            hand.click("text=Show normal parts")
            hand.sees(f"text=Show part 1 of {NORMAL}")
            for number in range(NORMAL):
                show_until_taken(hand, site, FIRST_NORMAL + number, number + 1)
            hand.click("text=Sign as carl")
            hand.sees("[data-step=parts][data-phase=done]")
            hand.click("text=Number of parts and more")
            hand.write("form:has(details[open]) input[name=count]", str(BAD))
            hand.click("form:has(details[open]) button.primary")
            hand.sees(f"text=Show bad part 1 of {BAD}")
            for number in range(BAD):
                show_until_taken(hand, site, FIRST_BAD + number, number + 1)
            hand.sees(f"text={BAD} of {BAD} bad parts caught")
            hand.click("text=Go to the live view")
            site.pass_part(NEXT)
            hand.sees("[data-word]:text-is('OK')")
        return hand.acts


def show_until_taken(hand: Hand, site: Site, number: int, taken: int) -> None:
    """As a technician does: a part that was not taken in is shown once more."""

    def is_taken() -> bool:
        return bool(hand.page.locator(".shown li").count() >= taken)

    while not is_taken():
        site.pass_part(number)
        end_s = time.monotonic() + patience_s(2)
        while not is_taken() and time.monotonic() < end_s:
            hand.page.wait_for_timeout(100)


def log_in(hand: Hand) -> None:
    hand.write("input[name=name]", "carl")
    hand.write("input[name=secret]", PASSWORD)
    hand.click("button.primary")


def by_command_line(site: Site) -> int:
    """Returns how many commands it took; `edge run` is one of them."""
    with command(site, "plane"):
        pass
    for what, first, count in (("parts", FIRST_NORMAL, NORMAL), ("challenge", FIRST_BAD, BAD)):
        with command(site, what, "--count", str(count)) as lines:
            wait_until(lambda: site.said()["session"] is not None, HANG_S, "not begun")
            for number in range(count):
                site.pass_part(first + number)
                assert next(lines).startswith(f"part {number + 1} of {count}:")
        site.lay(EMPTY)
    wait_until(lambda: site.said()["state"]["ready"], HANG_S, "not ready")
    assert site.judges_as_calibrated()
    site.pass_part(NEXT)
    return 4


@contextmanager
def command(site: Site, *words: str) -> Iterator[Iterator[str]]:
    """`edge calibrate WORDS` and the lines that it prints; it has to end well."""
    line = [sys.executable, "-m", "edge", "calibrate", *words, "--root", str(site.root)]
    with subprocess.Popen(
        line, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout
        process.communicate(timeout=HANG_S)
        assert process.returncode == 0


def state_of(site: Site) -> dict[str, Any]:
    """What is calibrated, without who and when."""
    store = Store(site.root)
    geometry = store.geometry_record("washer", SERIAL)
    (model,) = store.model_states(store.active())
    evidence = read_commissioning(store, "washer")
    assert geometry is not None
    assert evidence is not None
    return {
        name: without_person(one.model_dump())
        for name, one in (("geometry", geometry), ("model", model), ("evidence", evidence))
    }


def without_person(told: Any) -> Any:
    if isinstance(told, dict):
        return {key: without_person(one) for key, one in told.items() if key not in OF_THE_PERSON}
    if isinstance(told, list | tuple):
        return [without_person(one) for one in told]
    return told


@pytest.mark.long
def test_the_page_alone_and_the_command_line_alone_reach_the_same_state(tmp_path: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for name, way in (("page", by_page), ("line", by_command_line)):
        with new_site(tmp_path / name) as site:
            acts = way(site)
            assert acts <= MOST_ACTS, name
            wait_until(lambda: site.said()["verdicts"], HANG_S, "no verdict")
            verdict = site.said()["verdicts"][-1]
            assert (verdict["code"], verdict["seq"]) == (1, 1), name
            found[name] = state_of(site)
    assert found["page"]["model"]["parts"] == NORMAL
    assert found["page"]["evidence"]["challenge"]["caught"] == BAD
    assert found["page"] == found["line"]


@pytest.mark.long
def test_a_reload_three_tabs_and_a_killed_station(tmp_path: Path) -> None:
    with (
        new_site(tmp_path / "site") as site,
        new_browser() as browser,
        served_page(site.root) as port,
        opened_page(browser, port) as page,
    ):
        log_in(Hand(page))
        page.click("a[href='/calibrate']")
        page.click("text=The table is empty: measure it")
        page.wait_for_selector("[data-step=plane][data-phase=done]")
        page.click("text=Show normal parts")
        third = f"text=Show part 3 of {NORMAL}"
        for number in range(2):
            page.wait_for_selector(f"text=Show part {number + 1} of {NORMAL}")
            site.pass_part(FIRST_NORMAL + number)
        page.wait_for_selector(third)
        page.reload()
        page.wait_for_selector(third)
        tabs = [page, *(page.context.new_page() for _ in range(2))]
        for tab in tabs[1:]:
            tab.goto(page.url)
            tab.wait_for_selector(third)
        site.pass_part(FIRST_NORMAL + 2)
        for tab in tabs:
            tab.wait_for_selector(f"text=Show part 4 of {NORMAL}")
            assert tab.locator(".shown li").count() == 3

        site.kill()
        page.wait_for_selector("text=The inspection is not running")
        site.start()
        for tab in tabs:
            tab.wait_for_selector("text=The station was restarted meanwhile")
        store = Store(site.root)
        assert store.model_states(store.active()) == ()
        tabs[1].click("text=Show normal parts")
        page.wait_for_selector(f"text=Show part 1 of {NORMAL}")
        page.click("text=Stop, change nothing")
        for tab in tabs:
            tab.wait_for_selector("text=Stopped. Nothing was changed.")
