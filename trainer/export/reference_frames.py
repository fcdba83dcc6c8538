"""Which frames become the reference frames of a bundle (golden/): clear of the threshold, so that
only a real fault changes a verdict on them.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge.errors import DataError
from edge.proof.certificate import UNLIKE_DISTANCE
from trainer.data.choose import spread
from trainer.export.shown import Shown, by_falling_score
from trainer.export.synthetic_defects import SyntheticDefects
from trainer.quantize.evidence import Rule

REFERENCE_NORMAL = 4  # reference frames of normal parts
REFERENCE_DEFECTS = 6  # reference frames above the threshold, at least LEAST_DEFECTS
LEAST_DEFECTS = 4
LEAST_REFERENCE = 8


def reference_frames(
    normal: Sequence[Shown], defects: Sequence[Shown], more: SyntheticDefects, rule: Rule
) -> list[Shown]:
    """Normal parts and rejected defects clear of the threshold.

    Args:
        normal: answered normal parts. defects: answered frames with a defect, in the order in which
            they are looked at. more: draws plain defects where too few of those are rejected.
    Raises: DataError if fewer than LEAST_DEFECTS frames can be brought above the threshold.
    """
    rejected = _rejected(defects, more, rule)
    chosen = spread(_clear_of(rejected, rule, LEAST_DEFECTS), REFERENCE_DEFECTS)
    rising = by_falling_score(normal)[::-1]
    clear = spread(_clear_of(rising, rule, REFERENCE_NORMAL), REFERENCE_NORMAL)
    others = [one for one in rising if one not in clear and abs(one.value - rule.threshold) > 0]
    missing = max(0, LEAST_REFERENCE - len(clear) - len(chosen))
    return [*clear, *others[:missing], *chosen]


def _rejected(defects: Sequence[Shown], more: SyntheticDefects, rule: Rule) -> list[Shown]:
    """Frames with a defect above the threshold: real ones alone where those are enough, else
    synthetic ones too, at last plain ones.
    """
    rejected = [frame for frame in defects if rule.rejects(frame.value)]
    real = [frame for frame in rejected if frame.kind == "real"]
    if len(real) >= LEAST_DEFECTS:
        return real
    if len(rejected) < LEAST_DEFECTS:
        rejected += [frame for frame in more.strong() if rule.rejects(frame.value)]
    if len(rejected) < LEAST_DEFECTS:
        raise DataError(
            f"only {len(rejected)} frames with a defect score above the threshold"
            f" {rule.threshold:g}, a bundle needs {LEAST_DEFECTS}: this model rejects next to"
            " nothing, train it longer or on more parts"
        )
    return rejected


def _clear_of(frames: Sequence[Shown], rule: Rule, needed: int) -> list[Shown]:
    """Frames outside the distance within which a verdict may differ, the clearest of them where
    those are too few.
    """
    band = UNLIKE_DISTANCE * rule.spread
    clear = [frame for frame in frames if abs(frame.value - rule.threshold) > band]
    if len(clear) >= needed:
        return clear
    clearest = sorted(frames, key=lambda frame: -abs(frame.value - rule.threshold))[:needed]
    return [frame for frame in frames if frame in clearest]
