"""A station that starts in another power mode than it was commissioned in judges, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.board.power import PLACE
from edge.runtime.service import Service
from edge.types import Reason
from tests.support.board_tree import lay_board, put
from tests.support.fakes import committed, frame_of
from tests.support.service import new_service
from tests.support.station import EMPTY, GOOD, StationRoot

RECORD = '{"schema": 1, "mode": "MAXN_SUPER", "clocks": "default", "who": "a", "when": "b"}'
PART = [frame_of(shot, number + 1) for number, shot in enumerate([EMPTY] * 3 + [GOOD] * 6)]


@pytest.fixture
def board(station: StationRoot) -> StationRoot:
    lay_board(station.root)
    put(station.root, str(PLACE), RECORD)
    return station


def run(station: StationRoot) -> Service:
    service = new_service(station, PART)
    service.run()
    return service


def test_in_the_commissioned_mode_nothing_is_said(board: StationRoot) -> None:
    assert run(board).health.state()[:2] == ("online", "")


def test_in_another_mode_parts_are_judged_and_the_state_is_degraded(
    board: StationRoot, caplog: pytest.LogCaptureFixture
) -> None:
    put(board.root, "var/lib/nvpmodel/status", "pmode:0001")
    health = run(board).health
    assert health.state() == ("degraded", "power", True)
    assert health.why.startswith("the board is in power mode 25W, this station was commissioned in")
    assert "commissioned in MAXN_SUPER" in caplog.text
    assert [record["reason"] for record in committed(board.root)] == ["normal"]
    health.note_lost(Reason.CAMERA_LOST)
    assert health.state() == ("degraded", "camera_lost", False)


def test_a_damaged_record_does_not_keep_the_station_from_judging(board: StationRoot) -> None:
    put(board.root, str(PLACE), "{")
    health = run(board).health
    assert health.state() == ("degraded", "power", True)
    assert "power.json is damaged" in health.why


def test_a_board_that_does_not_answer_is_as_commissioned(board: StationRoot) -> None:
    put(board.root, "usr/sbin/nvpmodel", "#!/bin/sh\nexit 1\n")
    (Path(board.root) / "var/lib/nvpmodel/status").unlink()
    assert run(board).health.state()[:2] == ("online", "")
