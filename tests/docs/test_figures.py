"""Every figure of README and docs is that of a JSON file, which names the command that wrote it;
the reference of station.toml is what the models say.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from scripts.write_docs import (
    MEASURED,
    ROOT,
    STATION_PAGE,
    entry_of,
    is_measured,
    pages,
    references_in,
    wanted,
    wrong_figures,
    wrong_in,
)
from tests.benchmarks.figures import dumped, write_entry, write_row

FILES = sorted((ROOT / "docs/figures").glob("*.json"))
RESULTS = ROOT / "docs/results.md"


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rows(file: str, entry: str) -> list[list[Any]]:
    return json.loads((ROOT / "docs/figures" / file).read_text())[entry]["rows"]


@pytest.mark.parametrize("path", pages(), ids=named)
def test_the_page_is_what_the_files_say(path: Path) -> None:
    """`python scripts/write_docs.py` after a change of edge/*sections.py or docs/figures."""
    assert wanted(path) == path.read_text(encoding="utf-8")
    assert list(wrong_figures(path)) == []


def test_every_pattern_of_measured_pages_has_a_page() -> None:
    assert all(list(ROOT.glob(pattern)) for pattern in MEASURED)


@pytest.mark.parametrize("page", sorted((ROOT / "docs/systems").glob("*.md")), ids=named)
def test_a_figure_without_a_marker_is_found_on_the_page_of_a_system(page: Path) -> None:
    text = page.read_text(encoding="utf-8") + "\n- Section 3.2 of the paper, see section 4.1.\n"
    changed = text.replace("## Switches", "- It has 12.5 more.\n\n## Switches")
    assert list(wrong_in(changed, page, is_measured(page))) == [
        f"{named(page)}: no marker for 12.5 in: - It has 12.5 more."
    ]


@pytest.mark.parametrize("file", FILES, ids=named)
def test_every_entry_says_how_it_was_measured_and_is_shown(file: Path) -> None:
    shown = {
        ((page.parent / reference.partition("#")[0]).resolve(), reference.partition("#")[2])
        for page in pages()
        for reference in references_in(page.read_text(encoding="utf-8"), ("table", "figures"))
    }
    for name, entry in json.loads(file.read_text()).items():
        assert {"command", "date", "machine"} <= set(entry), name
        assert (file, name) in shown, f"{name} is on no page"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("M3DM 94.6, NTSNet 94.3", "M3DM 95.6, NTSNet 94.3", "95.6 is 94.6"),
        ("M3DM 94.6, NTSNet 94.3", "M3DM, NTSNet 94.3", "3 figures, 4 values"),
        ("- MATS on parts", "- And 12.5 more.\n- MATS on parts", "no marker for 12.5"),
        ("- MATS on parts", "- And 12 % more.\n- MATS on parts", "no marker for 12"),
        ("## Speed\n", "## Speed\n| ours | 1.0 |\n", "no marker for 1.0"),
    ],
)
def test_a_figure_changed_by_hand_is_found(old: str, new: str, complaint: str) -> None:
    text = RESULTS.read_text(encoding="utf-8")
    assert old in text
    assert complaint in " ".join(wrong_in(text.replace(old, new, 1), RESULTS, measured=True))


@pytest.mark.parametrize(
    ("page", "old", "new"),
    [
        (RESULTS, "| screw | NTSNet | 94.3 /", "| screw | NTSNet | 96.3 /"),
        (ROOT / STATION_PAGE, "| `port` | `1883` |", "| `port` | `1884` |"),
    ],
)
def test_a_written_table_changed_by_hand_is_found(
    page: Path, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = page.read_text(encoding="utf-8").replace(old, new, 1)
    assert changed != page.read_text(encoding="utf-8")
    read = Path.read_text

    def read_changed(path: Path, *args: str, **named: str) -> str:
        return changed if path == page else read(path, *args, **named)

    monkeypatch.setattr(Path, "read_text", read_changed)
    assert wanted(page) != changed


def test_means_of_all_systems_are_those_of_the_runs() -> None:
    """Within 0.1: the runs that were transcribed are rounded."""
    runs = [(row[0], row[1], row[3:6]) for row in rows("benchmark.json", "runs")]
    runs += [(row[0], "MATS", row[2:5]) for row in rows("accuracy.json", "runs")]
    systems = entry_of("figures/benchmark.json#means", RESULTS)["columns"][1:]
    for product, *means in rows("benchmark.json", "means"):
        for system, mean in zip(systems, means, strict=True):
            own = [
                figures
                for name, by, figures in runs
                if (name, by) == (product.replace(", with depth", ""), system)
            ]
            assert len(own) == 3 or product == "mean of the four"
            for values, value in zip(zip(*own, strict=True), mean, strict=False):
                assert fmean(values) == pytest.approx(value, abs=0.1), (product, system)


def test_training_times_are_those_of_the_runs() -> None:
    spent = [
        (row[0], row[1], row[10]) for row in rows("benchmark.json", "runs") if row[11] == "CPU"
    ]
    spent += [(row[0], "MATS", row[9]) for row in rows("accuracy.json", "runs")]
    for system, _, deep, flat, *_ in rows("choice.json", "costs"):
        for shown, color_only in ((deep, False), (flat, True)):
            own = [s for name, by, s in spent if by == system and ("color" in name) is color_only]
            assert shown == f"{min(own)} to {max(own)}", system


@pytest.mark.parametrize("file", FILES, ids=named)
def test_files_read_as_a_benchmark_writes_them(file: Path) -> None:
    """A difference then shows the rows that changed, and nothing else."""
    assert dumped(json.loads(file.read_text())) == file.read_text()


def test_a_row_that_is_measured_again_takes_its_place(tmp_path: Path) -> None:
    table = {"command": "c", "date": "", "machine": "m", "columns": ["a"], "rows": [["x", 1.0]]}
    write_entry("new.json", "speed", table, tmp_path)
    write_row("new.json", "speed", ["y", 2.0], tmp_path)
    write_row("new.json", "speed", ["x", 3.0], tmp_path)
    written = json.loads((tmp_path / "new.json").read_text())["speed"]
    assert written["rows"] == [["x", 3.0], ["y", 2.0]]
    assert written["date"]
