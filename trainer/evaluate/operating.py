"""The run's operating points with the defects of an evaluation beside them."""

from __future__ import annotations

from edge.bundle.manifest import OperatingPoint
from trainer.evaluate.evaluation import Evaluation
from trainer.evaluate.judged import Judged
from trainer.train.defect_scores import REAL, DefectScores
from trainer.train.operating_points import suggestion
from trainer.train.run_info import RunInfo


def operating_points_of(
    info: RunInfo, judged: Judged, evaluation: Evaluation
) -> tuple[list[OperatingPoint], str | None]:
    """The run's operating points with the defects of this evaluation, and what real ones would
    suggest.
    """
    points = info.operating_points(_defect_scores(evaluation) if evaluation.labels.any() else None)
    good = evaluation.scores[~evaluation.labels]
    estimates = len(good) > 0 and not judged.stand_in
    return points, suggestion(points, info.threshold.rank, good if estimates else None)


def _defect_scores(evaluation: Evaluation) -> DefectScores:
    found: dict[str, list[float]] = {}
    for image in evaluation.images:
        if image.is_defective:
            found.setdefault(image.shown.strength or REAL, []).append(image.score)
    groups = {name: tuple(scores) for name, scores in found.items()}
    return DefectScores(kind="synthetic" if evaluation.is_good_only else "real", groups=groups)
