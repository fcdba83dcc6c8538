"""Write what docs/ takes from the code and from measurements; docs/figures/README.md has the rules.

    python scripts/write_docs.py            after edge/*sections.py or docs/figures changed
    python scripts/write_docs.py --check    change nothing, name what differs; exit code 1

The reference of station.toml is written from the models of edge/*sections.py. A table between
`<!-- table: FILE#ENTRY -->` and `<!-- end -->` is written from that entry. The figures of a
paragraph that ends with `<!-- figures: FILE#ENTRY -->` are compared with that entry's values.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edge.config import PLACE, EdgeConfig, render_config  # noqa: E402
from edge.sections import Section  # noqa: E402

WIDTH = 100  # columns of prose
STATION_PAGE = "docs/station-toml.md"
MEASURED = (  # pages on which every figure has its marker, or stands in a written table
    "README.md",
    "docs/results.md",
    "docs/accuracy.md",
    "docs/benchmark.md",
    "docs/bank-size.md",
    "docs/drift.md",
    "docs/gpu.md",
    "docs/site.md",
    "docs/ablation-*.md",
    "docs/systems/*.md",
)
PATTERNS = {  # of edge/*sections.py, in words
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$": "letters, digits, `.` `_` `-`, at most 32",
    r"^[^+/#$]{0,64}$": "none of `+` `/` `#` `$`, at most 64",
}
PRECISIONS = ("fp32", "fp16", "int8")
TABLE = re.compile(r"```.*?```|(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
MARKER = re.compile(r"<!-- (figures|table): (\S+) -->")
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
# Not figures: code, links' targets, other comments, names of metrics, numbers of sections.
APART = re.compile(
    r"```.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->|AUPRO 0\.\d+|\b[Ss]ections? \d+\.\d+", re.DOTALL
)
FIGURE = re.compile(r"(?<![\w.-])[+-]?\d[\d,]*(?:\.\d+|(?= ?%))(?!\w)")
BLOCK = re.compile(r"\n(?=\n|[ ]*[-*] |[ ]*\d+\. |\|)")


def main() -> int:
    """Write or check every page; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    differing = [path for path in pages() if wanted(path) != path.read_text(encoding="utf-8")]
    complaints = [f"{path.relative_to(ROOT)} is not as written" for path in differing if check]
    if not check:
        for path in differing:
            path.write_text(wanted(path), encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    complaints += [complaint for path in pages() for complaint in wrong_figures(path)]
    print("\n".join(complaints), end="\n" if complaints else "")
    return 1 if complaints else 0


def pages() -> list[Path]:
    """README, CONTRIBUTING and every page of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def wanted(path: Path) -> str:
    """The text that `path` should have."""
    if path == ROOT / STATION_PAGE:
        return station_page()
    return filled(path.read_text(encoding="utf-8"), path)


def filled(text: str, path: Path) -> str:
    """The page with every table written anew."""

    def written(found: re.Match[str]) -> str:
        return found[1] + block_of(found[2], path) + found[3] if found[1] else found[0]

    return TABLE.sub(written, text)


def block_of(reference: str, path: Path) -> str:
    """A table with the conditions it was measured under."""
    entry = entry_of(reference, path)
    home = os.path.relpath(ROOT / "docs/figures/README.md", path.parent)
    parts = ["\n".join(table_of(entry))]
    if not entry.get("bare"):
        parts.insert(0, wrapped(conditions_of(entry, home)))
    return "\n" + "\n\n".join(parts) + "\n\n"


def wrapped(text: str) -> str:
    """A paragraph; words, links and commands are not broken at hyphens."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def conditions_of(entry: Mapping[str, Any], home: str) -> str:
    """One paragraph: what was measured, by which command, when, on what."""
    how = f"Measured by `{entry['command']}`, {entry['date']}, {entry['machine']}"
    where = f"; [transcribed]({home}#transcribed)." if entry.get("transcribed") else "."
    return f"{entry['conditions']} {how}{where}".strip()


def entry_of(reference: str, path: Path) -> dict[str, Any]:
    """The entry that FILE#ENTRY names, FILE seen from the folder of the page `path`."""
    file, _, name = reference.partition("#")
    return dict(read(path.parent / file)[name])


@cache
def read(path: Path) -> dict[str, Any]:
    """A file of figures: entries by name."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def table_of(entry: Mapping[str, Any]) -> list[str]:
    """The entry's rows in Markdown."""
    if "results" in entry:
        return verdict_table(entry["results"])
    columns = [
        {"title": column} if isinstance(column, str) else column for column in entry["columns"]
    ]
    lines = [
        f"| {' | '.join(column['title'] for column in columns)} |",
        f"|{'---|' * len(columns)}",
    ]
    for number, row in enumerate(entry["rows"]):
        cells = [cell_of(value, column) for value, column in zip(row, columns, strict=True)]
        if number in entry.get("bold_rows", ()):
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cell_of(value: Any, column: Mapping[str, Any]) -> str:
    """A cell: text, a number with the column's digits, several of them, or a mean with the
    difference to the complete system and that difference's deviation.
    """
    if isinstance(value, Mapping) and "at" in value:
        value = looked_up(*value["at"])
    if isinstance(value, Mapping):
        cell = number_of(value["mean"], column)
        if "difference" in value:
            deviation = f", s {value['deviation']:.1f}" if "deviation" in value else ""
            cell += f" ({value['difference']:+.1f}{deviation})"
        return cell
    if isinstance(value, list):
        return " / ".join(number_of(one, column) for one in value) + column.get("suffix", "")
    if isinstance(value, str) or value is None:
        return "-" if value is None else value
    return number_of(value, column) + column.get("suffix", "")


def number_of(value: Any, column: Mapping[str, Any]) -> str:
    """A number with the column's digits; integers and text as they are."""
    if not isinstance(value, float):
        return str(value)
    sign = "+" if column.get("signed") and value else ""
    return f"{value:{sign}.{column.get('digits', 1)}f}"


def looked_up(file: str, name: str, row: str, *rest: str | int) -> Any:
    """A figure of another entry: by its name among the values, or in a table by its row's first
    cell, its column's title and, of several numbers in the cell, which one.
    """
    entry = read(ROOT / "docs" / "figures" / file)[name]
    if "values" in entry:
        return entry["values"][row]
    column, *position = rest
    titles = [one if isinstance(one, str) else one["title"] for one in entry["columns"]]
    (cells,) = (cells for cells in entry["rows"] if cells[0] == row)
    value = cells[titles.index(column)]
    for index in position:
        value = value[index]
    return value


def verdict_table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row per system and product, then each system's products in which every precision passed,
    together.
    """
    lines = [
        "| system | product | fp32 | FP16 | INT8 | noise FP16 / INT8, s | INT8 share |",
        "|---|---|---|---|---|---|---|",
    ]
    for system in dict.fromkeys(result["system"] for result in results):
        rows = [result for result in results if result["system"] == system]
        lines += [_verdict_row(system, row["product"], row["precisions"]) for row in rows]
        whole = [
            row
            for row in rows
            if all(row["precisions"].get(name, {}).get("passed") for name in PRECISIONS)
        ]
        together = f"**together: {len(whole)}**"
        lines.append(_verdict_row(f"**{system}**", together, _summed(whole)))
    return lines


def _verdict_row(system: str, product: str, found: Mapping[str, Any]) -> str:
    cells = [_verdicts(found[name]) if name in found else "not made" for name in PRECISIONS]
    noises = " / ".join(
        f"{found[name]['noise']:.2f}" if name in found else "-" for name in ("fp16", "int8")
    )
    share = f"{found['int8']['int8_macs']:.0%}" if "int8" in found else "-"
    return f"| {system} | {product} | {' | '.join(cells)} | {noises} | {share} |"


def _verdicts(entry: Mapping[str, Any]) -> str:
    if not entry["passed"]:
        return f"FAILS: {entry['reasons'][0]}"
    return f"{entry['rejected']} of {entry['good']}, {entry['missed']} of {entry['defective']}"


def _summed(whole: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and mean noise of products in which every precision is in the bundle."""
    summed: dict[str, Any] = {}
    for name in PRECISIONS if whole else ():
        entries = [row["precisions"][name] for row in whole]
        counts = ("rejected", "good", "missed", "defective")
        summed[name] = {key: sum(entry[key] for entry in entries) for key in counts}
        summed[name] |= {
            key: fmean(entry[key] for entry in entries) for key in ("noise", "int8_macs")
        }
        summed[name] |= {"passed": True, "reasons": []}
    return summed


def wrong_figures(path: Path) -> Iterator[str]:
    """Figures of a page that differ from the values their marker names, or have no marker."""
    yield from wrong_in(path.read_text(encoding="utf-8"), path, is_measured(path))


def is_measured(path: Path) -> bool:
    """Whether every figure of the page needs its marker or its table."""
    return any(path.relative_to(ROOT).match(pattern) for pattern in MEASURED)


def wrong_in(text: str, path: Path, measured: bool) -> Iterator[str]:
    """As wrong_figures, of the text that the page would have."""
    name = path.relative_to(ROOT)
    for block in BLOCK.split(TABLE.sub("", text)):  # neither tables nor fenced code
        shown = FIGURE.findall(APART.sub(" ", block))
        references = references_in(block)
        if not references:
            if measured and shown:
                yield f"{name}: no marker for {', '.join(shown)} in: {' '.join(block.split())}"
            continue
        values = [
            looked_up(*value["at"]) if isinstance(value, Mapping) else value
            for reference in references
            for value in entry_of(reference, path)["values"].values()
        ]
        if len(shown) != len(values):
            yield f"{name}: {len(shown)} figures, {len(values)} values at {', '.join(references)}"
        for figure, value in zip(shown, values, strict=False):
            digits = len(figure.partition(".")[2])
            if f"{value:.{digits}f}" != figure.replace(",", "").lstrip("+"):
                yield f"{name}: {figure} is {value} at {', '.join(references)}"


def references_in(text: str, kinds: Sequence[str] = ("figures",)) -> list[str]:
    """What the markers in Markdown name, but for those that stand in code."""
    return [name for kind, name in MARKER.findall(CODE.sub("", text)) if kind in kinds]


def station_page() -> str:
    """docs/station-toml.md."""
    return "\n".join([*_station_head(), *_station_tables(), *_station_example()]) + "\n"


def _station_head() -> list[str]:
    head = (
        f"`{PLACE}` below the root of a station sets the camera, the broker and how long"
        " records stay. `edge install` writes it once, with every key and its meaning; from then"
        " on it belongs to the integrator. No command changes it except `edge install"
        " --station NAME`, which names a station that has no name yet. `edge run` reads it when it"
        " starts: an unknown key or a wrong value stops it with one sentence that names the key. A"
        " missing section or key has its default."
    )
    written = (
        "Written by `python scripts/write_docs.py` from the models in `edge/sections.py`; edit the"
        " descriptions there."
    )
    return ["# station.toml", "", wrapped(head), "", wrapped(written)]


def _station_tables() -> Iterator[str]:
    for name, field in EdgeConfig.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, Section)
        yield from ("", f"## [{name}]", wrapped(_escaped(field.description)), "")
        yield from ("| key | default | allowed | meaning |", "|---|---|---|---|")
        for key, described in section.model_fields.items():
            default = json.dumps(described.default, ensure_ascii=False)
            meaning = _escaped(described.description)
            yield f"| `{key}` | `{default}` | {_allowed(described)} | {meaning} |"


