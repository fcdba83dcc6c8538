"""Which images of a data set are judged for a bundle: what sets the thresholds, and what nothing is
chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError
from edge.frames.sample import Sample
from trainer.data.choose import in_turn
from trainer.evaluate.judged import Judged
from trainer.export.request import require_validation_parts
from trainer.export.shown import Shown
from trainer.graph.deploy import Deployed
from trainer.quantize.evidence import Kind
from trainer.train.outliers import Outlier, find_named_outliers
from trainer.train.trained_run import TrainedRun

# normal validation parts: of fewer, nothing tells a precision's noise from its parts
LEAST_TO_QUANTIZE = 8
# validation parts of which a fifth is set aside, where there is no other good part
LEAST_TO_SET_ASIDE = 20
SET_ASIDE = 5  # every fifth
MOST_GOOD, MOST_REAL = 400, 200  # images of the test split that are looked at


@dataclass(frozen=True)
class ProofFrames:
    """The frames of an export, before anything has answered them.

    normal: validation parts that set the thresholds. good: normal parts that nothing is chosen on.
    real: parts with defects. set_aside: whether `good` are validation parts, because there is no
    other good part.
    """

    normal: list[Shown]
    good: list[Shown]
    real: list[Shown]
    set_aside: bool


def proof_frames(run: TrainedRun, judged: Judged, left_out: Sequence[str]) -> ProofFrames:
    """The frames of a run's own data, unanswered: none that counts as good or defective has trained
    or validated it.

    left_out: names of validation parts that the user declared not to be normal.
    Raises: ConfigError if a name is none of its validation parts, or no part is left.
    """
    require_validation_parts("--leave-out", left_out, run.info.validation)
    validation = [name for name in run.info.validation if name not in set(left_out)]
    if not validation:
        raise ConfigError(
            "--leave-out names every normal validation part: nothing is left to set a threshold"
            " with"
        )
    by_name = {sample.name: sample for sample in judged.dataset.samples}
    good = [] if judged.stand_in else judged.good[:MOST_GOOD]
    aside = (
        []
        if good or len(validation) < LEAST_TO_SET_ASIDE
        else validation[SET_ASIDE - 1 :: SET_ASIDE]
    )
    normal = [by_name[name] for name in validation if name not in set(aside)]
    defects = in_turn(judged.defective, lambda sample: sample.defect, MOST_REAL)
    return ProofFrames(
        [_shown(run, sample, "normal") for sample in normal],
        [_shown(run, sample, "good") for sample in good or (by_name[name] for name in aside)],
        [_shown(run, sample, "real") for sample in defects],
        set_aside=bool(aside),
    )


def open_outliers(normal: Sequence[Shown], kept: Sequence[str]) -> list[Outlier]:
    """Outliers among the answered normal parts that the user has not decided on, highest first."""
    found = find_named_outliers([frame.name for frame in normal], [frame.value for frame in normal])
    return [outlier for outlier in found if outlier.name not in set(kept)]


def _shown(run: TrainedRun, sample: Sample, kind: Kind) -> Shown:
    x, y, width, height = run.info.crop
    if kind != "real":
        return Shown(
            sample.name, partial(feeds_of, run, sample), kind, np.zeros((height, width), np.bool_)
        )
    mask = sample.load_mask()
    truth = None if mask is None else mask[y : y + height, x : x + width]
    return Shown(sample.name, partial(feeds_of, run, sample), kind, truth)


def feeds_of(run: TrainedRun, sample: Sample) -> dict[str, NDArray[Any]]:
    """Every graph input of one image: its own, and the neutral defaults of the others."""
    return complete_feeds(run.deployed, run.feeds(sample))


def complete_feeds(
    deployed: Deployed, feeds: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Every graph input: those given, and the neutral defaults."""
    neutral = {spec.name: spec.neutral() for spec in deployed.inputs}
    return {**{name: values for name, values in neutral.items() if values is not None}, **feeds}
