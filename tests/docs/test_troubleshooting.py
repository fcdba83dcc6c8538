"""docs/troubleshooting.md and the key table of docs/mqtt.md say what the code says, all of it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import errors
from edge.runtime import health
from edge.runtime.latency import STAGES
from edge.types import Reason
from tests.support.fakes import frame_of
from tests.support.service import new_service
from tests.support.station import EMPTY, GOOD, StationRoot, make_station

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/troubleshooting.md").read_text(encoding="utf-8")
MQTT = (REPOSITORY / "docs/mqtt.md").read_text(encoding="utf-8")
SENTENCES = (
    "The station is offline",
    "The camera",
    "The broker",
    "Disk, records, images and clock",
    "The bundle and its engines",
    "Installing, keys and accounts",
)
VARIABLE = re.compile(
    r": |\.\.\.|\b[A-Z]\b|\b\d+(?: \w)?\b|SIG[A-Z]+|PRODUCT|TOPIC|line\.(?:seq|sqlite|clock)"
)
LEAST = 6  # characters of a piece that are worth looking for


def section(page: str, title: str) -> str:
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL
    )
    assert found, title
    return found[1]


def first_cells(text: str) -> list[str]:
    """Of every table's rows but the heads, without the rule below them."""
    rows = [
        line.split(" | ")[0].removeprefix("| ")
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return [row.removesuffix(" |") for row in rows]


def listed(page: str, title: str) -> set[str]:
    return {
        word
        for cell in first_cells(section(page, title))
        for word in re.findall(r"`([^`]+)`", cell)
    }


def test_every_state_and_no_other() -> None:
    assert listed(PAGE, "What `state` says") - {"state"} == {
        health.ONLINE,
        *health.LEVELS.values(),
        "offline",
    }


def test_every_reason_and_no_other() -> None:
    assert listed(PAGE, "Reasons") == {reason.value for reason in Reason}


@pytest.mark.parametrize("reason", health.LEVELS)
def test_what_can_stand_in_the_state_is_said_to(reason: Reason) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{reason.value}` |"))
    assert row.split(" | ")[1] in ("state", "both")


def test_every_error_class_and_no_other() -> None:
    classes = {name for name, _ in inspect.getmembers(errors, inspect.isclass)}
    assert listed(PAGE, "Errors of a command") == classes
    assert all(f"{name} " in (errors.__doc__ or "") for name in classes)


def test_links_within_the_page_lead_somewhere() -> None:
    titles = re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors


def said() -> Iterator[str]:
    """Every piece of text in the code that a station runs."""
    for package in ("edge", "calibration"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "\0"
                        for part in node.values
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield re.sub(r"%\w|%\.\d\w", "\0", node.value)


def test_every_sentence_that_is_explained_is_said() -> None:
    """A row whose first cell quotes what the code no longer says is found here."""
    text = re.sub(r"[`\\]", "", "\n".join(said()))
    quoted = [
        words
        for title in SENTENCES
        for cell in first_cells(section(PAGE, title))
        for words in re.findall(r"`([^`]+)`", cell)
    ]
    pieces = {piece.strip(" .,:()") for words in quoted for piece in VARIABLE.split(words)}
    assert sorted(piece for piece in pieces if len(piece) >= LEAST and piece not in text) == []


def test_mqtt_lists_the_keys_of_the_state(tmp_path: Path) -> None:
    station: StationRoot = make_station(tmp_path)
    station.configure("folder", None)
    keys: list[str] = []
    script = [
        frame_of(shot, number) for number, shot in enumerate([EMPTY] * 3 + [GOOD] * 6 + [EMPTY] * 3)
    ]

    def note_keys() -> None:
        keys.extend(service.at_work.report.state().details.as_fields())

    service = new_service(station, [*script, note_keys])
    service.run()
    head = ["schema", "station", "state", "reason", "ready"]
    table = [
        word
        for cell in first_cells(section(MQTT, "state"))
        for word in re.findall(r"`([^`]+)`", cell)
    ]
    stages = {f"{stage}_ms" for stage in STAGES}
    assert set(table) == {*head, *keys, *stages, "run"}
