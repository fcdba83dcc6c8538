"""Every line offers what a running station calls."""

from __future__ import annotations

import inspect

import pytest

from edge.config import EdgeConfig
from edge.line.base import Line, LineSetup
from edge.line.message import StationState
from edge.line.none import NoLine
from edge.line.opcua import OpcUaLine
from edge.line.outbox import Outbox
from edge.line.several import SeveralLines
from tests.support.line import build, new_line

MEMBERS = [name for name in vars(Line) if not name.startswith("_")]
METHODS = [name for name in MEMBERS if inspect.isfunction(vars(Line)[name])]


@pytest.fixture(params=["mqtt", "opcua", "none", "several"])
def line(request: pytest.FixtureRequest, outbox: Outbox) -> Line:
    state = StationState("s1", "online", "", ready=True)
    setup = LineSetup(EdgeConfig(), outbox.path.parent, outbox, lambda: state, lambda: True,
                      changed=lambda: None)  # fmt: skip
    lines: dict[str, Line] = {
        "mqtt": new_line(1, outbox),
        "opcua": OpcUaLine(setup),
        "none": NoLine(),
    }
    return lines.get(request.param) or SeveralLines(lines)


def test_it_has_every_member_of_the_protocol(line: Line) -> None:
    assert isinstance(line, Line)
    assert len(MEMBERS) > len(METHODS) > 0


@pytest.mark.parametrize("name", METHODS)
def test_its_methods_take_the_same_arguments(line: Line, name: str) -> None:
    asked, offered = (inspect.signature(getattr(one, name)) for one in (Line, type(line)))
    assert offered == asked


def test_without_a_broker_nothing_is_wrong_waited_for_or_told(outbox: Outbox) -> None:
    line = NoLine()
    line.start()
    assert (line.verdict_problem, line.record_problem, line.problem) == (None, None, None)
    assert line.wait_connected(60)
    assert not line.is_connected
    assert not line.publish_verdict(outbox.commit(build), 0)
    line.records_waiting()
    line.state_changed()
    line.stop()
    assert (line.backlog, line.heartbeats, line.counters.verdicts_unsent) == (0, 0, 0)


def test_the_backlog_of_mqtt_is_what_the_broker_has_not_acknowledged(outbox: Outbox) -> None:
    line = new_line(1, outbox)
    for _ in range(3):
        outbox.commit(build)
    outbox.mark_sent([1])
    assert line.backlog == 2
