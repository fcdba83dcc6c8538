"""The order of the remedies for a camera that gives no frames."""

from __future__ import annotations

import pytest

from edge.camera.ladder import Ladder, Rung

RESPAWN, RESET, PORT, FAULT = Rung.RESPAWN, Rung.HARDWARE_RESET, Rung.USB_PORT, Rung.FAULT


@pytest.mark.parametrize(
    ("resets", "rungs"),
    [
        (2, [RESPAWN, RESPAWN, RESET, RESET, PORT, FAULT, FAULT]),
        (1, [RESPAWN, RESPAWN, RESET, PORT, FAULT, FAULT]),
        (0, [RESPAWN, RESPAWN, FAULT, FAULT]),
    ],
)
def test_each_remedy_is_tried_a_bounded_number_of_times_the_mildest_first(
    resets: int, rungs: list[Rung]
) -> None:
    ladder = Ladder(resets)
    assert [ladder.climb() for _ in rungs] == rungs
    assert {ladder.climb() for _ in range(1000)} == {FAULT}


def test_a_frame_puts_it_back_to_the_first_rung() -> None:
    ladder = Ladder(2)
    for _ in range(10):
        ladder.climb()
    ladder.start_anew()
    assert [ladder.climb() for _ in range(3)] == [RESPAWN, RESPAWN, RESET]


def test_a_rung_is_numbered_among_those_of_its_kind() -> None:
    ladder = Ladder(2)
    numbers = []
    for _ in range(6):
        ladder.climb()
        numbers.append(ladder.number)
    assert numbers == [1, 2, 1, 2, 1, 1]
