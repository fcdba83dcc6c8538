"""What calibration with a few normal parts wins back when the scene of a product has changed since
its training, beside no calibration and a new training.

    trainer synthesize parts --products washer --seed 0
    trainer train mats parts/washer --out runs/mats-washer
    python tests/benchmarks/site.py runs/mats-washer --work work --seed 0
    python tests/benchmarks/site.py --work work --write

For each run and each scene, the same parts are synthesized in it, the plane of its empty table is
calibrated, and all test parts are judged by the exported float32 graph in onnxruntime:

none        by the bundle's threshold
threshold   by a threshold from k normal parts of the scene
adapted     by shift and scale fitted on these k parts, and a threshold from their scores, each
            under what the other k - 1 fit
rows        as adapted, with their features as spare rows, in systems with a memory bank
retrained   by a training on the scene's own parts, as long as the first; --no-retrain: not

The k parts are drawn --draws times from the scene's training and validation parts, which no test
part is among. Every scene that is done is kept in the work folder, and skipped when the command is
repeated. --write puts the tables of all runs in the work folder into docs/figures/site.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from calibration.adapt import features_of, find_adaptable
from calibration.plane import fit_plane_to_frames
from calibration.site_threshold import TrainerScores, site_threshold
from edge.bundle.archive import open_bundle
from edge.bundle.key_files import generate_key, read_public_key
from edge.bundle.manifest import MANIFEST, Manifest, parse_manifest
from edge.decide.verdict import DecisionRule
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.engine.protocol import outputs_of
from edge.errors import DataError
from edge.files import write_json
from edge.frames.dataset import Dataset, open_dataset
from edge.proof.threshold import expected_rate, rank_for
from edge.runtime.pipeline import site_state
from edge.types import Frame, Geometry, Reason
from tests.benchmarks.benchmark_runs import NAMES
from tests.benchmarks.figures import how, write_entry
from tests.benchmarks.site_counts import (
    MAIN,
    Answers,
    Outcome,
    Row,
    Table,
    Way,
    answers_at,
    draws_of,
    outcome_of,
)
from trainer.export.bundle import export_bundle
from trainer.export.request import ExportRequest
from trainer.synthetic.products.stations import open_station
from trainer.synthetic.products.write import Amounts, write_product
from trainer.synthetic.scene_change import UNCHANGED, parse_scene
from trainer.train.options import TrainOptions
from trainer.train.outliers import find_named_outliers
from trainer.train.run_info import RunInfo, read_info
from trainer.train.trained_run import load_run
from trainer.train.training import train

FILE, ROWS = "site.json", "rows.json"
SCENES = {  # name in the tables -> --scene of `trainer synthesize`; "": as in training
    "unchanged": "",
    "light direction": "light=40",
    "lower lamp": "elevation=-8",
    "brightness": "exposure=1.3",
    "white balance": "white_balance=5600",
    "gain": "gain=4,exposure=0.25",
    "distance": "distance=1.05",
    "lens": "distortion=-0.03,focal=1.02",
    "depth noise": "depth_noise=2",
    "table": "table=1",
    "all": "all",
}
SHOWN = (3, 5, 10, 20)
TEST, PER_DEFECT = 60, 5  # parts that are judged in each scene
Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Parts:
    """The crops of a scene's images. shown: normal parts that are none of the test parts.

    defective: (n,) bool, of `tested`.
    """

    geometry: Geometry
    shown: list[Frame]
    tested: list[Frame]
    defective: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judge:
    """The exported graph, and how a station with this geometry judges with it."""

    engine: OnnxCpuEngine
    manifest: Manifest
    geometry: Geometry

    def outputs(self, window: Frame, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """Of one crop under these site inputs."""
        feeds = {**window.tensors(), **site_state(self.manifest, self.geometry, tensors).tensors}
        return self.engine.run({name: feeds[name] for name in self.engine.inputs})

    def score(self, window: Frame, tensors: Tensors) -> tuple[np.float32, bool]:
        """The score, and whether the part is judged at all: whole, alone and with enough depth."""
        return judged(self.manifest.camera, self.outputs(window, tensors))

    def answers(self, parts: Parts, tensors: Tensors) -> partial[Answers]:
        """Of all test parts; to be called with a threshold."""
        found = [self.score(window, tensors) for window in parts.tested]
        return partial(answers_at, found, parts.defective)


def main() -> None:
    """Measure the runs named, or write the tables of all that were measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="*", help="run folders of synthetic products")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--scenes", default=",".join(SCENES), help="names, separated by commas")
    parser.add_argument("--seed", type=int, default=0, help="of `trainer synthesize`, of the runs")
    parser.add_argument("--parts", default=",".join(map(str, SHOWN)), help="numbers of parts shown")
    parser.add_argument("--draws", type=int, default=3, help="draws of the parts shown")
    parser.add_argument("--epochs", type=int, help="of retraining; default: as the run's")
    parser.add_argument("--device", default="cpu", help="of retraining")
    parser.add_argument("--pretrained", type=Path, help="encoder that the runs were trained with")
    parser.add_argument("--no-retrain", action="store_true", help="leave out the new training")
    parser.add_argument("--test", type=int, default=TEST, help="good test parts")
    parser.add_argument("--per-defect", type=int, default=PER_DEFECT, help="of each defect")
    parser.add_argument("--write", action="store_true", help="write the tables")
    arguments = parser.parse_args()
    for run in arguments.runs:
        for name in (name.strip() for name in arguments.scenes.split(",")):
            measure(run, name, arguments)
    if arguments.write:
        write_tables(arguments.work)


