"""What lies in a run folder besides the run itself, and when a folder may take a new one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from edge.errors import ConfigError
from edge.files import require_folder_target
from trainer.train import operating, suspects
from trainer.train.run import CURVES_FILE, MODEL_FILE, RUN_FILE

REPORT, SUMMARY, ARRAYS = "report.html", "evaluate.json", "evaluation.npz"  # of one evaluation
EVALUATIONS = "evaluations"  # folder of the evaluations of other data than the run's own


def evaluation_folder(run: Path, judged: Path) -> Path:
    """Where a run keeps its evaluation of a folder that is not its own data. judged: resolved."""
    digest = hashlib.sha256(str(judged).encode()).hexdigest()[:6]
    return run / EVALUATIONS / f"{judged.name or 'data'}-{digest}"


def require_free(out: Path, overwrite: bool) -> None:
    """Raises: ConfigError if `out` cannot become a run folder, or holds a finished run that nobody
    wants replaced.
    """
    require_folder_target(out, "--out")
    if (out / RUN_FILE).is_file() and not overwrite:
        raise ConfigError(
            f"--out {out} holds a finished run: name another folder, or replace the run with"
            " --overwrite"
        )


def remove_run(folder: Path) -> None:
    """Remove a finished run and everything that was found out about it.

    run.json goes first, because it vouches for the rest; model.pt last, because it tells an
    interrupted removal from a folder of somebody else's files. An unfinished training is left as it
    is: its checkpoint goes on.
    """
    if not any((folder / name).is_file() for name in (RUN_FILE, MODEL_FILE)):
        return
    for name in (RUN_FILE, REPORT, SUMMARY, ARRAYS, CURVES_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in (EVALUATIONS, operating.PICTURES, suspects.PICTURES):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / MODEL_FILE).unlink(missing_ok=True)
