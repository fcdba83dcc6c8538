"""The simulated PLC's end of OPC UA, against the server and a played station."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ConfigError, EdgeError
from edge.line.inbound import Refusal, TriggerRequest
from edge.opcua.users import read_users
from edge.simulate.link import Acked, Event, PlcLink, Readiness, StationAddress, Told, make_link
from edge.simulate.opcua import GUEST
from tests.edge.opcua.conftest import Cell
from tests.support.broker import wait_until
from tests.support.opcua import FOLDER, free_port, opcua_config


def of_part(link: PlcLink, part: str, seen: list[Event], count: int = 2) -> list[Event]:
    """What was heard of a part; `seen` gets everything."""

    def found() -> list[Event]:
        seen.extend(link.events())
        return [one for one in seen if not isinstance(one, Readiness) and one.part == part]

    wait_until(lambda: len(found()) >= count, 20, f"nothing of {part}")
    return found()


def test_it_triggers_hears_and_leaves_nothing_behind(cell: Cell) -> None:
    link = make_link("opcua", StationAddress(opcua_config(cell.station.port), cell.root))
    assert isinstance(link, PlcLink)
    assert not link.trigger(TriggerRequest("C0", 500, 1))
    seen: list[Event] = []
    link.connect(60)
    try:
        assert link.trigger(TriggerRequest("C1", 500, 7, delay_ms=40, frames=3, enc=9))
        events = of_part(link, "C1", seen)
        seq = cell.station.seq
        (ack,) = (one for one in events if isinstance(one, Acked))
        assert (ack.n, ack.accepted, ack.reason, ack.seq) == (7, True, "", seq)
        (told,) = (one for one in events if isinstance(one, Told))
        assert (told.n, told.seq, told.code, told.reason) == (7, seq, 2, "anomaly")
        asked = cell.station.asked[-1].request
        assert (asked.deadline_ms, asked.delay_ms, asked.frames, asked.enc) == (500, 40, 3, 9)
        cell.station.refuses = Refusal.BUSY
        assert link.trigger(TriggerRequest("C2", 500, 8))
        (refused,) = of_part(link, "C2", seen, count=1)
        assert isinstance(refused, Acked)
        assert (refused.accepted, refused.reason, refused.seq) == (False, "busy", None)
        assert any(isinstance(one, Readiness) and one.ready for one in seen)
    finally:
        link.close()
    link.close()
    assert GUEST not in read_users(cell.root / FOLDER / "users.json")
    assert not (cell.root / FOLDER / "trusted" / f"{GUEST}.der").exists()


def test_a_server_that_is_not_there_is_one_sentence(cell: Cell) -> None:
    link = make_link("opcua", StationAddress(opcua_config(free_port()), cell.root))
    with pytest.raises(EdgeError, match="cannot be used within"):
        link.connect(0.3)


def test_it_is_refused_where_it_cannot_log_in(tmp_path: Path) -> None:
    config = opcua_config(4840)
    with pytest.raises(ConfigError, match="on the station itself"):
        make_link("opcua", StationAddress(config, tmp_path))
    off = config.model_copy(update={"opcua": config.opcua.model_copy(update={"enabled": False})})
    with pytest.raises(ConfigError, match="enabled is false"):
        make_link("opcua", StationAddress(off, tmp_path))
