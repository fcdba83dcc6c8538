"""What one job gave, as a file of its own beside the run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainer.benchmark.plan import Job
from trainer.synthetic.scene_defects import group_called

RESULT_FILE = "result.json"
TRIPLE = "I-AUROC / P-AUROC / AUPRO"


@dataclass(frozen=True)
class Result:
    """What one job gave, in percent.

    groups: image AUROC by group of synthetic defects, where the product has such. seconds: of
    training.
    parameters: of the whole detector, backbone included. frames_per_s: of the deployed graph in
    float32 torch on this machine; None until timed. error: why there are no results.
    """

    identity: str
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    groups: dict[str, float] | None = None
    seconds: float | None = None
    parameters: int | None = None
    frames_per_s: float | None = None
    machine: str = ""
    error: str = ""


def read_result(job: Job, out: Path) -> Result | None:
    """The stored result of a job; None where there is none, or one of another identity or form."""
    try:
        stored = Result(**json.loads((job.folder(out) / RESULT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if stored.identity != job.identity:
        return None
    named = stored.groups and {group_called(name): auroc for name, auroc in stored.groups.items()}
    return replace(stored, groups=named)


def plain(result: Result) -> dict[str, object]:
    """For JSON, which knows no NaN: a set without masks has no pixel metrics."""
    values = asdict(result).items()
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in values
    }


def triple(values: Sequence[float | None]) -> str:
    """Three metrics, a dash for each that has no meaning; one dash where none has."""
    cells = ["-" if value is None or math.isnan(value) else f"{value:.1f}" for value in values]
    return "-" if set(cells) == {"-"} else " / ".join(cells)
