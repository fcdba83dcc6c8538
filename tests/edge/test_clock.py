"""Powered-on seconds: they survive restarts and boots, and every doubt makes them smaller."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge.clock import PoweredClock, Stamp, age_s, boot_time_s, read_boot_id
from tests.support.machine import DAY_S, Machine


def test_this_machine_tells_its_boot_and_the_time_since() -> None:
    assert len(read_boot_id()) == 36
    assert boot_time_s() > 0


def test_it_counts_on_over_a_restart_of_the_process(tmp_path: Path, machine: Machine) -> None:
    first = PoweredClock(tmp_path)
    first.persist()
    machine.run(500)
    assert PoweredClock(tmp_path).powered_s() == pytest.approx(500), "the machine was on meanwhile"
    assert first.powered_s() == pytest.approx(500)


def test_a_new_boot_counts_on_from_the_last_reading_whatever_its_uptime(
    tmp_path: Path, machine: Machine
) -> None:
    first = PoweredClock(tmp_path)
    machine.run(1000)
    first.persist()
    machine.run(30)  # not persisted: lost, which keeps longer
    machine.reboot(off_s=200 * DAY_S, up_s=50 * DAY_S)
    again = PoweredClock(tmp_path)
    assert again.powered_s() == pytest.approx(1000)
    machine.run(7)
    assert again.powered_s() == pytest.approx(1007)


def test_where_nothing_names_the_boot_it_counts_on_from_the_last_reading(
    tmp_path: Path, machine: Machine
) -> None:
    machine.boot = ""
    first = PoweredClock(tmp_path)
    machine.run(100)
    first.persist()
    machine.run(9000)
    assert PoweredClock(tmp_path).powered_s() == pytest.approx(100)


def test_setting_the_wall_clock_changes_nothing(tmp_path: Path, machine: Machine) -> None:
    clock = PoweredClock(tmp_path)
    machine.wall_s = 300.0
    machine.run(10)
    machine.wall_s = 2_150_000_000.0
    assert clock.powered_s() == pytest.approx(10)


@pytest.mark.parametrize(
    "content", [b"", b"boot=first 1 2", b"\xff" * 4096, b"boot=first 1.0 9e9 0.0 12345"]
)
def test_a_damaged_file_begins_anew_and_is_said(
    tmp_path: Path, machine: Machine, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "line.clock").write_bytes(content)
    clock = PoweredClock(tmp_path)
    assert clock.powered_s() == 0
    assert "nothing is deleted early" in caplog.text
    clock.persist()
    machine.run(5)
    assert PoweredClock(tmp_path).powered_s() == pytest.approx(5)


def test_what_carries_a_later_stamp_moves_it_on(tmp_path: Path, machine: Machine) -> None:
    clock = PoweredClock(tmp_path)
    clock.advance_to(700.0)
    clock.advance_to(300.0)
    assert clock.powered_s() == pytest.approx(700)
    assert clock.began_s == pytest.approx(700), "what has no stamp counts from now, not from 0"
    clock.persist()
    machine.run(50)
    again = PoweredClock(tmp_path)
    again.advance_to(790.0)
    assert (again.powered_s(), again.began_s) == (pytest.approx(790), pytest.approx(700))


def test_a_disk_that_refuses_it_is_said_once(
    tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    clock = PoweredClock(tmp_path / "missing")
    with caplog.at_level(logging.WARNING):
        clock.persist()
        clock.persist()
    assert caplog.text.count("cannot be written") == 1


@pytest.mark.parametrize(
    ("kept", "now", "expected_s"),
    [
        (Stamp(10, 1000, True), Stamp(110, 1100, True), 100),
        # judged in 1970, then NTP answered
        (Stamp(10, 300, False), Stamp(110, 1.8e9, True), 100),
        (Stamp(10, 1.8e9, True), Stamp(110, 2.2e9, True), 100),  # a wrong server: 2038
        # both believed: the smaller one
        (Stamp(10, 1050, True), Stamp(110, 1100, True), 50),
        (Stamp(10, 1050, True), Stamp(110, 1100, False), 100),
        (Stamp(10, 4700, True), Stamp(110, 1100, True), 0),  # an hour back
        (Stamp(900, 1000, False), Stamp(110, 1100, True), 0),  # the counter was lost
    ],
)
def test_an_age_is_the_smaller_of_two_and_never_negative(
    kept: Stamp, now: Stamp, expected_s: float
) -> None:
    assert age_s(kept, now) == expected_s
