"""What every precision decides on parts that nothing was chosen on: good ones rejected and
defective ones missed.

    python tests/benchmarks/precisions.py --runs runs --new new --work work

runs: run folders of `trainer train` and `trainer evaluate`. new: the same products with more test
parts, drawn by `trainer synthesize new --test 120 --per-defect 9` with the seed that the runs'
products have; images that the runs' products hold too are left out. Each run is exported, installed
into a station of its own, its plane calibrated on the product's empty table, and every new part
judged by every precision of the bundle with the threshold that the station
measured: what a user gets from `trainer export`, `edge install` and `edge inspect --precision`. An
outlier among the normal parts is kept: synthetic products have none that is not normal. Writes
docs/figures/precisions.json, and carries on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from calibration.plane import fit_plane_to_frames
from edge.bundle.key_files import generate_key
from edge.frames.dataset import open_dataset
from edge.install.install import install_bundle
from edge.runtime.inspection import View, judge_view, opened_active
from edge.station.store import Store
from edge.station.trust import trust
from edge.types import Code, Geometry
from tests.benchmarks.figures import FIGURES, how, write_entry
from trainer.data.scene import crop_frame
from trainer.export.bundle import export_bundle
from trainer.export.request import ExportRequest
from trainer.train.outliers import find_named_outliers
from trainer.train.trained_run import load_run

FILE = "precisions.json"


def measure(run_folder: Path, new: Path, work: Path) -> dict[str, Any]:
    """Export, install, calibrate and judge the new parts of one run; counts per precision."""
    info = load_run(run_folder).info
    root = work / run_folder.name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    private, public = generate_key(root / "line")
    kept = tuple(
        outlier.name for outlier in find_named_outliers(info.validation, info.normal_scores)
    )
    bundle = root / "one.bundle"
    done = export_bundle(
        ExportRequest(
            run_folder, info.product, "1.0.0", ("fp16", "int8"), private, bundle, kept=kept
        ),
        print,
    )
    store = Store(root / "station")
    trust(store, public)
    for line in install_bundle(bundle, store.root).lines():
        print(line)
    calibrate(store, Path(info.data), info.crop)
    sections = {section.precision: section for section in done.certificate.sections}
    result: dict[str, Any] = {
        "product": info.product,
        "system": info.system,
        "epochs": info.epochs,
        "precisions": {},
    }
    for precision, section in sections.items():
        entry: dict[str, Any] = {
            "noise": round(section.noise.rms, 4),
            "int8_macs": round(section.macs.int8, 4),
            "passed": section.passed,
            "reasons": list(section.reasons),
        }
        if section.passed:
            entry |= judged(store.root, new / info.product, Path(info.data), precision)
        result["precisions"][precision] = entry
    shutil.rmtree(root)
    return result


def calibrate(store: Store, product: Path, crop: tuple[int, int, int, int]) -> None:
    """The plane of the product's empty table, as `edge calibrate plane` fits it."""
    samples = open_dataset(product / "station" / "empty").samples
    frames = [sample.load() for sample in samples[:30]]
    fit = fit_plane_to_frames([crop_frame(frame, crop) for frame in frames])
    serial = frames[0].serial
    geometry = Geometry(fit.plane, crop[0], crop[1])
    store.save_geometry(
        store.active_product() or "", serial, geometry, frames[0].intrinsics, len(frames), fit.rms_m
    )


def judged(root: Path, new: Path, known: Path, precision: Any) -> dict[str, Any]:
    """Counts of `edge inspect --precision` over the test images of `new` that are not in
    `known`.
    """
    seen = {sample.name for sample in open_dataset(known).samples}
    samples = [sample for sample in open_dataset(new).split("test") if sample.name not in seen]
    with opened_active(root, precision) as station:
        rows = [
            judge_view(View(sample.name, sample.defect, sample.load()), station).row
            for sample in samples
        ]
        threshold = float(station.rule.threshold)
    good = [row for row in rows if row.defect == "good"]
    bad = [row for row in rows if row.defect != "good"]
    return {
        "threshold": threshold,
        "good": len(good),
        "rejected": sum(row.code is not Code.OK for row in good),
        "unknown": sum(row.code is Code.UNKNOWN for row in rows),
        "defective": len(bad),
        "missed": sum(row.code is Code.OK for row in bad),
    }


def main() -> None:
    """Measure the runs that are not in the file yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--new", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("work"))
    options = parser.parse_args()
    entry = json.loads((FIGURES / FILE).read_text(encoding="utf-8"))["verdicts"]
    results = entry["results"]
    known = {(result["product"], result["system"]) for result in results}
    for folder in sorted(path.parent for path in options.runs.glob("*/run.json")):
        info = load_run(folder).info
        if (info.product, info.system) not in known:
            results.append(measure(folder, options.new, options.work))
            results.sort(key=lambda result: (result["system"], result["product"]))
            write_entry(FILE, "verdicts", {**entry, **how(), "results": results})


if __name__ == "__main__":
    main()
