"""What one job of a campaign costs: processor, memory, bytes read and written, and what it leaves.

    python tests/benchmarks/job_costs.py PRODUCT --work FOLDER \\
        [--epochs N] [--systems NAMES] [--write]

Each system is trained and evaluated once on the product by `trainer campaign` with the runner
local:1 and one thread; the figures are those of the jobs' done-markers. Bytes are what passed
between the job and the operating system, so that what a cache answers is in them: the most that a
shared folder has to carry. No graphics card takes part. A folder that holds some of the jobs
already goes on with the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.figures import how, write_entry
from trainer.runner.work import DONE

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEMS = ("mats", "ntsnet", "aand", "m3dm", "vmpfd")
MIB = 1 << 20
COLUMNS = [
    "system",
    {"title": "training, CPU s", "digits": 0},
    {"title": "evaluation, CPU s", "digits": 0},
    {"title": "peak memory, MiB", "digits": 0},
    {"title": "read, MiB", "digits": 0},
    {"title": "written, MiB", "digits": 0},
    {"title": "left in its folder, MiB", "digits": 0},
]


def run_campaign(product: Path, work: Path, epochs: int | None, systems: list[str]) -> None:
    """Each system once; what is done already is not repeated."""
    work.mkdir(parents=True, exist_ok=True)
    given = "" if epochs is None else f"epochs = {epochs}\n"
    text = f"products = [{json.dumps(str(product))}]\nsystems = {json.dumps(systems)}\n{given}"
    file = work / "costs.toml"
    file.write_text(text, encoding="utf-8")
    command = ["-m", "trainer", "campaign", str(file), "--out", str(work), "--runner", "local:1"]
    subprocess.run([sys.executable, *command], check=True, cwd=REPOSITORY)


def row_of(folder: Path) -> list[Any]:
    """Of one job's folder."""
    train, evaluate = json.loads((folder / DONE).read_text(encoding="utf-8"))["used"][:2]
    left = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MIB
    both = (train, evaluate)
    return [
        folder.name.partition("-")[0],
        train["cpu_s"],
        evaluate["cpu_s"],
        max(step["peak_mb"] for step in both),
        sum(step["read_mb"] for step in both),
        sum(step["written_mb"] for step in both),
        left,
    ]


def main() -> None:
    """Measure, print, and with --write put it into docs/figures/scale.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("product", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    product, work = asked.product.resolve(), asked.work.resolve()
    run_campaign(product, work, asked.epochs, asked.systems.split(","))
    landed = {marker.parent.name: marker.parent for marker in work.glob(f"jobs/*/*/{DONE}")}
    rows = sorted((row_of(folder) for folder in landed.values()), key=order)
    for row in rows:
        print(*row)
    if asked.write:
        size = sum(file.stat().st_size for file in product.rglob("*") if file.is_file()) / MIB
        epochs = "the preset's epochs" if asked.epochs is None else f"{asked.epochs} epoch a phase"
        conditions = (
            f"Compact preset, {epochs}, one thread, CPU, no GPU, with other work on the machine;"
            f" the product {product.name} of `trainer synthesize` ({size:.0f} MiB)."
        )
        entry = {**how(), "conditions": conditions, "columns": COLUMNS, "rows": rows}
        write_entry("scale.json", "job_costs", entry)


def order(row: list[Any]) -> int:
    """As the systems stand everywhere."""
    return SYSTEMS.index(row[0])


if __name__ == "__main__":
    main()
