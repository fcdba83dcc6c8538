"""How few good parts are enough: every system trained on the first 5, 10, 20 and 40 of a product,
and on all of them: what it then finds, what it rejects, and what its threshold promises.

    python tests/benchmarks/few_images.py PRODUCT --work FOLDER \\
        [--counts 5,10,20,40,all] [--systems NAMES] [--write]

PRODUCT is one of `trainer synthesize`, or any in the layout of MVTec 3D-AD. For each count a
product with so many good parts in train/good is made in FOLDER/products, without a validation
folder: the trainer holds a fifth of them back, as it does with any folder of photos. Test images
and the files beside them stay; `all` is the product as it is. `trainer campaign` trains and
evaluates each system once on each of them, in the order of --counts, with the runner local:1, one
thread and one seed. A FOLDER that holds some of the jobs already goes on with the others; what is
printed and written is all that it holds of the product. With --write the table goes to
docs/figures/few_images.json, as the entry of the product's name.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.benchmark_runs import NAMES
from tests.benchmarks.figures import how, write_entry
from trainer.runner.work import DONE

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEMS = ("m3dm", "mats", "vmpfd", "aand", "ntsnet")  # the fastest first
ALL = "all"  # the product as it is
COUNTS = ("5", "10", "20", "40", ALL)
SEED = 0
COLUMNS = [
    "product",
    "system",
    {"title": "good parts shown", "digits": 0},
    {"title": "of them validation", "digits": 0},
    {"title": "I-AUROC", "digits": 1},
    {"title": "AUPRO 0.3", "digits": 1},
    "good test parts rejected",
    "defective test parts found",
    {"title": "promised: rejected at most", "digits": 1, "suffix": " %"},
]
CONDITIONS = (
    "I-AUROC and AUPRO in percent. Compact preset, with depth, CPU, **one seed and one choice of"
    " parts**: the first ones, so that the fewer are among the more. Without a validation folder a"
    " fifth of the parts is held back for the threshold. Rejected and found: test parts, at the"
    " threshold that the run has set. Promised: the share of good parts that it rejects at most,"
    " with `95 %` confidence."
)


def make_products(product: Path, folder: Path, counts: Sequence[str]) -> list[Path]:
    """The product with its first good parts, so many as each count says; what is there already
    stays.

    Raises: SystemExit if it has not so many.
    """
    parts = sorted(file.stem for file in (product / "train" / "good" / "rgb").iterdir())
    made = []
    for count in counts:
        if count != ALL and int(count) > len(parts):
            raise SystemExit(f"{product} has {len(parts)} parts to train on: choose other --counts")
        names = None if count == ALL else set(parts[: int(count)])
        made.append(_copied(product, folder / f"{product.name}-{count}", names))
    return made


def _copied(product: Path, target: Path, names: set[str] | None) -> Path:
    """names: of the good parts that train; None takes all, and the validation folder."""
    if target.is_dir():
        return target

    def left_out(place: str, found: list[str]) -> list[str]:
        if names is None:
            return []
        if Path(place) == product:
            return [name for name in found if name == "validation"]
        inside = Path(place).is_relative_to(product / "train" / "good")
        return [name for name in found if inside and "." in name and Path(name).stem not in names]

    partial = target.with_name(f"{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(product, partial, copy_function=_link, ignore=left_out)
    partial.rename(target)
    return target


def _link(source: str, target: str) -> None:
    """A second name of the file where the file system can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def run_campaign(products: Sequence[Path], work: Path, systems: Sequence[str]) -> None:
    """Each system once on each product; what is done already is not repeated."""
    text = (
        f"products = {json.dumps([str(product) for product in products])}\n"
        f"systems = {json.dumps(list(systems))}\nseeds = [{SEED}]\n"
        f"cache = {json.dumps(str(work / 'cache'))}\n"
    )
    file = work / "few.toml"
    file.write_text(text, encoding="utf-8")
    command = ["-m", "trainer", "campaign", str(file), "--out", str(work), "--runner", "local:1"]
    subprocess.run([sys.executable, *command], check=True, cwd=REPOSITORY)


def read_rows(work: Path, product: str) -> list[list[Any]]:
    """Every job of the product that has landed, by system and parts shown."""
    markers = work.glob(f"jobs/{product}-*/*/{DONE}")
    order = list(NAMES.values())
    rows = [row_of(marker.parent / "run", product) for marker in markers]
    return sorted(rows, key=lambda row: (order.index(row[1]), row[2]))


def row_of(folder: Path, product: str) -> list[Any]:
    """Of one run folder."""
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    found = json.loads((folder / "evaluate.json").read_text(encoding="utf-8"))
    overall = found["rows"][-1]
    return [
        product,
        NAMES[info["system"]],
        good_parts(Path(info["data"])),
        info["threshold"]["parts"],
        100 * overall["image_auroc"],
        100 * overall["aupro_30"],
        f"{found['good_rejected']} of {found['good']}",
        f"{found['defective'] - found['defective_accepted']} of {found['defective']}",
        100 * info["threshold"]["bound"],
    ]


def good_parts(product: Path) -> int:
    """How many were shown in training and validation together."""
    return sum(
        len(list((product / split / "good" / "rgb").glob("*"))) for split in ("train", "validation")
    )


def main() -> None:
    """Train what is missing, print all rows, and with --write put them into the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("product", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--counts", default=",".join(COUNTS))
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    product, work = asked.product.resolve(), asked.work.resolve()
    (work / "products").mkdir(parents=True, exist_ok=True)
    products = make_products(product, work / "products", asked.counts.split(","))
    run_campaign(products, work, asked.systems.split(","))
    rows = read_rows(work, product.name)
    for row in rows:
        print(*row)
    if asked.write:
        entry = {"conditions": CONDITIONS, "columns": COLUMNS, "rows": rows}
        write_entry("few_images.json", product.name, {**how(), **entry})


if __name__ == "__main__":
    main()
