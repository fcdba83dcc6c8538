"""From an evaluation to what report.html shows of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.frames.images import read_color
from edge.proof.threshold import percent_of
from trainer.data.normal import prepare
from trainer.evaluate.evaluation import Evaluation
from trainer.evaluate.images import JudgedImage
from trainer.evaluate.judged import Judged
from trainer.evaluate.known_defects import known_defects
from trainer.evaluate.operating import operating_points_of
from trainer.evaluate.report import Choice, Claim, Occasion, Report, ReportedImage
from trainer.train.outliers import Outlier
from trainer.train.run_info import RunInfo
from trainer.train.suspects import Suspect
from trainer.train.trained_run import TrainedRun, read_curves


def report_of(run: TrainedRun, judged: Judged, evaluation: Evaluation, when: Occasion) -> Report:
    """Everything report.html shows of an evaluation."""
    info = run.info
    points, suggested = operating_points_of(info, judged, evaluation)
    return Report(
        product=info.product,
        system=info.system,
        preset=info.preset,
        images=[_reported(run, image, evaluation.reasons(image)) for image in evaluation.images],
        threshold=evaluation.threshold,
        rows=evaluation.rows,
        is_synthetic=evaluation.is_good_only,
        groups=evaluation.groups,
        curves=read_curves(run.folder),
        known=known_defects(judged.dataset.root),
        parameters=_parameters(info, judged, when),
        claims=[
            Claim(
                "float32 scores and maps of this page",
                "ran on a stand-in",
                "torch on a workstation CPU, not the device's engine",
            )
        ],
        choice=Choice(
            info.threshold.guarantee, points, info.threshold.rank, suggested, _outlier_pictures(run)
        ),
        occasion=when,
        notes=evaluation.notes,
        suspects=_suspect_pictures(run),
        judgments=evaluation.judgments,
    )


def _reported(run: TrainedRun, image: JudgedImage, reasons: Sequence[str]) -> ReportedImage:
    """An image as the report takes it; its pixels are read again when they are asked for."""

    def color() -> NDArray[np.uint8]:
        return np.asarray(image.shown.inputs(run)[0]["color"][0], np.uint8)

    def height() -> NDArray[np.float32]:
        inputs = image.shown.inputs(run)[0]
        prepared = prepare(run.deployed.preprocess, inputs, posed=False)
        assert prepared.height is not None  # asked for only with depth
        values: NDArray[np.float32] = prepared.height[0, 0].numpy()
        return values

    return ReportedImage(
        image.name,
        image.defect,
        image.is_defective,
        image.score,
        image.map,
        image.truth,
        color,
        height if run.info.with_depth else None,
        reasons,
    )


def _parameters(info: RunInfo, judged: Judged, when: Occasion) -> dict[str, str]:
    rank, parts = info.threshold.rank, info.threshold.parts
    return {
        "run": when.run,
        "judged": when.data,
        **({"defective images from": str(judged.defects)} if judged.defects else {}),
        "date": when.date,
        "command": when.command,
        "trained on": f"{len(info.train)} normal parts of {info.data}, {info.created_at}",
        "images": _images_are(info),
        "depth": (
            f"plane fitted, height threshold {1000 * info.lift:.2f} mm"
            if info.lift is not None
            else "not used: color only"
        ),
        "seed": str(info.seed),
        "false rejects": (
            f"{percent_of(info.false_rejects)} asked for: rank {rank} of {parts} normal scores"
        ),
        "threshold": f"{info.threshold.value:.6g}. {info.threshold.guarantee}",
        "top k": f"{info.top_k:.1%} ({info.top_k_why})",
        "training time": f"{info.train_seconds:.0f} s",
        "packages": ", ".join(f"{name} {version}" for name, version in info.packages.items()),
    }


def _images_are(info: RunInfo) -> str:
    """How the files were read."""
    size = f"{info.camera.width}x{info.camera.height} pixels"
    if info.size is not None:
        size = f"every image letterboxed to {info.size[0]}x{info.size[1]}"
    return (
        size
        if info.color_bits is None
        else f"{size}; of 16-bit color {info.color_bits} bits hold the values"
    )


def _outlier_pictures(run: TrainedRun) -> Sequence[tuple[Outlier, NDArray[np.uint8] | None]]:
    """Of the run's outliers, as the training drew them."""
    files = [(outlier, run.folder / outlier.picture) for outlier in run.info.outliers()]
    return [(outlier, read_color(file) if file.is_file() else None) for outlier, file in files]


def _suspect_pictures(run: TrainedRun) -> Sequence[tuple[Suspect, NDArray[np.uint8] | None]]:
    """Of the run's suspects, as the training drew them."""
    files = [(suspect, run.folder / suspect.picture) for suspect in run.info.suspects]
    return [(suspect, read_color(file) if file.is_file() else None) for suspect, file in files]
