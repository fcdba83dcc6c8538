"""Judge a test set with a trained run, through the same deployed graph as the device's, one image at a time.

Writes evaluate.json (figures), evaluation.npz (scores and maps) and report.html into the run folder.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import OperatingPoint
from edge.errors import DataError
from edge.files import write_atomically, write_json
from edge.frames.dataset import Dataset, Sample
from edge.frames.images import read_color
from edge.proof.threshold import percent_of
from trainer.data.normal import prepare
from trainer.data.scene import crop_frame
from trainer.metrics import Figures, figures
from trainer.operating import REAL, DefectScores, Outlier, suggestion
from trainer.report import Choice, Claim, KnownDefect, Report, write_report
from trainer.run import RunInfo, TrainedRun, read_curves
from trainer.synthetic.defects import Group

Runner = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[np.float32]]]
"""Graph inputs by name -> outputs by name: torch's deployed graph, or an engine of some precision."""

GROUPS: tuple[str, ...] = get_args(Group)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a run says of a test set.

    names, defects: of the n images. labels: (n,) True = defective. scores: (n,) float32 raw. maps: (n, h, w) float32
    raw.
    truths: masks (H, W) of the crop, all False for a good part, None where nobody drew one. threshold: of the run.
    rows: figures per defect type against all good parts, the row "all" last. groups: per group of drawn defects.
    """

    names: list[str]
    defects: list[str]
    labels: NDArray[np.bool_]
    scores: NDArray[np.float32]
    maps: NDArray[np.float32]
    truths: list[NDArray[np.bool_] | None]
    threshold: float
    rows: list[Figures]
    groups: list[Figures]

    @property
    def overall(self) -> Figures:
        """The row of all images."""
        return self.rows[-1]


def evaluate_run(run: TrainedRun, dataset: Dataset, runner: Runner | None = None) -> Evaluation:
    """Judge every test image.

    Runner: None is float32 torch. Raises: DataError if there are no good or no defective test images.
    """
    samples = dataset.split("test") or [
        sample for sample in dataset.samples if sample.name not in {*run.info.train, *run.info.validation}
    ]
    labels = np.array([sample.is_defective for sample in samples], bool)
    if labels.all() or not labels.any():
        raise DataError(
            f"{dataset.root} has {int((~labels).sum())} good and {int(labels.sum())} defective test images: "
            "both are needed"
        )
    run_graph = runner or run.deployed.run
    outputs = [run_graph(run.feeds(sample)) for sample in samples]
    scores = np.array([float(out["score"].reshape(-1)[0]) for out in outputs], np.float32)
    maps = np.stack([out["map"][0, 0] for out in outputs]).astype(np.float32)
    truths = [_truth(run, sample) for sample in samples]
    defects = [sample.defect or "good" for sample in samples]
    names = [sample.name for sample in samples]
    groups = {drawn.name: drawn.group for drawn in known_defects(dataset.root)}
    return Evaluation(
        names,
        defects,
        labels,
        scores,
        maps,
        truths,
        run.info.threshold.value,
        _rows(defects, labels, scores, maps, truths),
        _groups([groups.get(name, "") for name in names], labels, scores, maps, truths),
    )


def operating_points_of(info: RunInfo, evaluation: Evaluation) -> tuple[list[OperatingPoint], str | None]:
    """The run's operating points with the defective parts of this test set, and what these would suggest."""
    found = tuple(float(score) for score in evaluation.scores[evaluation.labels])
    points = info.operating_points(DefectScores(kind="real", groups={REAL: found}))
    return points, suggestion(points, info.threshold.rank, evaluation.scores[~evaluation.labels])


def _truth(run: TrainedRun, sample: Sample) -> NDArray[np.bool_] | None:
    mask = sample.load_mask()
    x, y, width, height = run.info.crop
    return None if mask is None else mask[y : y + height, x : x + width]


def _subset(
    name: str,
    chosen: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    scores: NDArray[np.float32],
    maps: NDArray[np.float32],
    truths: Sequence[NDArray[np.bool_] | None],
) -> Figures:
    numbers = np.flatnonzero(chosen).tolist()
    return figures(name, labels[numbers], scores[numbers], [maps[i] for i in numbers], [truths[i] for i in numbers])


def _rows(
    defects: Sequence[str],
    labels: NDArray[np.bool_],
    scores: NDArray[np.float32],
    maps: NDArray[np.float32],
    truths: Sequence[NDArray[np.bool_] | None],
) -> list[Figures]:
    """One row per defect type, each with all good parts, and "all"."""
    kinds = np.array(defects)
    types = sorted({kind for kind, label in zip(defects, labels, strict=True) if label})
    rows = [_subset(kind, (kinds == kind) | ~labels, labels, scores, maps, truths) for kind in types]
    return [*rows, _subset("all", np.ones(len(labels), bool), labels, scores, maps, truths)]


