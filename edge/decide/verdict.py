"""One frame's outputs to one judgment: the only place where a score meets a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.errors import ConfigError
from edge.types import Code, Judgment, Outputs, Reason


@dataclass(frozen=True)
class DecisionRule:
    """What one product on one station calls OK.

    threshold: float32, raw units; a score above it is NG, a score equal to it is OK.
    min_area, max_area: foreground share of the region of interest that one whole part covers, 0..1.
    max_border: share of the view's outermost pixels that a whole part covers, 0..1; 1: it may reach
    the border.
    min_valid: share of the part's pixels that must have had a depth reading, 0..1.
    Raises: ConfigError if a limit is not a number: every comparison with NaN is false, and "not
    above" means OK.
    """

    threshold: np.float32
    min_area: float
    max_area: float
    min_valid: float
    max_border: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", np.float32(self.threshold))
        limits = (
            float(self.threshold),
            self.min_area,
            self.max_area,
            self.min_valid,
            self.max_border,
        )
        if not np.isfinite(limits).all():
            raise ConfigError(f"threshold and limits must be finite, got {limits}. Calibrate again")

    def judge(self, outputs: Outputs) -> Judgment:
        """Decide on one frame.

        The order is the order of trust: outputs that are no numbers say nothing; then whether
        exactly one part is in view, and all of it; then whether enough of it was measured; the
        score comes last.
        """
        if not _is_finite(outputs):
            return unjudged(Reason.NOT_FINITE, threshold=self.threshold)
        if outputs.area < self.min_area:
            return self._unknown(Reason.NO_PART, outputs)
        if outputs.area > self.max_area:
            return self._unknown(Reason.TOO_LARGE, outputs)
        if place_of(outputs)[5] > self.max_border:
            return self._unknown(Reason.PARTIAL, outputs)
        if outputs.valid < self.min_valid:
            return self._unknown(Reason.NO_DEPTH, outputs)
        score = np.float32(outputs.score)
        code, reason = (
            (Code.NG, Reason.ANOMALY) if score > self.threshold else (Code.OK, Reason.NORMAL)
        )
        return Judgment(
            code,
            reason,
            score,
            self.threshold,
            outputs.area,
            outputs.valid,
            outputs.map,
            place_of(outputs),
        )

    def _unknown(self, reason: Reason, outputs: Outputs) -> Judgment:
        return Judgment(
            Code.UNKNOWN,
            reason,
            None,
            self.threshold,
            outputs.area,
            outputs.valid,
            outputs.map,
            place_of(outputs),
        )


def place_of(outputs: Outputs) -> tuple[float, ...]:
    """Outputs.place as plain numbers; the share of the border at most 1, which a sum of float32 may
    exceed.
    """
    *center, border = (float(value) for value in outputs.place)
    return (*center, min(1.0, border))


def unjudged(reason: Reason, threshold: np.float32 | None = None) -> Judgment:
    """UNKNOWN for a frame that no engine has measured: a fault of camera, site or engine."""
    return Judgment(Code.UNKNOWN, reason, None, threshold)


def _is_finite(outputs: Outputs) -> bool:
    scalars = (float(outputs.score), float(outputs.area), float(outputs.valid))
    return bool(
        np.isfinite(scalars).all()
        and np.isfinite(outputs.map).all()
        and np.isfinite(outputs.place).all()
    )