def measure(run: Path, scene: str, arguments: argparse.Namespace) -> None:
    """Every way of judging one run's product in one scene, unless that is done already."""
    folder = arguments.work / "measured" / run.resolve().name / scene.replace(" ", "-")
    if (folder / ROWS).is_file():
        return
    started_s, info = time.monotonic(), read_info(run)
    amounts = Amounts(
        len(info.train), len(info.validation), arguments.test, arguments.per_defect, belt=0
    )
    product = scene_of(info, scene, arguments.seed, amounts, arguments.work / "scenes")
    manifest, graph = exported(run, info, arguments.work / "bundles" / run.resolve().name)
    parts = parts_of(open_dataset(product), manifest)
    engine = OnnxCpuEngine(graph)
    counts = [int(count) for count in arguments.parts.split(",")]
    found = list(ways(Judge(engine, manifest, parts.geometry), parts, counts, arguments.draws))
    engine.close()
    if not arguments.no_retrain:
        found.append(("retrained", 0, retrained(info, product, folder / "retrained", arguments)))
    rows = [Row(NAMES[info.system], info.product, scene, *one) for one in found]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ROWS, [row.plain() for row in rows])
    print(f"{run.name}, {scene}: {time.monotonic() - started_s:.0f} s", flush=True)
    for row in rows:
        one = row.outcome
        print(
            f"  {row.way:<10} {row.parts:>3}  I-AUROC {100 * one.auroc:5.1f}  rejected"
            f" {one.false_rejects:6.1%}  missed {one.misses:6.1%}"
        )


def scene_of(info: RunInfo, scene: str, seed: int, amounts: Amounts, scenes: Path) -> Path:
    """The run's product in a scene, synthesized unless it is there.

    Raises: DataError if the run's product is not the one of this seed.
    """
    folder = scenes / scene.replace(" ", "-") / info.product
    if not (folder / "camera.json").is_file():
        require_seed(info, seed)
        change = parse_scene(SCENES[scene]) if SCENES[scene] else UNCHANGED
        for done in write_product(info.product, folder, amounts, seed, change):
            print(f"  {scene}: {done}", flush=True)
    return folder


def require_seed(info: RunInfo, seed: int) -> None:
    """Raises: DataError if this seed draws other parts than those that the run was trained on."""
    station = open_station(info.product, seed)
    rng = station.random("train", 0)
    color, _ = station.capture(station.part(rng), rng)
    first = open_dataset(Path(info.data)).split("train")[0]
    if not np.array_equal(first.load().color, color):
        raise DataError(f"{info.data} was not made with --seed {seed}: name the seed that it has")


def exported(run: Path, info: RunInfo, folder: Path) -> tuple[Manifest, Path]:
    """Manifest and float32 graph of the run's bundle, exported unless that is done. An outlier
    among the normal parts is kept: synthetic products have none that is not normal.
    """
    unpacked = folder / "unpacked"
    if not (unpacked / MANIFEST).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.mkdir(parents=True)
        private, public = generate_key(folder / "line")
        path = folder / "one.bundle"
        outliers = find_named_outliers(info.validation, info.normal_scores)
        kept = tuple(outlier.name for outlier in outliers)
        request = ExportRequest(run, info.product, "1.0.0", (), private, path, kept=kept)
        export_bundle(request, print)
        with open_bundle(path, [read_public_key(public)]) as bundle:
            bundle.extract(unpacked)
    return parse_manifest((unpacked / MANIFEST).read_bytes()), unpacked / "model" / "fp32.onnx"


def parts_of(dataset: Dataset, manifest: Manifest) -> Parts:
    """The scene's images, and its plane as `edge calibrate plane` fits it."""
    contract = manifest.camera
    crop = (contract.crop_x, contract.crop_y, contract.crop_width, contract.crop_height)
    empty = open_dataset(dataset.root / "station" / "empty").samples
    plane = fit_plane_to_frames([sample.load().cropped(*crop) for sample in empty]).plane
    normal = [*dataset.split("validation"), *dataset.split("train")]
    test = dataset.split("test")
    return Parts(
        Geometry(plane, contract.crop_x, contract.crop_y),
        [sample.load().cropped(*crop) for sample in normal],
        [sample.load().cropped(*crop) for sample in test],
        np.array([sample.is_defective for sample in test], bool),
    )


