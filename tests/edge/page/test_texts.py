"""Every text is there, in every language; a reason without what to do about it is found here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.page.render import TEMPLATES
from edge.page.roles import Role
from edge.page.static_files import FOLDER
from edge.page.texts import LANGUAGES, PLACE, Texts, language_of, read_texts
from edge.types import Code, Reason

TEXTS = read_texts()
USED = re.compile(r'\bt\(\s*["\']([a-z0-9_.]+)["\']\s*[,)]')


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_has_a_name_and_what_to_do(language: str) -> None:
    keys = TEXTS.keys(language)
    wanted = {f"reason.{one.value}.{part}" for one in Reason for part in ("name", "do")}
    assert wanted - keys == set()
    assert {f"{table}.{code.value}" for code in Code for table in ("code", "meaning")} <= keys
    assert {f"role.{role.value}" for role in Role} <= keys


def test_every_text_is_there_in_every_language() -> None:
    english, *others = (TEXTS.keys(language) for language in LANGUAGES)
    assert len(english) > 100
    for other in others:
        assert english ^ other == set()
    for language in LANGUAGES:
        assert [key for key in english if not TEXTS.say(language, key).strip()] == []


def test_the_same_values_go_into_every_language() -> None:
    for key in TEXTS.keys("en"):
        places = [
            sorted(re.findall(r"{(\w*)}", TEXTS.say(language, key))) for language in LANGUAGES
        ]
        assert places[0] == places[1], key


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
def test_every_text_of_a_template_is_there(path: Path) -> None:
    used = set(USED.findall(path.read_text("utf-8")))  # but for keys that are put together
    assert used - TEXTS.keys("en") == set()


def test_every_text_of_the_script_is_there() -> None:
    """As it takes them from the page: words.live.ago, and those of each state of a station."""
    script = (FOLDER / "page.js").read_text("utf-8")
    used = set(re.findall(r"words\.([a-z]+\.[a-z]+)\b", script))
    assert used
    assert used - TEXTS.keys("en") == set()
    states = ("online", "not_ready", "degraded", "fault", "stopped", "starting", "silent", "lost")
    for state in states:
        assert {f"station.{state}.{part}" for part in ("word", "name", "do")} <= TEXTS.keys("en")


def test_a_language_that_lacks_a_text_is_found(tmp_path: Path) -> None:
    path = tmp_path / "texts.toml"
    text = PLACE.read_text("utf-8")
    path.write_text(
        text.replace('anomaly.de = "', 'anomaly.fr = "') + '\n[x]\ny.en = "z"\n', "utf-8"
    )
    planted: Texts = read_texts(path)
    assert planted.keys("en") ^ planted.keys("de") == {"x.y"}


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        ("de", "en", "de"),
        (None, "fr-FR,de;q=0.8,en;q=0.5", "de"),
        (None, "fr", "en"),
        ("xx", "", "en"),
        (None, "EN-US", "en"),
    ],
)
def test_the_language_is_chosen_or_accepted(
    chosen: str | None, accepted: str, language: str
) -> None:
    assert language_of(chosen, accepted) == language


@pytest.mark.parametrize("path", [*TEMPLATES.iterdir(), *FOLDER.iterdir()], ids=lambda p: p.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    """No address of another host, no script or style inside a page."""
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text) == []
    inline = re.findall(
        r"<script(?![^>]*(?:src=|application/json))|<style|\sstyle=|\son[a-z]+=", text
    )
    assert inline == []
