"""The files of an evaluation: evaluate.json (metrics), evaluation.npz (scores and maps),
report.html.

They stand in the run folder for the run's own data, in a folder below it for any other: a run's
report is about its own data.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from edge.files import write_atomically, write_json
from trainer.command import command_line
from trainer.evaluate.evaluation import Evaluation
from trainer.evaluate.judged import Judged
from trainer.evaluate.operating import operating_points_of
from trainer.evaluate.report import Occasion, write_report
from trainer.evaluate.reporting import report_of
from trainer.train.run_folder import ARRAYS, REPORT, SUMMARY, evaluation_folder
from trainer.train.run_info import RunInfo
from trainer.train.trained_run import TrainedRun


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
        str(run.folder.resolve()),
        str(judged.folder),
        judged.own,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command_line(),
    )
    (folder / SUMMARY).unlink(missing_ok=True)  # it vouches for the report, so it is written last
    report = report_of(run, judged, evaluation, when)
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
        "rows": [row.plain() for row in evaluation.rows],
        "groups": [row.plain() for row in evaluation.groups],
        "judgments": [asdict(judgment) for judgment in evaluation.judgments],
        "images": [
            {
                "name": image.name,
                "defect": image.defect,
                "score": image.score,
                "shares": dict(image.shares),
                "reasons": list(evaluation.reasons(image)),
            }
            for image in evaluation.images
        ],
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
