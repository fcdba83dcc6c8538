"""The camera contract: what is refused, with which sentence, and what is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.camera.contract import CameraContract, find_mismatch, find_staleness, require_match
from edge.errors import CameraMismatch
from edge.types import Frame, Intrinsics

PINHOLE = Intrinsics(64, 48, 60.0, 60.5, 31.5, 23.5)
FRAME = Frame(
    np.zeros((48, 64, 3), np.uint8),
    np.ones((48, 64), np.uint16),
    0.0001,
    PINHOLE,
    "123",
    7,
    5_000_000_000,
)
CONTRACT = CameraContract(
    model="D405",
    width=64,
    height=48,
    unit=0.0001,
    intrinsics=(60.0, 60.5, 31.5, 23.5),
    crop_width=32,
    crop_height=32,
    crop_x=0,
    crop_y=0,
    min_area=0.1,
    max_area=0.9,
    min_valid=0.5,
)


def test_the_trained_camera_matches() -> None:
    assert find_mismatch(FRAME, CONTRACT) is None
    require_match(FRAME, CONTRACT)


def test_float32_rounding_of_the_unit_is_no_mismatch() -> None:
    assert find_mismatch(replace(FRAME, unit=float(np.float32(0.0001))), CONTRACT) is None


@pytest.mark.parametrize(
    ("off", "refused"), [(1.029, False), (0.971, False), (1.031, True), (0.969, True)]
)
@pytest.mark.parametrize("axis", ["fx", "fy"])
def test_focal_length_may_be_three_percent_off(off: float, refused: bool, axis: str) -> None:
    pinhole = replace(PINHOLE, **{axis: getattr(PINHOLE, axis) * off})
    sentence = find_mismatch(replace(FRAME, intrinsics=pinhole), CONTRACT)
    assert (sentence is not None) == refused
    assert sentence is None or axis in sentence


def test_another_unit_is_refused() -> None:
    assert "0.001 m" in str(find_mismatch(replace(FRAME, unit=0.001), CONTRACT))


def test_another_size_is_refused_by_image_and_by_intrinsics() -> None:
    small = replace(
        FRAME, color=FRAME.color[:24], depth=None, intrinsics=replace(PINHOLE, height=24)
    )
    assert "64x24" in str(find_mismatch(small, CONTRACT))
    assert find_mismatch(replace(FRAME, color=FRAME.color[:24]), CONTRACT) is not None


def test_depth_must_be_there_and_aligned_where_the_product_needs_it() -> None:
    assert "no depth" in str(find_mismatch(replace(FRAME, depth=None), CONTRACT))
    assert "aligned" in str(
        find_mismatch(replace(FRAME, depth=np.ones((24, 32), np.uint16)), CONTRACT)
    )
    color_only = CONTRACT.model_copy(update={"unit": None, "intrinsics": None})
    assert find_mismatch(replace(FRAME, depth=None, unit=0.001), color_only) is None


def test_mismatch_is_one_sentence_that_names_the_camera() -> None:
    with pytest.raises(CameraMismatch, match=r"^camera 123: [^\n]+$"):
        require_match(replace(FRAME, unit=0.001), CONTRACT)


LATER = replace(FRAME, frame_number=8, captured_mono_ns=FRAME.captured_mono_ns + 33_000_000)


def test_fresh_frame_may_be_judged() -> None:
    assert find_staleness(None, FRAME, FRAME.captured_mono_ns + 1_000_000, 500) is None
    assert find_staleness(FRAME, LATER, LATER.captured_mono_ns, 500) is None


@pytest.mark.parametrize("number", [7, 6, 0])
def test_frame_number_that_does_not_advance_is_stale(number: int) -> None:
    frame = replace(LATER, frame_number=number)
    assert "repeats" in str(find_staleness(FRAME, frame, frame.captured_mono_ns, 500))


@pytest.mark.parametrize("back_ns", [0, 1, 10**9])
def test_time_that_does_not_advance_is_stale(back_ns: int) -> None:
    frame = replace(LATER, captured_mono_ns=FRAME.captured_mono_ns - back_ns)
    assert "has stopped" in str(find_staleness(FRAME, frame, frame.captured_mono_ns, 500))


def test_age_limit_is_inclusive_and_the_future_is_refused() -> None:
    at = LATER.captured_mono_ns
    assert find_staleness(FRAME, LATER, at + 500_000_000, 500) is None
    assert "501 ms old" in str(find_staleness(FRAME, LATER, at + 501_000_000, 500))
    assert find_staleness(FRAME, LATER, at - 500_000, 500) is None
    assert "ahead" in str(find_staleness(FRAME, LATER, at - 2_000_000, 500))
