"""Where a benchmark leaves what it measured: an entry of a file in docs/figures.

`python scripts/write_docs.py` writes the pages from there; docs/figures/README.md has the form.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"


def how(trained_on: str = "cpu") -> dict[str, str]:
    """Command, date and machine of this process. trained_on: a device of torch."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    return {
        "command": f"python {shlex.join(sys.argv)}",
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "machine": machine if trained_on == "cpu" else f"{machine}, trained on {trained_on}",
    }


def write_entry(file: str, name: str, entry: Mapping[str, Any], folder: Path = FIGURES) -> None:
    """Put the entry in the place of the one of that name, or at the end of the file."""
    path = folder / file
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(dumped({**entries, name: entry}), encoding="utf-8")
    print(f"{path}#{name}: written; `python scripts/write_docs.py` puts it into the pages")


def write_row(file: str, name: str, row: Sequence[Any], folder: Path = FIGURES) -> None:
    """Put the row in the place of the one with the same first cell, or at the end of the table."""
    entry = json.loads((folder / file).read_text(encoding="utf-8"))[name]
    firsts = [known[0] for known in entry["rows"]]
    place = firsts.index(row[0]) if row[0] in firsts else len(firsts)
    entry["rows"][place : place + 1] = [list(row)]
    write_entry(file, name, {**entry, "date": how()["date"]}, folder)


def dumped(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a table's row on a line, so that a difference reads as one."""
    return "{\n" + ",\n".join(_entry(name, entry) for name, entry in entries.items()) + "\n}\n"


def _entry(name: str, entry: Mapping[str, Any]) -> str:
    head = {key: value for key, value in entry.items() if key != "rows"}
    text = json.dumps(head, indent=2, ensure_ascii=False)
    if "rows" in entry:
        rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in entry["rows"])
        text = f'{text[:-2]},\n  "rows": [\n{rows}\n  ]\n}}'
    return "\n".join("  " + line for line in f"{json.dumps(name)}: {text}".splitlines())
