"""Whether a station is healthy with a new bundle, from what it says."""

from __future__ import annotations

from typing import Any

import pytest

from edge.update.state import KeptOffer, TrialRecord
from edge.update.trial import Bounds, Look, Trial

SLOT = "2.0.0-0123456789ab"
BOUNDS = Bounds(parts=20, seconds=600, share=0.5)


def trial(**record: Any) -> Trial:
    offer = KeptOffer(product="washer", version="2.0.0")
    return Trial(TrialRecord(source="tuf", offer=offer, slot=SLOT, **record), BOUNDS)


def said(ok: int = 0, ng: int = 0, reason: str = "", **more: Any) -> dict[str, Any]:
    state = "fault" if reason else "online"
    told = {"state": state, "reason": reason, "ready": not reason, "pid": 7, "uptime_s": 1}
    return {**told, "bundle": SLOT, "ok": ok, "ng": ng, "unknown": 0, **more}


def looks(one: Trial, *told: dict[str, Any] | None, step_s: float = 1.0) -> str:
    """The first complaint, or an empty text."""
    start = getattr(one, "at_s", 0.0)
    for number, words in enumerate(told):
        why = one.look(Look(start + number * step_s, words))
        if why or one.is_healthy:
            return why
    return ""


def test_enough_good_parts_pass() -> None:
    one = trial()
    assert looks(one, *(said(ok=100 + n, uptime_s=n) for n in range(20))) == ""
    assert not one.is_healthy
    assert one.look(Look(30, said(ok=120, uptime_s=30))) == ""
    assert one.is_healthy
    assert one.record.parts == 20


def test_enough_time_passes_without_parts_only_while_the_station_judges() -> None:
    one = trial()
    assert looks(one, *[said()] * 602) == ""
    assert one.is_healthy
    away = trial()
    assert looks(away, *[said(reason="camera_lost")] * 2000) == ""
    assert not away.is_healthy
    assert away.record.judged_s == 0


def test_parts_with_the_old_bundle_do_not_count() -> None:
    one = trial()
    looks(one, *(said(ok=n, bundle="1.0.0-000000000000") for n in range(60)))
    assert one.record.parts == 0


def test_too_many_rejects_end_it_early() -> None:
    one = trial()
    why = looks(one, *(said(ok=5, ng=n) for n in range(20)))
    assert "11 of 11 parts were NG or UNKNOWN" in why
    few = trial()
    assert looks(few, said(), said(ng=4), *[said(ng=4)] * 700) == ""
    assert few.is_healthy


@pytest.mark.parametrize("reason", ["engine", "bundle", "not_finite", "camera_mismatch", "slow"])
def test_a_fault_that_the_bundle_can_be_the_cause_of_ends_it(reason: str) -> None:
    assert f"reason {reason}" in looks(trial(), *[said(reason=reason)] * 60)
    assert looks(trial(reason_before=reason), *[said(reason=reason)] * 60) == ""
    short = [said(), *[said(reason=reason)] * 10]
    assert looks(trial(), *(short * 6)) == ""  # each time it ended by itself


@pytest.mark.parametrize("reason", ["camera_lost", "blind", "paused", "link", "storage"])
def test_what_the_bundle_cannot_be_the_cause_of_is_not_held_against_it(reason: str) -> None:
    assert looks(trial(), *[said(reason=reason)] * 300) == ""


def test_a_process_that_is_gone_or_ends_again_and_again_ends_it() -> None:
    assert "not been at work for" in looks(trial(), said(), *[None] * 70)
    assert looks(trial(), said(), *[None] * 30, said()) == ""
    again = [said(pid=number, uptime_s=1) for number in range(5)]
    assert "ended 3 times" in looks(trial(), *again)


def test_a_bundle_that_is_never_taken_up_or_never_judges_ends_it() -> None:
    old = said(bundle="1.0.0-000000000000")
    assert "did not take it up within 10 min" in looks(trial(), *[old] * 700)
    assert "not judged for 10 min" in looks(trial(), *[{}] * 700)


def test_a_trial_of_a_day_does_not_wait_that_long_for_a_station_that_does_not_take_it_up() -> None:
    record = trial().record
    day = Trial(record, Bounds(parts=10_000, seconds=86_400, share=0.5))
    old = said(bundle="1.0.0-000000000000")
    assert "within 120 min" in looks(day, *[old] * 122, step_s=60)


def test_a_process_that_ends_each_time_before_it_says_anything_ends_it() -> None:
    in_vain = [{}, {}, None, None] * 200
    assert "not judged for 10 min" in looks(trial(), said(), *in_vain)


def test_counters_that_begin_anew_lose_no_part_that_was_counted() -> None:
    one = trial()
    looks(one, said(ok=7), said(ok=9), said(ok=0), said(ok=3))
    assert one.record.parts == 5


def test_it_goes_on_where_an_earlier_process_came() -> None:
    one = trial(parts=18, rejected=1, judged_s=30)
    looks(one, said(ok=50), said(ok=52))
    assert one.is_healthy
    assert (one.record.parts, one.record.rejected) == (20, 1)
