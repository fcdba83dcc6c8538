"""What a preset gains that judges depth beside color: a system's runs with and without it, by group
of defects.

    trainer train vmpfd parts/connector --out runs/color
    trainer train vmpfd parts/connector --out runs/depth --preset compact-rgbd
    trainer evaluate runs/color parts/connector
    trainer evaluate runs/depth parts/connector
    python tests/benchmarks/rgbd.py vmpfd runs/color runs/depth --write

Prints a row per run and group of what `trainer evaluate` wrote. --write: as the entry of that
system into docs/figures/rgbd.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.write_docs import table_of
from tests.benchmarks.benchmark_runs import NAMES
from tests.benchmarks.figures import how, write_entry

FILE = "rgbd.json"
COLUMNS = ("product", "preset", "seed", "group", "I-AUROC", "AUPRO 0.3")
CONDITIONS = "Percent. Each group of defects against all good test images."


def main() -> None:
    """Print the table; with --write, write the entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=sorted(NAMES))
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, evaluated")
    parser.add_argument("--write", action="store_true", help=f"into docs/figures/{FILE}")
    arguments = parser.parse_args()
    made = {"conditions": CONDITIONS, "columns": list(COLUMNS)}
    entry = {**how(), **made, "rows": rows_of(arguments.system, arguments.runs)}
    print("\n".join(table_of(entry)))
    if arguments.write:
        write_entry(FILE, arguments.system, entry)


def rows_of(system: str, runs: Iterable[Path]) -> list[list[Any]]:
    """A row per run and group, then one of all defects of the run; by product, seed and preset.

    Raises: SystemExit for a run that was not evaluated, or is another system's.
    """
    found: list[list[Any]] = []
    for folder in runs:
        file = folder / "evaluate.json"
        if not file.is_file():
            raise SystemExit(f"there is no {file}: write it with `trainer evaluate`")
        summary = json.loads(file.read_text(encoding="utf-8"))
        run = summary["run"]
        if run["system"] != system:
            raise SystemExit(f"{folder} is a run of {run['system']}, not of {system}")
        head = [Path(summary["data"]).name, run["preset"], run["seed"]]
        found += [
            [*head, row["name"], 100 * row["image_auroc"], 100 * row["aupro_30"]]
            for row in (*summary["groups"], summary["rows"][-1])
        ]
    return sorted(found, key=lambda row: (row[0], row[2], row[1]))  # stable: groups stay in order


if __name__ == "__main__":
    main()
