"""One frame: never OK unless everything that OK rests on was measured and finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.decide.verdict import DecisionRule
from edge.errors import ConfigError
from edge.types import Code, Outputs, Reason

RULE = DecisionRule(
    np.float32(0.5), min_area=0.1, max_area=0.6, min_valid=0.7, max_border=np.float32(0.05)
)


def outputs(
    score: float = 0.2,
    area: float = 0.3,
    valid: float = 0.9,
    cell: float = 0.0,
    spread: float = 40.0,
    border: float = 0.0,
) -> Outputs:
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = cell
    return Outputs(
        heat, np.float32(score), area, valid, np.float32([31.5, 31.5, spread, 40, 0, border])
    )


@pytest.mark.parametrize(
    ("given_outputs", "code", "reason"),
    [
        (outputs(), Code.OK, Reason.NORMAL),
        (outputs(score=0.5), Code.OK, Reason.NORMAL),
        (outputs(score=np.nextafter(np.float32(0.5), np.float32(1))), Code.NG, Reason.ANOMALY),
        (outputs(area=0.09), Code.UNKNOWN, Reason.NO_PART),
        (outputs(area=0.61), Code.UNKNOWN, Reason.TOO_LARGE),
        (outputs(border=0.06), Code.UNKNOWN, Reason.PARTIAL),
        (outputs(border=0.05), Code.OK, Reason.NORMAL),
        (outputs(valid=0.69), Code.UNKNOWN, Reason.NO_DEPTH),
        (outputs(score=0.9, valid=0.69), Code.UNKNOWN, Reason.NO_DEPTH),
        (outputs(score=np.nan), Code.UNKNOWN, Reason.NOT_FINITE),
        (outputs(score=-np.inf), Code.UNKNOWN, Reason.NOT_FINITE),
        (outputs(area=np.nan), Code.UNKNOWN, Reason.NOT_FINITE),
        (outputs(valid=np.inf), Code.UNKNOWN, Reason.NOT_FINITE),
        (outputs(cell=np.nan), Code.UNKNOWN, Reason.NOT_FINITE),
        (outputs(cell=np.inf), Code.UNKNOWN, Reason.NOT_FINITE),
        (outputs(spread=np.nan), Code.UNKNOWN, Reason.NOT_FINITE),
        (outputs(spread=np.inf), Code.UNKNOWN, Reason.NOT_FINITE),
    ],
)
def test_one_frame_gets_its_code_and_reason(
    given_outputs: Outputs, code: Code, reason: Reason
) -> None:
    judgment = RULE.judge(given_outputs)
    assert (judgment.code, judgment.reason) == (code, reason)
    assert (judgment.score is None) == (code is Code.UNKNOWN)


def test_a_view_that_is_all_foreground_is_not_cut_where_parts_may_reach_the_border() -> None:
    """A color-only graph: its share of the border is a float32 sum, a little above 1."""
    rule = DecisionRule(np.float32(0.5), min_area=0.0, max_area=1.0, min_valid=0.0)
    judgment = rule.judge(outputs(area=1.0, valid=1.0, border=float(np.float32(1.0000001))))
    assert (judgment.code, judgment.place[5]) == (Code.OK, 1.0)


@given(*[st.floats(width=32, allow_nan=True, allow_infinity=True)] * 5)
def test_ok_only_when_all_is_finite_and_within_limits(
    score: float, area: float, valid: float, cell: float, spread: float
) -> None:
    judgment = RULE.judge(outputs(score, area, valid, cell, spread))
    if judgment.code is Code.OK:
        assert score <= 0.5
        assert 0.1 <= area <= 0.6
        assert valid >= 0.7
        assert np.isfinite(cell)
        assert np.isfinite(spread)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_threshold_that_is_no_number_is_refused(broken: float) -> None:
    with pytest.raises(ConfigError, match="finite"):
        DecisionRule(np.float32(broken), 0.1, 0.6, 0.7)


def test_the_comparison_is_between_float32() -> None:
    rule = DecisionRule(0.1, 0.0, 1.0, 0.0)  # the double 0.1 is below float32's 0.1
    assert rule.judge(outputs(score=0.1)).code is Code.OK
