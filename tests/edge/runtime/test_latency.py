"""The times of the stages of a part."""

from __future__ import annotations

import pytest

from edge.runtime.latency import SAMPLES, StageTimes


def test_only_stages_with_samples_have_a_median_to_two_decimals() -> None:
    times = StageTimes()
    for duration_ms in (1.0, 2.3456, 900.0):
        times.note("engine", duration_ms)
    assert times.medians() == {"engine": 2.35}


def test_old_samples_give_way() -> None:
    times = StageTimes()
    for _ in range(SAMPLES):
        times.note("commit", 1000.0)
    for _ in range(SAMPLES // 2 + 1):
        times.note("commit", 1.0)
    assert times.medians() == {"commit": 1.0}


def test_a_stage_that_fails_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = iter([5_000_000, 12_000_000])
    monkeypatch.setattr("edge.runtime.latency.time.monotonic_ns", lambda: next(now_ns))
    times = StageTimes()
    with pytest.raises(ZeroDivisionError), times.measured("publish"):
        raise ZeroDivisionError
    assert times.medians() == {"publish": 7.0}
