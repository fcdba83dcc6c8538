"""The table `trainer evaluate` prints: plain columns, the same on a terminal and in a log."""

from __future__ import annotations

import math

import numpy as np

from trainer.evaluate import Evaluation, operating_points_of
from trainer.metrics import Figures
from trainer.operating import choice_lines
from trainer.run import TrainedRun

COLUMNS = ("I-AUROC", "P-AUROC", "AUPRO", "AUPRO.05", "AP")


def table_lines(evaluation: Evaluation) -> list[str]:
    """One line per defect type, per group of drawn defects and for all, then what the threshold does.

    Figures in percent.
    """
    lines = [f"{'defect':<18}{'images':>7}" + "".join(f"{column:>9}" for column in COLUMNS)]
    lines += [_line(row) for row in evaluation.rows[:-1]]
    lines += [_line(row, f"({row.name})") for row in evaluation.groups]
    lines.append(_line(evaluation.overall))
    rejected = evaluation.scores > np.float32(evaluation.threshold)
    good, bad = ~evaluation.labels, evaluation.labels
    lines.append(
        f"threshold {evaluation.threshold:.6g}: {int(rejected[good].sum())} of {int(good.sum())} good parts rejected, "
        f"{int(rejected[bad].sum())} of {int(bad.sum())} defective parts found"
    )
    return lines


def threshold_lines(run: TrainedRun, evaluation: Evaluation) -> list[str]:
    """What the threshold was chosen from, with the defective parts of this test set."""
    info = run.info
    points, suggested = operating_points_of(info, evaluation)
    return choice_lines(info.outliers(), points, info.threshold, suggested, run.folder)


def _line(row: Figures, name: str | None = None) -> str:
    values = (row.image_auroc, row.pixel_auroc, row.aupro_30, row.aupro_05, row.average_precision)
    cells = "".join(f"{'-' if math.isnan(value) else format(100 * value, '.1f'):>9}" for value in values)
    return f"{name or row.name:<18}{row.defective:>7}{cells}"
