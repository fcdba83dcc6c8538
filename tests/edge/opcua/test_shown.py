"""From the station's lines to what the nodes show."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge.opcua.methods import trigger_of
from edge.opcua.names import ERRORS, OF_VERDICT, VARIABLES, error_of
from edge.opcua.shown import (
    States,
    event_of,
    last_values,
    moment_of,
    result_of,
    state_values,
    states_of,
)
from edge.opcua.system import Answer
from tests.support.line import build

READY = {"state": "online", "reason": "", "ready": True, "beat": 7, "details": None}


@pytest.mark.parametrize(
    ("said", "mode", "jobs", "states"),
    [
        ({}, "triggered", 0, States("Operational", "Ready")),
        ({}, "triggered", 2, States("Operational", "SingleExecution")),
        ({}, "free_run", 0, States("Operational", "ContinuousExecution")),
        ({"state": "degraded"}, "triggered", 0, States("Operational", "Ready")),
        ({"state": "offline", "ready": False}, "triggered", 0, States("Halted")),
        ({"state": "fault", "reason": "camera_lost", "ready": False}, "triggered", 1,
         States("Error")),
        ({"reason": "paused", "ready": False}, "free_run", 0,
         States("Operational", "Initialized")),
        ({"reason": "calibrating", "ready": False}, "triggered", 1,
         States("Operational", "Initialized")),
    ],
)  # fmt: skip
def test_the_states(said: dict[str, Any], mode: str, jobs: int, states: States) -> None:
    assert states_of({**READY, **said}, mode, jobs) == states


def test_every_variable_has_a_value() -> None:
    values = state_values(READY, States("Operational", "Ready"))
    values |= last_values(result_of(build(4711), "m1"))
    assert set(values) == set(VARIABLES)


def test_a_part_that_was_not_judged_has_no_number_for_a_score() -> None:
    fields = {**build(1), "score": None, "code": 3, "reason": "late"}
    result = result_of(fields, "")
    assert math.isnan(result["Score"])
    assert list(result) == list(OF_VERDICT)
    assert list(result)[-1] == "Seq"
    assert event_of(result)["ResultState"] == 4


def test_a_number_beyond_32_bits_wraps() -> None:
    assert result_of(build((1 << 32) + 5), "")["Seq"] == 5
    assert result_of(build((1 << 32) + 5), "")["JobId"] == str((1 << 32) + 5)


def test_a_moment_that_is_none_is_1970() -> None:
    assert moment_of("2026-11-22T17:00:00.123Z").microsecond == 123_000
    assert moment_of("").year == 1970


def test_every_reason_has_its_own_number() -> None:
    assert len(set(ERRORS.values())) == len(ERRORS)
    assert (error_of(""), error_of("busy"), error_of("new in another version")) == (0, 3, 9)


def test_a_numeric_measurement_is_the_number_of_the_trigger() -> None:
    assert trigger_of("A17", "7", [], 500) == {"part": "A17", "deadline_ms": 500, "n": 7}
    assert trigger_of("A17", "7", ["n = 9", "frames=3"], 500) == {
        "part": "A17", "deadline_ms": 500, "n": 9, "frames": 3
    }  # fmt: skip
    assert trigger_of("A17", "lot-7", [], 500) == {"part": "A17", "deadline_ms": 500}
    assert trigger_of("A17", "99999999999", [], 500) == {"part": "A17", "deadline_ms": 500}
    assert trigger_of("A17", "", ["frames=1"] * 17, 500) == Answer("bad_request", "Parameters")
