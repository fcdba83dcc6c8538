"""Whether the part in view now is the one that was in view before: from the place of the foreground
alone.

A whole part moves steadily: on from where it was, by about what it moved before, or it slows down,
stops or starts. Two parts that follow each other lie at least one part's length apart, so at the
change the center jumps back.

    u, v       center of the foreground, pixels of the crop
    length     of the part along the direction of the jump, from the variance of its pixels in that
               direction: a bar has a length of sqrt(12) standard deviations, a disc one of 4
               (uniform distributions)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# standard deviations: a jump within it is noise; the next part is at least sqrt(12) away
NEAR = 1.5
FASTER = 2.0  # times its former speed is what a part may move in one frame
OTHER_AREA = 1.5  # times as large or small is another part, where both are wholly in view
STEP_OUTLIER = 4.0  # times the usual deviation of a part's steps
SINGLE_STEP_PX = 4.0  # more than vibration moves a part at rest
LEAST_STEP_PX, LEAST_STEP_AREA = 1.0, 0.02  # below it a step is noise, whatever the others are


@dataclass(frozen=True)
class Sighting:
    """Where the foreground of one frame lies.

    number: of the frame. area: share of the region of interest. u, v: center, pixels. spread:
    variances of u and v and their covariance, square pixels. border: share of the view's outermost
    pixels that are foreground.
    """

    number: int
    area: float
    u: float = 0.0
    v: float = 0.0
    spread: tuple[float, float, float] = (0.0, 0.0, 0.0)
    border: float = 0.0

    def deviation_along(self, du: float, dv: float) -> float:
        """Standard deviation in pixels of the foreground along the direction (du, dv)."""
        length2 = du * du + dv * dv
        var_u, var_v, both = self.spread
        along = (
            (var_u * du * du + var_v * dv * dv + 2 * both * du * dv) / length2
            if length2 > 0
            else 0.0
        )
        return math.sqrt(max(0.0, along))


@dataclass
class Motion:
    """Follows one part from one whole sighting to the next."""

    _last: Sighting | None = field(default=None, init=False)
    _speed: tuple[float, float] | None = field(default=None, init=False)  # pixels per frame number

    def is_another(self, now: Sighting) -> bool:
        """Whether `now` cannot be the part that was followed so far; False if none was, or it was
        seen only once.

        From one sighting alone nobody knows the speed: a step of any length may be the part's own
        motion. Then only the area tells.
        """
        last = self._last
        if last is None:
            return False
        if max(now.area, last.area) > OTHER_AREA * min(now.area, last.area):
            return True
        if self._speed is None:
            return False
        frames = max(1, now.number - last.number)
        du, dv = now.u - last.u, now.v - last.v
        ahead = FASTER * frames * self._speed[0], FASTER * frames * self._speed[1]
        off_u, off_v = _off_the_way(du, dv, ahead)
        return math.hypot(off_u, off_v) > NEAR * last.deviation_along(off_u, off_v)

    def follow(self, now: Sighting) -> None:
        """Take the part's next whole sighting."""
        last = self._last
        if last is not None:
            frames = max(1, now.number - last.number)
            self._speed = (now.u - last.u) / frames, (now.v - last.v) / frames
        self._last = now

    def forget(self) -> None:
        """The next sighting is of a part that was not seen before."""
        self._last = self._speed = None


def _off_the_way(du: float, dv: float, ahead: tuple[float, float]) -> tuple[float, float]:
    """The vector to (du, dv) from the nearest point between (0, 0) and `ahead`: anywhere there the
    part may be.
    """
    length2 = ahead[0] ** 2 + ahead[1] ** 2
    share = (du * ahead[0] + dv * ahead[1]) / length2 if length2 > 0 else 0.0
    share = min(1.0, max(0.0, share))
    return du - share * ahead[0], dv - share * ahead[1]


def steps_aside(sightings: Sequence[Sighting], at: int) -> bool:
    """Whether the step from sighting `at - 1` to sighting `at` stands out among all steps of these
    sightings: in center or area it is several times as far from the usual step as the others are.

    Such a step alone proves nothing. Where the verdict changes at the same moment, two parts were
    in view one after the other.
    """
    if not 0 < at < len(sightings):
        return False
    centers = np.array([(one.u, one.v) for one in sightings], np.float64)
    frames = np.maximum(1, np.diff([one.number for one in sightings]))
    moves = np.diff(centers, axis=0) / frames[:, None]
    grows = np.diff([math.log(max(one.area, 1e-9)) for one in sightings]) / frames
    return _stands_out(
        np.linalg.norm(moves - np.median(moves, axis=0), axis=1), at - 1, LEAST_STEP_PX
    ) or _stands_out(np.abs(grows - np.median(grows)), at - 1, LEAST_STEP_AREA)


def is_single_step(sightings: Sequence[Sighting], at: int) -> bool:
    """Whether the center moves once, at sighting `at`, and hardly in the steps before and after it.

    A part that a belt carries moves in every frame, one that starts or stops in several. Two frames
    on either side are needed to tell.
    """
    if not 2 <= at <= len(sightings) - 2:
        return False
    before, step, after = (
        math.hypot(now.u - last.u, now.v - last.v) / max(1, now.number - last.number)
        for last, now in ((sightings[i - 1], sightings[i]) for i in (at - 1, at, at + 1))
    )
    return step > max(SINGLE_STEP_PX, STEP_OUTLIER * before, STEP_OUTLIER * after)


def jumps(values: NDArray[np.float64], at: int) -> bool:
    """Whether the step from value `at - 1` to value `at` is several times as large as the others.

    values: (n,).
    """
    return _stands_out(np.abs(np.diff(values)), at - 1, 0.0)


def _stands_out(distances: NDArray[np.float64], index: int, least: float) -> bool:
    usual = float(np.median(np.delete(distances, index))) if len(distances) > 1 else 0.0
    return bool(distances[index] > max(least, STEP_OUTLIER * usual))
