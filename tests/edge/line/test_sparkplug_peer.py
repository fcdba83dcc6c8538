"""Eclipse Tahu's Sparkplug for Node.js reads what the station publishes and asks it for births."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from edge.line.outbox import Outbox
from edge.line.sparkplug_metrics import device_values, node_values
from tests.support.broker import Broker, wait_until
from tests.support.line import build
from tests.support.peers import PEERS, node_modules
from tests.support.sparkplug import BY_ALIAS, NAMES, Station, commit, started_sparkplug, wait_born


class Peer:
    """What it has printed: one object for each message."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.said: list[dict[str, Any]] = []
        self._stdin: IO[str] = process.stdin
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one["payload"] for one in list(self.said) if f"/{kind}/" in one.get("topic", "")]

    def wait(self, kind: str, count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.of(kind)) >= count, 20, f"not {count} {kind}: {self.said}")
        return self.of(kind)

    def ask_rebirth(self) -> None:
        self._stdin.write("rebirth\n")
        self._stdin.flush()

    def _read(self, lines: IO[str]) -> None:
        self.said.extend(map(json.loads, lines))


@contextmanager
def listening(port: int) -> Iterator[Peer]:
    modules = node_modules("sparkplug")
    process = subprocess.Popen(
        ["node", str(PEERS / "sparkplug" / "peer.js"), str(port), "plant", "line:cell7"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "NODE_PATH": str(modules)},
    )  # fmt: skip
    try:
        peer = Peer(process)
        wait_until(lambda: peer.said, 20, "the peer did not connect")
        yield peer
    finally:
        process.kill()
        process.communicate()


def values(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        metric.get("name") or BY_ALIAS[metric["alias"]].name: metric["value"]
        for metric in payload["metrics"]
    }


def by_name(values: dict[Any, Any]) -> dict[str, Any]:
    return {metric.name: value for metric, value in values.items()}


@pytest.mark.endurance
def test_an_independent_host_reads_every_value_and_is_given_births(
    broker: Broker, outbox: Outbox
) -> None:
    station = Station()
    with listening(broker.port) as peer:
        with started_sparkplug(broker.port, outbox, station) as line:
            wait_born(line)
            commit(line, outbox, 1)
            (record,) = peer.wait("DDATA", 1)
            (birth,), (device,) = peer.of("NBIRTH"), peer.of("DBIRTH")
            station.change(camera_temperature_c=41.5)
            line.state_changed()
            (change,) = peer.wait("NDATA", 1)
            peer.ask_rebirth()
            again = peer.wait("DBIRTH", 2)[1]
        death = peer.wait("NDEATH", 1)[0]
    # a Float is a 32-bit number to JavaScript, which prints all of its digits
    found = {key: round(one, 6) if isinstance(one, float) else one
             for key, one in values(record).items()}  # fmt: skip
    assert found == by_name(device_values(build(1)))
    state = by_name(node_values(Station().state, NAMES, 0))
    assert values(birth) == {"bdSeq": 0, "Node Control/Rebirth": False, **state}
    assert set(values(device).values()) == {None}
    assert values(change) == {"camera_temperature_c": 41.5}
    assert values(again) == values(record)
    assert [one["seq"] for one in (birth, device, record, change)] == [0, 1, 2, 3]
    types = {metric["name"]: metric["type"] for metric in birth["metrics"]}
    assert (types["bdSeq"], types["ready"], types["ok"]) == ("Int64", "Boolean", "UInt64")
    assert values(death) == {"bdSeq": 0}
