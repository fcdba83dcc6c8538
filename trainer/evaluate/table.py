"""What `trainer evaluate` prints: plain columns, the same on a terminal and in a log."""

from __future__ import annotations

import math

import numpy as np

from trainer.evaluate.evaluation import Evaluation
from trainer.evaluate.judged import Judged
from trainer.evaluate.operating import operating_points_of
from trainer.metrics import Metrics
from trainer.train.operating_points import choice_lines
from trainer.train.trained_run import TrainedRun

COLUMNS = ("I-AUROC", "P-AUROC", "AUPRO", "AUPRO.05", "AUPRO.01", "AP")


def table_lines(evaluation: Evaluation) -> list[str]:
    """One line per defect type, per group of a synthetic product's defects and for all, then what
    the threshold does.

    Metrics in percent; only counts where there are no good or no defective parts to compare.
    """
    if not evaluation.is_comparison:
        return [*_counted(evaluation), *_spread(evaluation), *_judgments(evaluation)]
    lines = [f"{'defect':<18}{'images':>7}" + "".join(f"{column:>9}" for column in COLUMNS)]
    lines += [_line(row) for row in evaluation.rows[:-1]]
    lines += [_line(row, f"({row.name})") for row in evaluation.groups]
    lines.append(_line(evaluation.overall))
    rejected, good, bad = evaluation.rejected, ~evaluation.labels, evaluation.labels
    lines.append(
        f"Threshold {evaluation.threshold:.4g}: {int(rejected[good].sum())} of {int(good.sum())}"
        f" good parts rejected, {int(rejected[bad].sum())} of {int(bad.sum())} defective parts"
        " found"
    )
    return [*lines, *_judgments(evaluation)]


def threshold_lines(run: TrainedRun, judged: Judged, evaluation: Evaluation) -> list[str]:
    """What the threshold was chosen from, with the defects of this evaluation."""
    info = run.info
    points, suggested = operating_points_of(info, judged, evaluation)
    return choice_lines(info.outliers(), points, info.threshold, suggested, run.folder)


def _counted(evaluation: Evaluation) -> list[str]:
    """How many of each kind the threshold rejects."""
    kinds = np.array(evaluation.defects)
    lines = [f"{'images':<18}{'number':>7}{'rejected':>9}"]
    for kind in dict.fromkeys(evaluation.defects):
        chosen = kinds == kind
        lines.append(f"{kind:<18}{int(chosen.sum()):>7}{int(evaluation.rejected[chosen].sum()):>9}")
    return lines


def _spread(evaluation: Evaluation) -> list[str]:
    """Where the good parts' scores lie; empty without a good part."""
    scores = evaluation.scores[~evaluation.labels]
    if not len(scores):
        return []
    return [
        f"scores of the good parts: lowest {scores.min():.4g}, median {np.median(scores):.4g},"
        f" highest {scores.max():.4g}; threshold {evaluation.threshold:.4g}"
    ]


def _judgments(evaluation: Evaluation) -> list[str]:
    """What each judgment finds; empty where the detector judges alone."""
    lines = [f"{'NG by':<18}{'found':>7}{'by it alone':>13}{'good parts':>12}"]
    for one in evaluation.judgments:
        lines.append(f"{one.name:<18}{one.found:>7}{one.alone:>13}{one.refused:>12}")
    return lines if evaluation.judgments else []


def _line(row: Metrics, name: str | None = None) -> str:
    values = (
        row.image_auroc,
        row.pixel_auroc,
        row.aupro_30,
        row.aupro_05,
        row.aupro_01,
        row.average_precision,
    )
    cells = "".join(
        f"{'-' if math.isnan(value) else format(100 * value, '.1f'):>9}" for value in values
    )
    return f"{name or row.name:<18}{row.defective:>7}{cells}"
