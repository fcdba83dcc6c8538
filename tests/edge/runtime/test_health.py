"""What `ready` covers, and that it comes back without a part."""

from __future__ import annotations

import pytest

from edge.runtime.health import Health
from edge.types import Code, Judgment, Reason

SEEN = Judgment(Code.OK, Reason.NORMAL, None, None)


def test_ready_needs_frames_disk_pace_and_the_link_to_the_plc() -> None:
    health = Health()
    assert health.state() == ("online", "", False)
    health.note_frame(SEEN)
    assert health.is_ready
    for reason, spoil, mend in (
        (
            "storage",
            lambda: health.note_storage(works=False),
            lambda: health.note_storage(works=True),
        ),
        ("slow", lambda: health.note_pace(keeps_up=False), lambda: health.note_pace(keeps_up=True)),
        ("link", lambda: health.note_line(False, True), lambda: health.note_line(True, True)),
        (
            "camera_lost",
            lambda: health.note_lost(Reason.CAMERA_LOST),
            lambda: health.note_frame(SEEN),
        ),
    ):
        spoil()
        assert health.state()[1:] == (reason, False)
        mend()
        assert health.state() == ("online", "", True)


def test_an_archive_that_takes_nothing_does_not_stop_the_line() -> None:
    health = Health()
    health.note_frame(SEEN)
    health.note_line(verdicts=True, records=False)
    assert health.state() == ("degraded", "archive", True)
    health.note_line(verdicts=False, records=False)
    assert health.state() == ("degraded", "link", False)


def test_a_good_frame_mends_neither_disk_nor_link() -> None:
    health = Health()
    health.note_storage(works=False)
    health.note_line(verdicts=False, records=True)
    health.note_frame(SEEN)
    assert health.state() == ("fault", "storage", False)
    health.note_storage(works=True)  # as housekeeping finds out, without a part
    assert health.state() == ("degraded", "link", False)


def test_an_engine_that_judges_nothing_any_more_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("edge.runtime.health.time.monotonic", lambda: now_s[0])
    health, patient = Health(), Health(stall_s=None)
    for one in (health, patient):
        one.note_frame(SEEN)
    now_s[0] += 2.1
    assert health.state() == ("degraded", "slow", False)
    assert patient.state() == ("online", "", True)
    health.note_frame(SEEN)
    assert health.is_ready


def test_a_pause_is_told_and_counters_begin_anew_without_the_number_of_parts() -> None:
    health = Health()
    health.note_frame(SEEN)
    health.note_pause(True)
    assert health.state() == ("degraded", "paused", False)
    health.note_line(verdicts=True, records=False)
    assert health.state()[1] == "paused", "worse than what lets parts be judged"
    health.note_pause(False)
    assert health.is_ready
    for code in (Code.OK, Code.NG):
        health.count(code)
    health.reset_counts()
    health.count(Code.OK)
    assert health.verdicts() == {"ok": 1, "ng": 0, "unknown": 0}
    assert health.parts == 3