def _groups(
    groups: Sequence[str],
    labels: NDArray[np.bool_],
    scores: NDArray[np.float32],
    maps: NDArray[np.float32],
    truths: Sequence[NDArray[np.bool_] | None],
) -> list[Figures]:
    """One row per group of drawn defects that occurs."""
    named = np.array(groups)
    return [
        _subset(group, (named == group) | ~labels, labels, scores, maps, truths)
        for group in GROUPS
        if (named[labels] == group).any()
    ]


def known_defects(root: Path) -> list[KnownDefect]:
    """defects.json of a synthetic product; empty elsewhere. Raises: DataError if it is damaged."""
    path = root / "defects.json"
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [
            KnownDefect(entry["name"], entry["group"], entry["defect"], entry["area_share"], entry.get("height_sigma"))
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not what `trainer synthesize` writes ({error}): make the product again") from error


def last_line(overall: Figures) -> str:
    """The line that ends `trainer evaluate`, in percent."""
    image, pixel, region = (100 * value for value in (overall.image_auroc, overall.pixel_auroc, overall.aupro_30))
    return f"mean I-AUROC {image:.1f} P-AUROC {pixel:.1f} AUPRO {region:.1f}"


def write_evaluation(run: TrainedRun, dataset: Dataset, evaluation: Evaluation) -> None:
    """Write evaluate.json, evaluation.npz and report.html into the run folder."""
    rejected = evaluation.scores > np.float32(evaluation.threshold)
    summary = {
        "run": run.info.model_dump(mode="json", include={"system", "preset", "product", "seed", "with_depth", "top_k"}),
        "data": str(dataset.root),
        "threshold": evaluation.threshold,
        "good_rejected": int(rejected[~evaluation.labels].sum()),
        "defective_accepted": int((~rejected[evaluation.labels]).sum()),
        "operating_points": [
            point.model_dump(mode="json") for point in operating_points_of(run.info, evaluation)[0]
        ],
        "rows": [_plain(row) for row in evaluation.rows],
        "groups": [_plain(row) for row in evaluation.groups],
        "images": [
            {"name": name, "defect": defect, "score": float(score)}
            for name, defect, score in zip(evaluation.names, evaluation.defects, evaluation.scores, strict=True)
        ],
    }
    write_json(run.folder / "evaluate.json", summary)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(evaluation.names),
        defects=np.array(evaluation.defects),
        labels=evaluation.labels,
        scores=evaluation.scores,
        maps=evaluation.maps,
        threshold=np.float32(evaluation.threshold),
    )
    write_atomically(run.folder / "evaluation.npz", buffer.getvalue())
    write_report(run.folder / "report.html", _report(run, dataset, evaluation))


def _plain(row: Figures) -> dict[str, Any]:
    """For JSON, which knows no NaN."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(row).items()
    }


def _report(run: TrainedRun, dataset: Dataset, evaluation: Evaluation) -> Report:
    by_name = {sample.name: sample for sample in dataset.samples}
    samples = [by_name[name] for name in evaluation.names]
    info = run.info

    def height(number: int) -> NDArray[np.float32]:
        prepared = prepare(run.deployed.preprocess, run.feeds(samples[number]))
        assert prepared.height is not None  # only asked for with depth
        values: NDArray[np.float32] = prepared.height[0, 0].numpy()
        return values

    points, suggested = operating_points_of(info, evaluation)
    rank, parts = info.threshold.rank, info.threshold.parts
    parameters = {
        "data": info.data,
        "seed": str(info.seed),
        "trained on": f"{len(info.train)} normal parts",
        "false rejects": f"{percent_of(info.false_rejects)} asked for: rank {rank} of {parts} normal scores",
        "threshold": f"{info.threshold.value:.6g}: {info.threshold.guarantee}",
        "top k": f"{info.top_k:.1%} ({info.top_k_why})",
        "depth": f"plane fitted, lift {1000 * info.lift:.2f} mm" if info.lift is not None else "not used: color only",
        "training time": f"{info.train_seconds:.0f} s",
        "packages": ", ".join(f"{k} {v}" for k, v in info.packages.items()),
    }
    return Report(
        product=info.product,
        system=info.system,
        preset=info.preset,
        names=evaluation.names,
        defects=evaluation.defects,
        labels=evaluation.labels,
        scores=evaluation.scores,
        maps=list(evaluation.maps),
        truths=evaluation.truths,
        threshold=evaluation.threshold,
        image=lambda number: crop_frame(samples[number].load(), info.crop).color,
        rows=evaluation.rows,
        height=height if info.with_depth else None,
        groups=evaluation.groups,
        curves=read_curves(run.folder),
        drawn=known_defects(dataset.root),
        parameters=parameters,
        claims=[
            Claim(
                "float32 scores and maps of this page",
                "ran on a stand-in",
                "torch on a workstation CPU, not the device's engine",
            )
        ],
        choice=Choice(info.threshold.guarantee, points, rank, suggested, _outlier_pictures(run)),
    )


def _outlier_pictures(run: TrainedRun) -> list[tuple[Outlier, NDArray[np.uint8] | None]]:
    """Of the run's outliers, as the training drew them."""
    files = [(outlier, run.folder / outlier.picture) for outlier in run.info.outliers()]
    return [(outlier, read_color(file) if file.is_file() else None) for outlier, file in files]
