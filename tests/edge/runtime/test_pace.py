"""Which share of the camera's frames is judged, by their numbers alone."""

from __future__ import annotations

import pytest

from edge.runtime.pace import WINDOW, FramePace


@pytest.mark.parametrize(("step", "keeps_up"), [(1, True), (2, True), (3, False), (10, False)])
def test_half_of_the_frames_is_enough(step: int, keeps_up: bool) -> None:
    pace = FramePace()
    told = [pace.keeps_up(step * number) for number in range(3 * WINDOW)]
    assert all(told[: WINDOW - 1]), "too few frames to tell"
    assert told[-1] is keeps_up


def test_a_camera_that_was_opened_again_counts_anew() -> None:
    pace = FramePace()
    for number in range(0, 30 * WINDOW, 30):
        pace.keeps_up(number)
    assert all(pace.keeps_up(number) for number in range(1, WINDOW))
