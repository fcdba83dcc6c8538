"""What an evaluation leaves: evaluate.json (figures), evaluation.npz (scores and maps),
report.html.

In the run folder for the run's own data, in a folder below it for any other: a run's report is
about its own data.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from edge.files import write_atomically, write_json
from edge.frames.images import read_color
from edge.proof.threshold import percent_of
from trainer.command import command_line
from trainer.data.normal import prepare
from trainer.evaluate.evaluation import Evaluation, known_defects, operating_points_of
from trainer.evaluate.judged import Judged
from trainer.evaluate.report import Choice, Claim, Occasion, Report, write_report
from trainer.metrics import Figures
from trainer.train.outliers import Outlier
from trainer.train.run_folder import ARRAYS, REPORT, SUMMARY, evaluation_folder
from trainer.train.run_info import RunInfo
from trainer.train.suspects import Suspect
from trainer.train.trained_run import TrainedRun, read_curves


class OwnEvaluation(BaseModel, extra="ignore", frozen=True):
    """What evaluate.json says of the run's own report.

    trained_at: when the run was. data, defects: folders that were judged.
    """

    trained_at: str
    data: str
    defects: str | None


def own_evaluation(folder: Path, info: RunInfo) -> OwnEvaluation | None:
    """Of a run folder; None where there is no report, or one of an earlier training or version."""
    if not (folder / REPORT).is_file():
        return None
    try:
        found = OwnEvaluation.model_validate_json((folder / SUMMARY).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.trained_at == info.created_at else None


def write_evaluation(run: TrainedRun, judged: Judged, evaluation: Evaluation) -> Path:
    """Write the three files. Returns: the report's path."""
    folder = run.folder if judged.own else evaluation_folder(run.folder, judged.folder)
    folder.mkdir(parents=True, exist_ok=True)
    when = Occasion(
        str(run.folder.resolve()), str(judged.folder), judged.own,
        datetime.now(timezone.utc).isoformat(timespec="seconds"), command_line(),
    )  # fmt: skip
    (folder / SUMMARY).unlink(missing_ok=True)  # it vouches for the report, so it is written last
    report = _report(run, judged, evaluation, when)
    write_atomically(folder / ARRAYS, _arrays(evaluation))
    write_report(folder / REPORT, report)
    write_json(folder / SUMMARY, _summary(run, judged, evaluation, when))
    return folder / REPORT


def _summary(
    run: TrainedRun, judged: Judged, evaluation: Evaluation, when: Occasion
) -> dict[str, Any]:
    info, rejected = run.info, evaluation.rejected
    real = evaluation.labels & (not evaluation.is_good_only)
    return {
        "run": info.model_dump(
            mode="json", include={"system", "preset", "product", "seed", "with_depth", "top_k"}
        ),
        "trained_at": info.created_at,
        "data": when.data,
        "own": when.own,
        "defects": None if judged.defects is None else str(judged.defects),
        "judged_at": when.date,
        "command": when.command,
        "notes": list(evaluation.notes),
        "threshold": evaluation.threshold,
        "good": int((~evaluation.labels).sum()),
        "good_rejected": int(rejected[~evaluation.labels].sum()),
        "defective": int(real.sum()),
        "defective_accepted": int((~rejected & real).sum()),
        "operating_points": [
            point.model_dump(mode="json")
            for point in operating_points_of(info, judged, evaluation)[0]
        ],
        "rows": [_plain(row) for row in evaluation.rows],
        "groups": [_plain(row) for row in evaluation.groups],
        "images": [
            {"name": image.name, "defect": image.defect, "score": float(score)}
            for image, score in zip(evaluation.images, evaluation.scores, strict=True)
        ],
    }


def _plain(row: Figures) -> dict[str, Any]:
    """For JSON, which knows no NaN."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in asdict(row).items()
    }


def _arrays(evaluation: Evaluation) -> bytes:
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
    return buffer.getvalue()


def _report(run: TrainedRun, judged: Judged, evaluation: Evaluation, when: Occasion) -> Report:
    info = run.info

    def image(number: int) -> NDArray[np.uint8]:
        return np.asarray(evaluation.images[number].shown(run)[0]["color"][0], np.uint8)

    def height(number: int) -> NDArray[np.float32]:
        prepared = prepare(run.deployed.preprocess, evaluation.images[number].shown(run)[0])
        assert prepared.height is not None  # only asked for with depth
        values: NDArray[np.float32] = prepared.height[0, 0].numpy()
        return values

    points, suggested = operating_points_of(info, judged, evaluation)
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
        image=image,
        rows=evaluation.rows,
        synthetic=evaluation.is_good_only,
        height=height if info.with_depth else None,
        groups=evaluation.groups,
        curves=read_curves(run.folder),
        drawn=known_defects(judged.dataset.root),
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
            f"plane fitted, lift {1000 * info.lift:.2f} mm"
            if info.lift is not None
            else "not used: color only"
        ),
        "seed": str(info.seed),
        "false rejects": (
            f"{percent_of(info.false_rejects)} asked for: rank {rank} of {parts} normal scores"
        ),
        "threshold": f"{info.threshold.value:.6g}: {info.threshold.guarantee}",
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
