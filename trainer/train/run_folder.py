"""A run folder: the names of its files, and when a folder may take a new run.

run.json            RunInfo: everything but the weights (trainer.train.run_info)
model.safetensors   the detector's weights, backbone included; model.pt in older runs
curves.json         mean loss of every epoch, by phase
outliers/           a picture of each normal validation part whose score stands apart
suspects/           a picture of each normal image that does not look like the others
evaluate.json, evaluation.npz, report.html
                    by `trainer evaluate`, or `trainer export`, of the run's own data
evaluations/        the same of other data, a folder each
checkpoint.pt       while training, removed at its end
cache/              features of the frozen backbone
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from edge.errors import ConfigError
from edge.files import require_folder_target

RUN_FILE, MODEL_FILE, CURVES_FILE = "run.json", "model.safetensors", "curves.json"
OLD_MODEL_FILE = "model.pt"  # of torch.save, in older runs
MODELS = (MODEL_FILE, OLD_MODEL_FILE)
CHECKPOINT, CACHE = "checkpoint.pt", "cache"
REPORT, SUMMARY, ARRAYS = "report.html", "evaluate.json", "evaluation.npz"  # of one evaluation
EVALUATIONS = "evaluations"  # folder of the evaluations of other data than the run's own
OUTLIERS, SUSPECTS = "outliers", "suspects"  # folders of pictures


def find_model(folder: Path) -> Path:
    """The weights of a run; where there are none, the file that a finished training would write."""
    return next(
        (folder / name for name in MODELS if (folder / name).is_file()), folder / MODEL_FILE
    )


def picture_of(folder: str, name: str) -> Path:
    """Where the picture of a sample lies, relative to the run folder."""
    return Path(folder) / f"{name.replace('/', '-')}.png"


def evaluation_folder(run: Path, judged: Path) -> Path:
    """Where a run keeps its evaluation of a folder that is not its own data. judged: resolved."""
    digest = hashlib.sha256(str(judged).encode()).hexdigest()[:6]
    return run / EVALUATIONS / f"{judged.name or 'data'}-{digest}"


def require_free(out: Path, overwrite: bool) -> None:
    """Raises: ConfigError if `out` cannot become a run folder, or holds a finished run that is not
    to be overwritten.
    """
    require_folder_target(out, "--out")
    if (out / RUN_FILE).is_file() and not overwrite:
        raise ConfigError(
            f"--out {out} holds a finished run: name another folder, or replace the run with"
            " --overwrite"
        )


def remove_run(folder: Path) -> None:
    """Remove a finished run and everything that was found out about it.

    run.json goes first, because it vouches for the rest; the model last, because it tells an
    interrupted removal from a folder of other files. An unfinished training is left as it
    is: its checkpoint goes on.
    """
    if not any((folder / name).is_file() for name in (RUN_FILE, *MODELS)):
        return
    for name in (RUN_FILE, REPORT, SUMMARY, ARRAYS, CURVES_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in (EVALUATIONS, OUTLIERS, SUSPECTS):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in MODELS:
        (folder / name).unlink(missing_ok=True)