def _escaped(text: str | None) -> str:
    """A description, with what Markdown would take for markup."""
    return str(text).replace("|", "\\|").replace("<", "\\<")


def _allowed(field: Any) -> str:
    """Values that a key may have."""
    if get_origin(field.annotation) in (list, tuple):
        one = get_args(field.annotation)[0]
        literals = get_args(one) if get_origin(one) is Literal else ()
        choices = ", ".join(f"`{json.dumps(choice)}`" for choice in literals)
        return f"list of {choices or 'text'}"
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in get_args(field.annotation))
    kind = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
    limits = {"ge": "at least", "gt": "above", "le": "at most"}
    found = [
        f"{word} {getattr(limit, name):,}"
        for limit in field.metadata
        for name, word in limits.items()
        if getattr(limit, name, None) is not None
    ]
    lengths = [f"{one.min_length} character or more" for one in field.metadata if _least(one)]
    patterns = [PATTERNS[one.pattern] for one in field.metadata if getattr(one, "pattern", None)]
    return ", ".join([kind.get(field.annotation, "text"), *found, *lengths, *patterns])


def _least(limit: Any) -> bool:
    return getattr(limit, "min_length", None) is not None


def _station_example() -> list[str]:
    return ["", "## The file as it is laid down", "```toml", *_laid_down(), "```"]


def _laid_down() -> list[str]:
    return render_config(EdgeConfig()).rstrip().splitlines()


if __name__ == "__main__":
    sys.exit(main())
