"""Pages are wrapped, their links lead somewhere, and the files that they name are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.write_docs import ROOT, TABLE, WIDTH, pages

FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TOP = "edge|calibration|trainer|tests|scripts|docs|systemd"
FILE = re.compile(rf"`((?:{TOP})/[a-z0-9_/.-]+\.[a-z]+)`")
PAGES = [*pages(), ROOT / "CHANGELOG.md"]
ADDED = {  # by the examples of CONTRIBUTING.md
    "trainer/systems/mean/system.py",
    "edge/camera/pattern.py",
    "edge/line/to_file.py",
}
WORDS = {  # what a stranger does not understand: what the page says instead
    "golden frame": "reference frame",
    "drawn anomal": "synthetic anomaly",
    "drawn defect": "synthetic defect",
    "colour": "color",
    "quantis": "quantize",
    "centre": "center",
    "so many frames": "this many frames",
    "DESIGN": "the page of docs/ that has it",
}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    plain = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    return set(plain)


def lost_links(text: str, path: Path) -> Iterator[str]:
    for link in LINK.findall(FENCE.sub("", text)):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if "://" in link or (
            not (ROOT / "docs/systems").is_dir() and target.parent.name == "systems"
        ):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def long_lines(text: str) -> list[str]:
    """Of prose: tables and fenced code are as wide as they are."""
    prose = TABLE.sub("", FENCE.sub("", text))
    return [
        line
        for line in prose.splitlines()
        if len(line) > WIDTH and " " in line.strip("- ") and not line.startswith(("|", "!", "#"))
    ]


@pytest.mark.parametrize("path", pages(), ids=named)
def test_prose_is_wrapped_and_says_it_in_the_fields_words(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert long_lines(text) == []
    assert [word for word in WORDS if word in text and path.name != "glossary.md"] == []


@pytest.mark.parametrize("package", ["edge", "calibration", "trainer"])
def test_code_says_reference_frame(package: str) -> None:
    """The word golden is of file names only."""
    sources = [*(ROOT / package).rglob("*.py"), *(ROOT / package).rglob("*.html")]
    assert sources
    assert [
        named(path)
        for path in sources
        if "golden frame" in " ".join(path.read_text(encoding="utf-8").lower().split())
    ] == []


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    assert list(lost_links(path.read_text(encoding="utf-8"), path)) == []


@pytest.mark.parametrize("path", pages(), ids=named)
def test_files_that_a_page_names_are_there(path: Path) -> None:
    files = set(FILE.findall(path.read_text(encoding="utf-8"))) - ADDED
    assert [file for file in sorted(files) if not (ROOT / file).exists()] == []


def test_every_page_is_on_the_map() -> None:
    docs = ROOT / "docs"
    linked = LINK.findall((docs / "README.md").read_text(encoding="utf-8"))
    known = {(docs / link.partition("#")[0]).resolve() for link in linked}
    assert [named(path) for path in docs.rglob("*.md") if path not in known] == ["docs/README.md"]


def test_planted_faults_are_found() -> None:
    page = ROOT / "docs/faq.md"
    assert list(lost_links("[a](mqtt.md#nothing) [b](gone.md) [c](mqtt.md#record)", page)) == [
        "mqtt.md#nothing",
        "gone.md",
    ]
    assert long_lines("word " * 30 + "\n| cell " * 30) == ["word " * 30]
