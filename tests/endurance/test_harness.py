"""The harness itself: every promise that it watches is seen to be broken when it is."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.endurance.harness import wrongs_of
from tests.support.broker import Received, free_port, wait_until
from tests.support.plant import Archive, Plc
from tests.support.proxy import Proxy, client_id_of

NOW_S = 1_800_000_000.0


def record_of(seq: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"s1-{seq}",
        "seq": seq,
        "part": f"P{seq}",
        "code": 1,
        "reason": "normal",
        "score": 1.0,
        "thr": 2.0,
        "judged_at": "2027-01-15T08:00:00.100Z",
        "judge_ms": 100,
        "clock_synced": True,
        "replay": False,
        **changes,
    }


def message_of(
    topic: str, content: dict[str, Any], dup: bool = False, at_s: float = NOW_S + 0.2
) -> Received:
    return Received(topic, json.dumps(content).encode(), retain=False, dup=dup, at_s=at_s)


def rig_of(count: int = 3) -> Any:
    """A line that decided `count` parts and kept every promise."""
    archive, plc = Archive.__new__(Archive), Plc.__new__(Plc)
    archive.kept, archive.order, archive.doubled, archive.changed = {}, [], [], []
    plc.acted, plc.ignored, plc.last_seq = [], [], 0
    records = [record_of(seq) for seq in range(1, count + 1)]
    for record in records:
        archive.take(message_of("record", record))
        plc.take(message_of("verdict", {**record, "at": NOW_S * 1000}))
    return SimpleNamespace(
        archive=archive, plc=plc, records=lambda: records, dark=[], complaints=[]
    )


def lose(rig: Any) -> None:
    del rig.archive.kept[2]


def double(rig: Any) -> None:
    rig.archive.take(message_of("record", record_of(2)))


def change(rig: Any) -> None:
    rig.archive.take(message_of("record", record_of(2, score=1.5, replay=True)))


def swap(rig: Any) -> None:
    rig.archive.order.reverse()


def contradict(rig: Any) -> None:
    rig.archive.kept[2]["code"] = 2


def tell_twice(rig: Any) -> None:
    rig.plc.take(message_of("verdict", {**record_of(2), "at": NOW_S * 1000}))


def tell_what_is_not_stored(rig: Any) -> None:
    del rig.archive.kept[3]
    rig.records().pop()


def act_late(rig: Any) -> None:
    rig.archive.kept[3]["judged_at"] = "2027-01-15T07:59:50.000Z"


def judge_in_the_dark(rig: Any) -> None:
    rig.dark.append((NOW_S - 1.0, NOW_S + 1.0))


def test_a_line_that_keeps_its_promises_has_nothing_wrong() -> None:
    rig = rig_of()
    rig.archive.take(message_of("record", record_of(2, replay=True)))
    rig.archive.take(message_of("record", record_of(3), dup=True))
    assert wrongs_of(rig, 3) == []


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lose, "never reached the archive"),
        (double, "were not marked"),
        (change, "two contents"),
        (swap, "out of order"),
        (contradict, "something else than their records"),
        (tell_twice, "told twice"),
        (tell_what_is_not_stored, "no record has"),
        (act_late, "acted on late"),
        (judge_in_the_dark, "while the lens was covered"),
    ],
)
def test_a_broken_promise_is_told(breaks: Callable[[Any], None], said: str) -> None:
    rig = rig_of()
    breaks(rig)
    assert any(said in sentence for sentence in wrongs_of(rig, 3)), wrongs_of(rig, 3)


@pytest.mark.parametrize(("at_ms", "acted"), [(0, 1), (-1900, 1), (-2100, 0), (3000, 0), (None, 0)])
def test_a_plc_acts_on_what_was_captured_just_now(at_ms: int | None, acted: int) -> None:
    plc = rig_of(0).plc
    at = None if at_ms is None else NOW_S * 1000 + at_ms
    plc.take(message_of("verdict", {**record_of(1), "at": at}, at_s=NOW_S))
    assert (len(plc.acted), len(plc.ignored)) == (acted, 1 - acted)


# --- the network ---


@pytest.fixture
def echo() -> Iterator[tuple[Proxy, socket.socket]]:
    """A proxy before a server that the test plays itself."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        server.settimeout(60)
        proxy = Proxy(server.getsockname()[1])
        proxy.start()
        yield proxy, server
        proxy.stop()


def connected(proxy: Proxy, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """The station's end and the broker's; the first byte has passed."""
    station = socket.create_connection(("127.0.0.1", proxy.port), 60)
    broker, _ = server.accept()
    broker.settimeout(60)
    station.sendall(b"-")
    assert broker.recv(1) == b"-"
    return station, broker


def test_bytes_pass_wait_and_arrive_in_order(echo: tuple[Proxy, socket.socket]) -> None:
    proxy, server = echo
    station, broker = connected(proxy, server)
    with station, broker:
        station.sendall(b"a")
        assert broker.recv(10) == b"a"
        proxy.delay(0.3)
        sent_s = time.monotonic()
        station.sendall(b"b")
        time.sleep(0.05)
        proxy.stall()
        station.sendall(b"c")
        proxy.heal()
        assert b"".join(broker.recv(1) for _ in range(2)) == b"bc"
        assert time.monotonic() - sent_s >= 0.3


def test_a_reset_and_a_refusal_end_connections(echo: tuple[Proxy, socket.socket]) -> None:
    proxy, server = echo
    station, broker = connected(proxy, server)
    with station, broker:
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            station.recv(1)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), 60)
        proxy.heal()
    station, broker = connected(proxy, server)
    with station, broker:
        proxy.half_close()
        assert station.recv(1) == b""
        station.sendall(b"still sent")
        assert broker.recv(20) == b"still sent"


def test_swallowed_bytes_never_arrive_and_their_connection_does_not_outlive_them(
    echo: tuple[Proxy, socket.socket],
) -> None:
    proxy, server = echo
    station, broker = connected(proxy, server)
    with station, broker:
        proxy.swallow()
        station.sendall(b"lost")
        wait_until(
            lambda: any(pair.lost_bytes for pair in proxy._pairs), 10, "nothing was swallowed"
        )
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            station.recv(1)


def test_the_client_identifier_is_read_from_either_version() -> None:
    new = b"\x10\x16\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a\x00\x04abcd"
    old = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd"
    assert client_id_of(new) == client_id_of(old) == "abcd"
