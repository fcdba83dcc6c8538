"""Put the runs of `trainer benchmark` into docs/figures/benchmark.json: every run, the means of the
seeds, and the synthetic defects by what they change.

    trainer benchmark --data synthetic=parts --data screw=DATA/screw --systems mats,aand --seeds
    0,1,2 --out runs/benchmark
    python tests/benchmarks/benchmark_runs.py runs/benchmark --together biscuit,connector,rope

--together: the products with depth whose mean is a row of its own, and whose defects are counted by
group. Logical defects are those of every product that has some.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.figures import how, write_entry
from trainer.evaluate.rows import GROUPS
from trainer.synthetic.scene_defects import group_called

NAMES = {"mats": "MATS", "ntsnet": "NTSNet", "aand": "AAND", "m3dm": "M3DM", "vmpfd": "VMPFD-AD"}
METRICS = "I-AUROC / P-AUROC / AUPRO 0.3 in percent"


@dataclass(frozen=True)
class Run:
    """One result, in percent. metrics: I-AUROC, P-AUROC, AUPRO 0.3. groups: I-AUROC by group."""

    product: str
    with_depth: bool
    system: str
    seed: int
    metrics: tuple[float, float, float]
    groups: dict[str, float]
    seconds: float
    machine: str

    @property
    def title(self) -> str:
        """The product, and whether depth was used."""
        return f"{self.product}, {'with depth' if self.with_depth else 'color only'}"


def read_runs(out: Path) -> list[Run]:
    """Every run below the folder that has a result, by product, system and seed."""
    found = []
    for path in out.glob("runs/*/*/*/result.json"):
        result, info = (
            json.loads(path.read_text()),
            json.loads((path.parent / "run.json").read_text()),
        )
        if result["error"]:
            continue
        found.append(
            Run(
                product=info["product"],
                with_depth=info["with_depth"],
                system=NAMES[info["system"]],
                seed=info["seed"],
                metrics=(result["image_auroc"], result["pixel_auroc"], result["aupro"]),
                groups={group_called(k): v for k, v in (result["groups"] or {}).items()},
                seconds=result["seconds"],
                machine=result["machine"],
            )
        )
    return sorted(found, key=lambda run: (not run.with_depth, run.product, run.system, run.seed))


def every_run(runs: Sequence[Run]) -> dict[str, Any]:
    """A table with a row per run."""
    metrics = METRICS.partition(" in ")[0].split(" / ")
    return {
        "conditions": (
            "Percent, I-AUROC of the synthetic defects of each group in the columns that name one."
            " Evaluated on the CPU."
        ),
        "columns": ["product", "system", "seed", *metrics, *GROUPS, "trained s", "trained on"],
        "rows": [
            [
                run.product if run.with_depth else run.title,
                *(run.system, run.seed),
                *run.metrics,
                *map(run.groups.get, GROUPS),
                *(round(run.seconds), run.machine),
            ]
            for run in runs
        ],
    }


def means(runs: Sequence[Run], together: Sequence[str]) -> dict[str, Any]:
    """A table with a row per product, and one for those of `together`."""
    systems = [name for name in NAMES.values() if any(run.system == name for run in runs)]
    titles = dict.fromkeys(run.title for run in runs)
    rows = [[title, *(mean_of(runs, [title], name) for name in systems)] for title in titles]
    if together:
        chosen = [f"{product}, with depth" for product in together]
        count = "the four" if len(together) == 4 else f"{len(together)}"
        rows.append([f"mean of {count}", *(mean_of(runs, chosen, name) for name in systems)])
    return {
        "conditions": f"{METRICS}, means of the seeds.",
        "columns": ["product", *systems],
        "rows": rows,
        "bold_rows": [len(rows) - 1] if together else [],
    }


def mean_of(runs: Sequence[Run], titles: Sequence[str], system: str) -> list[float] | None:
    """Mean metrics of a system over products and seeds; None without a run."""
    own = [run.metrics for run in runs if run.system == system and run.title in titles]
    return [fmean(column) for column in zip(*own, strict=True)] if own else None


def by_group(runs: Sequence[Run], together: Sequence[str]) -> dict[str, Any]:
    """A table with a row per group of synthetic defects."""
    systems = [name for name in NAMES.values() if any(run.system == name for run in runs)]
    rows = []
    for group in GROUPS:
        chosen = [run for run in runs if group == "logical" or run.product in together]
        values = [
            [run.groups[group] for run in chosen if run.system == name and group in run.groups]
            for name in systems
        ]
        rows.append([group, *(fmean(own) if own else None for own in values)])
    return {
        "conditions": (
            f"I-AUROC in percent by what a synthetic defect changes, over {', '.join(together)} and"
            " the seeds; logical defects over every product that has some."
        ),
        "columns": ["synthetic defects", *systems],
        "rows": rows,
    }


def main() -> None:
    """Write the three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of `trainer benchmark`")
    parser.add_argument("--together", default="", help="products, separated by commas")
    arguments = parser.parse_args()
    runs, together = read_runs(arguments.out), [n for n in arguments.together.split(",") if n]
    write_entry("benchmark.json", "means", {**how(), **means(runs, together)})
    write_entry("benchmark.json", "groups", {**how(), **by_group(runs, together)})
    write_entry("benchmark.json", "runs", {**how(), **every_run(runs)})


if __name__ == "__main__":
    main()
