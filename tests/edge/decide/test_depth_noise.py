"""The noise of the depth readings on a part: as it was put in, whatever the part's slope, the table
and the holes are.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.decide.depth_noise import depth_noise_mm, mean_brightness
from edge.types import Frame, Intrinsics

HEIGHT, WIDTH, UNIT = 480, 640, 1e-4
LENS = Intrinsics(WIDTH, HEIGHT, 600.0, 600.0, 320.0, 240.0)
SITE = {
    "plane": np.array([0, 0, 1, 0.5], np.float32),
    "lift": np.array([0.005], np.float32),
    "region": np.full((1, HEIGHT, WIDTH, 1), 255, np.uint8),
}
V, U = np.mgrid[:HEIGHT, :WIDTH]
ON_PART = (abs(V - 240) < 120) & (abs(U - 320) < 160)


def view(
    part_mm: float,
    table_mm: float = 0.2,
    slope_mm: float = 0.0,
    holes: float = 0.02,
    on_part: NDArray[np.bool_] = ON_PART,
) -> Frame:
    """A part 20 mm high. slope_mm: per pixel, in u and v."""
    rng = np.random.default_rng(1)
    z = np.where(on_part, 0.48 + slope_mm / 1e3 * (U - 320 + V - 240), 0.5)
    z = z + rng.normal(0, 1, z.shape) * np.where(on_part, part_mm, table_mm) / 1e3
    counts = np.round(z / UNIT)
    counts[rng.random(z.shape) < holes] = 0
    color = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    return Frame(color, counts.astype(np.uint16), UNIT, LENS, "1", 1, 0)


@pytest.mark.parametrize("part_mm", [0.2, 0.5, 1.0])
@pytest.mark.parametrize(
    "more", [{}, {"table_mm": 3.0}, {"slope_mm": 0.02}, {"holes": 0.3}], ids=str
)
def test_it_is_the_deviation_of_the_noise_on_the_part(
    part_mm: float, more: dict[str, float]
) -> None:
    assert depth_noise_mm(view(part_mm, **more), SITE) == pytest.approx(part_mm, rel=0.06)


def test_steps_of_the_surface_are_no_noise() -> None:
    frame = view(0.3)
    assert frame.depth is not None
    frame.depth[:, 200:440:24] += 40  # ridges of 4 mm
    assert depth_noise_mm(frame, SITE) < 0.6


def test_a_part_outside_of_the_region_is_not_looked_at() -> None:
    region = np.where(U < 320, 255, 0).astype(np.uint8)[None, :, :, None]
    frame = view(0.3)
    assert frame.depth is not None
    noise = np.random.default_rng(2).normal(0, 50, frame.depth[:, 320:].shape)
    frame.depth[:, 320:] = (frame.depth[:, 320:] + noise).astype(np.uint16)
    assert depth_noise_mm(frame, {**SITE, "region": region}) == pytest.approx(0.3, rel=0.06)


def test_where_there_is_too_little_to_see_nothing_is_told() -> None:
    assert depth_noise_mm(replace(view(0.3), depth=None), SITE) is None
    assert depth_noise_mm(view(0.3), {"lift": SITE["lift"]}) is None
    assert depth_noise_mm(view(0.3, on_part=(V < 8) & (U < 8)), SITE) is None


def test_it_costs_less_than_a_millisecond() -> None:
    frame, times_ns = view(0.3), []
    for _ in range(50):
        started_ns = time.perf_counter_ns()
        depth_noise_mm(frame, SITE)
        mean_brightness(frame.color)
        times_ns.append(time.perf_counter_ns() - started_ns)
    assert min(times_ns) < 1e6


def test_brightness_is_the_mean_gray_value() -> None:
    color = np.zeros((80, 80, 3), np.uint8)
    color[:40] = 200
    assert mean_brightness(color) == 100
