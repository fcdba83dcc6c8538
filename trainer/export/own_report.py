"""The run's own images, and the report of them that goes into the bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer.evaluate.evaluation import evaluate_run
from trainer.evaluate.files import own_evaluation, write_evaluation
from trainer.evaluate.judged import Judged, open_own
from trainer.export.request import ExportRequest
from trainer.train.run_folder import REPORT
from trainer.train.run_info import RunInfo
from trainer.train.trained_run import TrainedRun

Tell = Callable[[str], None]


def judged_images(info: RunInfo, request: ExportRequest) -> Judged:
    """The run's own images, with the defective ones that this command, the evaluation or the
    training named.
    """
    if request.defects is not None:
        return open_own(info, request.data, request.defects)
    evaluated = own_evaluation(request.run, info)
    named = None if evaluated is None else evaluated.defects
    return open_own(info, request.data, None if named is None else Path(named))


def report_page(run: TrainedRun, judged: Judged, tell: Tell) -> str:
    """The run's report of these very images, made now if there is none."""
    evaluated = own_evaluation(run.folder, run.info)
    defects = None if judged.defects is None else str(judged.defects)
    if evaluated is None or (evaluated.data, evaluated.defects) != (str(judged.folder), defects):
        tell(f"{judged.sentence()}: the run has no report of them")
        write_evaluation(run, judged, evaluate_run(run, judged))
    return (run.folder / REPORT).read_text(encoding="utf-8")