def ways(
    judge: Judge, parts: Parts, counts: Sequence[int], draws: int
) -> Iterator[tuple[Way, int, Outcome]]:
    """Every way of judging without a new training: its name, how many parts it was shown, and what
    it does. counts: of parts shown.
    """
    threshold = judge.manifest.thresholds["fp32"]
    trainer = TrainerScores.of(judge.manifest.normal_scores["fp32"])
    known = find_adaptable(judge.manifest)
    neutral = judge.answers(parts, {})
    yield "none", 0, outcome_of([neutral(threshold.value)], threshold.expected)
    outputs = [judge.outputs(window, {}) for window in parts.shown]
    scores = np.array([one["score"].item() for one in outputs], np.float32)
    adapting: dict[Way, Any] = {}
    if known is not None:
        adapting["adapted"] = replace(known, spare=0)
        features = [features_of([one], known.spare > 0) for one in outputs]
        if known.spare:
            adapting["rows"] = known
    del outputs
    for count in (count for count in counts if count <= len(parts.shown)):
        drawn = draws_of(len(parts.shown), count, draws)
        rank = rank_for(count, threshold.false_rejects)
        promised = expected_rate(count, rank)
        values = [site_threshold(scores[own], trainer, threshold.false_rejects) for own in drawn]
        yield "threshold", count, outcome_of([neutral(one.value) for one in values], promised)
        for way, adaptable in adapting.items():
            found = []
            for own in drawn:
                fitted = [features[number] for number in own]
                left_out = zip(own, adaptable.left_out(fitted), strict=True)
                honest = [judge.score(parts.shown[i], tensors)[0] for i, tensors in left_out]
                site = site_threshold(honest, trainer, threshold.false_rejects)
                found.append(judge.answers(parts, adaptable.fit(fitted))(site.value))
            yield way, count, outcome_of(found, promised)


def judged(contract: Any, outputs: Mapping[str, NDArray[Any]]) -> tuple[np.float32, bool]:
    """The score, and whether the rule judges the part. contract: what has the limits of a part."""
    limits = contract.min_area, contract.max_area, contract.min_valid, contract.max_border
    judgment = DecisionRule(np.float32(0), *limits).judge(outputs_of(outputs))
    score = np.float32(outputs["score"].item())
    return score, judgment.reason in (Reason.NORMAL, Reason.ANOMALY)


def retrained(info: RunInfo, product: Path, run: Path, arguments: argparse.Namespace) -> Outcome:
    """Of a training on the scene's own parts, with the first one's settings."""
    if not (run / "run.json").is_file():
        options = TrainOptions(
            preset=info.preset,
            epochs=arguments.epochs or info.epochs,
            seed=info.seed,
            with_depth=info.with_depth,
            device=arguments.device,
            switches=info.switches,
            pretrained=arguments.pretrained,
            backbone=info.backbone,
            false_rejects=info.false_rejects,
        )
        train(info.system, product, run, options)
    trained = load_run(run)
    test = open_dataset(product).split("test")
    found = [judged(trained.info, trained.deployed.run(trained.feeds(one))) for one in test]
    defective = np.array([sample.is_defective for sample in test], bool)
    own = trained.info.threshold
    return outcome_of([answers_at(found, defective, own.value)], own.expected)


def conditions(table: Table) -> str:
    """What the tables rest on, in sentences."""
    rows = table.rows
    products = ", ".join(sorted({row.product for row in rows}))
    single = next(row.outcome for row in rows if row.way == "none")
    drawn = next(row.outcome for row in rows if row.way == "threshold")
    return (
        f"Products: {products}; {single.good} good and {single.defective} defective test parts of"
        f" each in each scene, the normal parts shown drawn {drawn.good // single.good} times."
        " Percent, over products and draws. Not calibrated: by the bundle's threshold, the plane of"
        f" the empty table measured anew, as in all columns. Columns without a number: {MAIN}"
        " parts. Promised: rate of false rejects on average, by the rank of the threshold. Goal:"
        " with ten parts 95 of 100 of what retraining recovers of I-AUROC, and at most twice the"
        " promised rate of false rejects. By the number of parts: the scenes"
        f" {', '.join(table.compared())} together."
    )


def write_tables(work: Path) -> None:
    """The tables of every scene that was measured, into docs/figures."""
    files = sorted((work / "measured").glob(f"*/*/{ROWS}"))
    rows = [Row.read(plain) for file in files for plain in json.loads(file.read_text())]
    order = list(SCENES)
    table = Table(sorted(rows, key=lambda row: (row.system, order.index(row.scene), row.product)))
    about = conditions(table)
    for name, (columns, lines) in (
        ("ranking", table.ranking()),
        ("verdicts", table.verdicts()),
        ("parts", table.by_parts()),
    ):
        entry = {**how(), "conditions": about, "columns": columns, "rows": lines}
        write_entry(FILE, name, entry)


if __name__ == "__main__":
    main()
