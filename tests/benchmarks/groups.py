"""Every group of defects, per product and system: means over the seeds of what `trainer evaluate`
wrote, beside a PatchCore that sees color alone, with what falls short marked.

    python tests/benchmarks/patchcore.py parts/washer --out patchcore/washer.json
    python tests/benchmarks/groups.py --runs runs/confirm --patchcore patchcore/*.json
    --out docs/figures/groups.json

--runs: folders; every evaluate.json below them counts, one a product, system and seed. A row has
short cells where the mean over the seeds is below 95 percent (I-AUROC, AUPRO 0.3), or below
PatchCore's on the same product. Prints the table and writes it as the entry `groups` of the file,
in the form of docs/figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.write_docs import table_of
from tests.benchmarks.benchmark_runs import NAMES
from tests.benchmarks.figures import how, write_entry

ENTRY = "groups"
METRICS = {
    "I-AUROC": "image_auroc",
    "AUPRO 0.3": "aupro_30",
    "AUPRO 0.05": "aupro_05",
    "AUPRO 0.01": "aupro_01",
}
GOAL = 95.0
WITH_GOAL = ("I-AUROC", "AUPRO 0.3")
COLUMNS = (
    *("product", "system", "group", "seeds"),
    *(title for name in METRICS for title in (name, "lowest", "PatchCore")),
    "short of",
)
CONDITIONS = (
    "Percent. Each group against all good test images; mean over the seeds, then the lowest seed,"
    " then PatchCore's (color only, the same backbone). Short of: the mean is below"
    f" `{GOAL:.0f} %` or below PatchCore's."
)
Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Evaluated:
    """One evaluation. rows: metrics by name of the group, "all" last; shares 0..1. data: the folder
    that was judged.
    """

    product: str
    system: str
    seed: int
    rows: Rows
    data: str
    file: Path

    @property
    def images(self) -> tuple[int, int]:
        """Good and defective ones."""
        return self.rows["all"]["normal"], self.rows["all"]["defective"]


def main() -> None:
    """Print the table, write the entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--patchcore", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True, help="JSON in the form of docs/figures")
    arguments = parser.parse_args()
    runs, patchcore = read_runs(arguments.runs), read_patchcore(arguments.patchcore)
    for note in different_folders(runs, patchcore):
        print(note, file=sys.stderr)
    made = entry_of(runs, patchcore)
    print("\n".join(table_of(made)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_entry(arguments.out.name, ENTRY, {**how(), **made}, arguments.out.parent)


def read_runs(folders: Iterable[Path]) -> list[Evaluated]:
    """Every evaluation below the folders, by product, system and seed.

    Raises: SystemExit if there is none, or two of the same product, system and seed.
    """
    files = sorted({file for folder in folders for file in folder.rglob("evaluate.json")})
    found: dict[tuple[str, str, int], Evaluated] = {}
    for file in files:
        run = _read_run(file)
        key = (run.product, run.system, run.seed)
        if key in found:
            raise SystemExit(
                f"{found[key].file} and {file} are both {run.system}, seed {run.seed}, on"
                f" {run.product}: name folders with one of them"
            )
        found[key] = run
    if not found:
        raise SystemExit("no evaluate.json below --runs: write them with `trainer evaluate`")
    return [found[key] for key in sorted(found, key=_place)]


def read_patchcore(files: Iterable[Path]) -> dict[str, Evaluated]:
    """What tests/benchmarks/patchcore.py wrote, by product."""
    found = {}
    for file in files:
        stored = json.loads(file.read_text(encoding="utf-8"))
        found[stored["product"]] = Evaluated(
            stored["product"],
            stored["system"],
            stored["seed"],
            _rows_of(stored),
            stored["data"],
            file,
        )
    return found


def different_folders(runs: Iterable[Evaluated], patchcore: Mapping[str, Evaluated]) -> list[str]:
    """A sentence for every run whose images lay in another folder than PatchCore's: if they are
    others, the comparison is void.
    """
    return [
        f"{run.file} judged {run.data}, {peer.file} {peer.data}: are these the same images?"
        for run in runs
        if (peer := patchcore.get(run.product)) is not None and peer.data != run.data
    ]


def entry_of(runs: Sequence[Evaluated], patchcore: Mapping[str, Evaluated]) -> dict[str, Any]:
    """The table: a row per product, system and group, "all" last.

    Raises: SystemExit if PatchCore judged another number of images of a product than a run.
    """
    for run in runs:
        peer = patchcore.get(run.product)
        if peer is not None and peer.images != run.images:
            raise SystemExit(
                f"{run.file} judged {run.images} good and defective images, {peer.file}"
                f" {peer.images}: measure both on the same folder"
            )
    rows = []
    for product, system in dict.fromkeys((run.product, run.system) for run in runs):
        own = [run for run in runs if (run.product, run.system) == (product, system)]
        beside: Rows = patchcore[product].rows if product in patchcore else {}
        for group in dict.fromkeys(name for run in own for name in run.rows):
            seeds = [run.rows[group] for run in own if group in run.rows]
            rows.append([product, system, group, len(seeds), *_cells(seeds, beside.get(group, {}))])
    rows.sort(key=lambda row: row[2] == "all")  # stable
    rows.sort(key=lambda row: _place((row[0], row[1], 0)))
    return {"conditions": CONDITIONS, "columns": list(COLUMNS), "rows": rows}


def _cells(seeds: Sequence[Mapping[str, Any]], peer: Mapping[str, Any]) -> list[Any]:
    """Mean, lowest and PatchCore's of every metric, then what the row is short of."""
    cells: list[Any] = []
    short = []
    for name, key in METRICS.items():
        values = [100 * row[key] for row in seeds if row.get(key) is not None]
        mean = fmean(values) if values else None
        other = None if peer.get(key) is None else 100 * peer[key]
        cells += [mean, min(values, default=None), other]
        if mean is None:
            continue
        if name in WITH_GOAL and mean < GOAL:
            short.append(f"{GOAL:.0f} {name}")
        if other is not None and mean < other:
            short.append(f"PatchCore {name}")
    return [*cells, ", ".join(short) or "-"]


def _read_run(file: Path) -> Evaluated:
    summary = json.loads(file.read_text(encoding="utf-8"))
    run = summary["run"]
    system = NAMES.get(run["system"], run["system"])
    title = system if run["with_depth"] else f"{system}, color only"
    data = summary["data"]
    return Evaluated(Path(data).name, title, run["seed"], _rows_of(summary), data, file)


def _rows_of(summary: Mapping[str, Any]) -> Rows:
    """Metrics by group, then of all images; an evaluation without a comparison has no metrics."""
    return {row["name"]: row for row in (*summary["groups"], *summary["rows"][-1:])}


def _place(key: tuple[str, str, int]) -> tuple[str, int, str, int]:
    """Sorts by product, then systems as NAMES lists them, then seed."""
    product, system, seed = key
    order = list(NAMES.values())
    name = system.removesuffix(", color only")
    return product, order.index(name) if name in order else len(order), system, seed


if __name__ == "__main__":
    main()
