"""A view that is clipped to black or white, or far darker or brighter than normal parts: a fault of
lamp, lens or exposure.

A black belt and a backlight are normal for some products, so a view is compared with the views of
normal parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from edge.schema import Strict

if TYPE_CHECKING:  # manifests name these models, also where nothing is measured
    import numpy as np
    from numpy.typing import NDArray

BLACK, WHITE = 8, 247  # a pixel is black if no channel is above, white if none is below
UPPER = 0.9  # quantile of the gray values that stands for the bright pixels of a view
CLIPPED = 0.5  # of the pixels that are not black (white) in any normal view
DIMMER = 0.6  # times the darkest normal mean or bright pixels: below it a view is too dark
BRIGHTER = 1 / DIMMER  # times the brightest normal mean: above it a view is too bright
# of the way from the brightest normal bright pixels to 255: less is left in a glaring view
GLARE = 0.2
FLOOR = 8.0  # gray values that are no brightness: a black product's mean may be 0
REMEDY = "look at lamp, lens and exposure"


@dataclass(frozen=True)
class Brightness:
    """Of the crop of one view. black, white: shares of its pixels. mean, upper: gray values 0..255,
    the mean and the quantile UPPER.
    """

    black: float
    white: float
    mean: float
    upper: float


class NormalBrightness(Strict):
    """Of the crops of n normal parts: the highest shares of black and of white pixels, and the
    lowest and highest mean and quantile UPPER of the gray values, 0..255.
    """

    parts: int = Field(ge=1)
    black: float = Field(ge=0, le=1)
    white: float = Field(ge=0, le=1)
    mean: tuple[float, float]
    upper: tuple[float, float]


def measure_brightness(color: NDArray[np.uint8]) -> Brightness:
    """Of a crop, (H, W, 3) uint8 RGB, H and W at least 1."""
    import numpy as np

    gray = color.mean(axis=2)
    return Brightness(
        black=float((color.max(axis=2) <= BLACK).mean()),
        white=float((color.min(axis=2) >= WHITE).mean()),
        mean=float(gray.mean()),
        upper=float(np.quantile(gray, UPPER)),
    )


def normal_brightness(views: Iterable[Brightness]) -> NormalBrightness:
    """The extremes over all normal views. Raises: ValueError without any."""
    seen = list(views)
    means, uppers = [view.mean for view in seen], [view.upper for view in seen]
    return NormalBrightness(
        parts=len(seen),
        black=max(view.black for view in seen),
        white=max(view.white for view in seen),
        mean=(min(means), max(means)),
        upper=(min(uppers), max(uppers)),
    )


def find_odd_brightness(view: Brightness, normal: NormalBrightness) -> str | None:
    """What is wrong with a view, in one sentence with what to do; None if it looks as normal parts
    do.
    """
    means = f"mean {view.mean:.0f}, normal {normal.mean[0]:.0f} to {normal.mean[1]:.0f} of 255"
    for name, share, usual in (
        ("black", view.black, normal.black),
        ("white", view.white, normal.white),
    ):
        if share - usual > CLIPPED * (1 - usual):
            return (
                f"{share:.0%} of the view is {name}, at most {usual:.0%} of a normal part's"
                f" ({means}): {REMEDY}"
            )
    if view.mean < DIMMER * normal.mean[0] or view.upper < DIMMER * normal.upper[0]:
        return f"the view is much darker than every normal part ({means}): {REMEDY}"
    if view.mean > BRIGHTER * max(normal.mean[1], FLOOR) or 255 - view.upper < GLARE * (
        255 - normal.upper[1]
    ):
        return f"the view is much brighter than every normal part ({means}): {REMEDY}"
    return None
