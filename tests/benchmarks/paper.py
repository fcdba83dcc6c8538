"""What it takes to train every `paper` preset once, on few parts and with random weights.

    python tests/benchmarks/paper.py WORK           print what was measured
    python tests/benchmarks/paper.py WORK --write   write docs/figures/paper.json

The folder WORK keeps the row of every run, so that the same command goes on where it was stopped.
Each run has a process of its own, whose largest resident memory is the row's. The networks and
image sizes are the preset's own; only the counts of parts, epochs and steps are small, so that the
seconds are no estimate of a whole training.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.figures import how, write_entry
from tests.support.paper_run import AMOUNTS, CASES, paper_run, write_small_product

FILE, ENTRY = "paper.json", "trained"
CONDITIONS = (
    "Random weights of the backbone, no accuracy meant: every `paper` preset at its own sizes,"
    f" trained for one epoch of every phase on {AMOUNTS.train} synthetic washers, evaluated on the"
    " test images, exported as fp32 and compared with torch, on one core while other programs ran."
)
COLUMNS = [
    "system",
    "images",
    {"title": "training s", "digits": 0},
    {"title": "evaluation s", "digits": 0},
    {"title": "export and comparison s", "digits": 0},
    {"title": "largest resident memory, GB", "digits": 1},
    {"title": "map of ONNX from torch, share of its range", "digits": 7},
]


def main() -> None:
    """Measure, print, and write the entry if that is asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case is not None:
        answer = asked.work / f"{asked.case}.json"
        answer.write_text(json.dumps(row_of(*CASES[asked.case])))
        return
    asked.work.mkdir(parents=True, exist_ok=True)
    for number in range(len(CASES)):
        if asked.write:
            write_rows(asked.work)
        measured(number, asked.work)
    if asked.write:
        write_rows(asked.work)
    for row in rows_in(asked.work):
        print(*row)


def measured(number: int, work: Path) -> None:
    """Run a case in a process of its own, unless its row is there."""
    if not (work / f"{number}.json").is_file():
        command = [sys.executable, __file__, str(work), "--case", str(number)]
        subprocess.run(command, check=True)


def write_rows(work: Path) -> None:
    """Write the entry with the rows that are there."""
    if rows := rows_in(work):
        told = {"conditions": CONDITIONS, "columns": COLUMNS, "rows": rows}
        write_entry(FILE, ENTRY, {**how(), **told})


def rows_in(work: Path) -> list[list[Any]]:
    """The rows that are there, in the order of the cases."""
    paths = [work / f"{number}.json" for number in range(len(CASES))]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def row_of(system: str, with_depth: bool) -> list[Any]:
    """Run one case here, and say what it took."""
    with tempfile.TemporaryDirectory() as folder:
        product = write_small_product(Path(folder) / "product")
        done = paper_run(system, with_depth, product, Path(folder))
    title = {"mats": "MATS", "aand": "AAND", "m3dm": "M3DM", "ntsnet": "NTSNet"}
    name = title.get(system, "VMPFD-AD")
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    images = "color and depth" if with_depth else "color"
    return [name, images, *done.seconds, memory_gb, done.agreement.map]


if __name__ == "__main__":
    main()
