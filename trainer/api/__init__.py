"""Train, evaluate and export from Python: what the commands of these names do.

    run = train("mats", "parts/washer", "runs/washer")
    evaluation = evaluate(run)
    exported = export(run, product="washer", version="1.0.0", key="line.key")

`edge.api.open_bundle` judges numpy images with what was exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edge.schema import Precision
from trainer.evaluate.evaluation import Evaluation, evaluate_run
from trainer.evaluate.files import write_evaluation
from trainer.evaluate.judged import open_judged
from trainer.export.bundle import Exported, export_bundle
from trainer.export.request import ExportRequest
from trainer.fit import FitControl
from trainer.train.options import TrainOptions
from trainer.train.trained_run import TrainedRun, load_run
from trainer.train.training import train as train_run

__all__ = [
    "Evaluation",
    "Exported",
    "TrainOptions",
    "TrainedRun",
    "evaluate",
    "export",
    "load_run",
    "train",
]

Place = str | Path
Tell = Callable[[str], None]


def train(
    system: str, product: Place, out: Place, options: TrainOptions | None = None, tell: Tell = print
) -> TrainedRun:
    """Train a detector on the normal images of a product and write a run folder.

    Args:
        system: mats, ntsnet, aand, m3dm or vmpfd. product: folder of images. out: run folder.
        options: preset, epochs, seed, false rejects, ...; default: those of the command.
        tell: takes the lines that the command prints.
    Raises: ConfigError for an impossible option, DataError for unusable images.
    """
    control = FitControl(tell=tell)
    return train_run(system, Path(product), Path(out), options or TrainOptions(), control)


def evaluate(
    run: TrainedRun | Place, data: Place | None = None, defects: Place | None = None
) -> Evaluation:
    """Judge images with a run, and write its report (report.html, evaluate.json).

    Args:
        run: a run, or its folder. data: folder of images; default: the test images of the run.
        defects: a folder of defective images that are judged too.
    Raises: DataError, ConfigError.
    """
    trained = _run_of(run)
    judged = open_judged(trained.info, _path(data), _path(defects))
    evaluation = evaluate_run(trained, judged)
    write_evaluation(trained, judged, evaluation)
    return evaluation


def export(
    run: TrainedRun | Place,
    product: str,
    version: str,
    key: Place,
    out: Place | None = None,
    precisions: Sequence[Precision] = ("fp16", "int8"),
    keep: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    tell: Tell = print,
) -> Exported:
    """Make a signed bundle of a run: float32, and each precision that its certificate admits.

    Args:
        product, version: of the bundle. key: NAME.key of `trainer keygen`.
        out: the bundle file; default: PRODUCT-VERSION.bundle in the working folder.
        keep, leave_out: names of outliers among the normal parts that are normal, or are not.
        tell: takes the lines that the command prints.
    Raises: ConfigError for a name, version or key that cannot be, DataError for an outlier that
        neither `keep` nor `leave_out` names, EngineError for a graph that cannot be deployed.
    """
    target = Path(out) if out is not None else Path(f"{product}-{version}.bundle")
    request = ExportRequest(
        _run_of(run).folder,
        product,
        version,
        tuple(precisions),
        Path(key),
        target,
        left_out=tuple(leave_out),
        kept=tuple(keep),
    )
    return export_bundle(request, tell)


def _run_of(run: TrainedRun | Place) -> TrainedRun:
    return run if isinstance(run, TrainedRun) else load_run(Path(run))


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)
