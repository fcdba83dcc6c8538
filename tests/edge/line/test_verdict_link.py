"""A verdict counts as sent when the broker delivers it, and nothing is said over a link that is not
known to work.
"""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from edge.line.outbox import Outbox
from tests.support.broker import Broker, Subscriber, wait_until
from tests.support.fake_broker import FakeBroker
from tests.support.line import PREFIX, build, new_line, started, tell, wait_problem, wait_ready
from tests.support.proxy import Proxy

ALL = f"topic readwrite {PREFIX}/#\n"


def only(*names: str) -> str:
    """An access list that lets everybody read and publish these alone."""
    return "topic read edge/#\n" + "".join(f"topic write {PREFIX}/{name}\n" for name in names)


@pytest.mark.endurance
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_station_without_parts_knows_that_it_may_not_publish(
    tmp_path: Path, outbox: Outbox, protocol: str
) -> None:
    acl = only("record", "state", "verdict", "verdict/code")
    with (
        Broker(tmp_path / "guarded", acl=acl) as guarded,
        started(guarded.port, outbox, protocol=protocol) as line,
    ):
        wait_problem(line, "publish")
        assert line.verdict_problem is not None
        assert "heartbeat" in line.verdict_problem
        if protocol == "5":
            assert (
                line.verdict_problem
                == f"the broker refuses {PREFIX}/heartbeat: Not authorized (0x87): allow this user"
                " to publish there, in the broker's access list"
            )
        guarded.reload(ALL)
        wait_ready(line)


@pytest.mark.endurance
@pytest.mark.parametrize("denied", ["verdict", "verdict/code"])
def test_a_verdict_that_the_broker_discards_is_not_sent(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture, denied: str
) -> None:
    names = {"record", "state", "heartbeat", "verdict", "verdict/code"} - {denied}
    with (
        Broker(tmp_path / "guarded", acl=only(*names)) as guarded,
        started(guarded.port, outbox) as line,
    ):
        wait_ready(line)
        assert tell(line, outbox)  # the library took it: nobody knows yet
        wait_problem(line, f"the broker discards {PREFIX}/{denied}, later messages came back")
        if denied == "verdict":
            assert (line.counters.verdicts_sent, line.counters.verdicts_unsent) == (0, 1)
        guarded.reload(ALL)
        wait_ready(line)
        assert tell(line, outbox)
        wait_until(lambda: "verdicts come back again" in caplog.text, 60, "the end was not told")
        assert line.counters.verdicts_sent == (1 if denied == "verdict" else 2)
    assert caplog.text.count("the broker discards") == 1


def test_a_refused_subscription_is_said(outbox: Outbox) -> None:
    with FakeBroker(suback=0x87) as broker, started(broker.port, outbox) as line:
        wait_problem(line, "the broker refuses the subscription of")
        assert "(0x87)" in (line.problem or "")


@pytest.mark.endurance
def test_a_stalled_broker_gets_no_second_verdict_and_the_first_one_is_not_counted(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    """SIGSTOP: the kernel goes on acknowledging bytes that the broker will deliver whenever it
    wakes.
    """
    with started(broker.port, outbox) as line:
        wait_ready(line)
        broker.signal(signal.SIGSTOP)
        handed = 0
        end_s = time.monotonic() + 60
        while line.verdict_problem is None and time.monotonic() < end_s:
            handed += tell(line, outbox)
            time.sleep(0.02)
        assert line.verdict_problem is not None
        told, at_s = [tell(line, outbox) for _ in range(10)], time.time()
        broker.signal(signal.SIGCONT)
        assert not any(told)
        wait_ready(line)
        counters = line.counters
        wait_until(
            lambda: counters.verdicts_sent + counters.verdicts_unsent >= handed + 10,
            60,
            "not counted",
        )
        assert tell(line, outbox)
        wait_until(lambda: line.counters.verdicts_sent >= 1, 60, "the link did not come back")
        late = [one for one in archive.of("verdict") if one.at_s > at_s]
        # those of the half second in which nobody could know, and the one after it
        assert len(late) <= handed + 1 < 80


def test_a_verdict_that_does_not_come_back_ends_the_connection_and_drops_what_is_unsent(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = {"now": False}
    with (
        FakeBroker(delivers=lambda _: not deaf["now"]) as broker,
        started(broker.port, outbox) as line,
    ):
        wait_ready(line)
        connects = len(broker.connects)
        deaf["now"] = True
        assert tell(line, outbox, deadline_s=1.0)
        wait_problem(line, "did not come back before the deadline")
        wait_until(lambda: len(broker.connects) > connects, 60, "not connected anew")
        deaf["now"] = False
        wait_ready(line)
        assert (line.counters.verdicts_sent, line.counters.verdicts_unsent) == (0, 1)
    assert "did not come back before the deadline" in caplog.text


def test_the_heartbeat_counts_and_says_what_ready_says(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    ready = {"is": True}
    line = new_line(broker.port, outbox)
    line._ready = lambda: ready["is"]
    line.start()
    wait_until(lambda: len(archive.of("heartbeat")) >= 2, 60, "no heartbeat")
    ready["is"] = False
    wait_until(
        lambda: not archive.of("heartbeat")[-1].json["ready"], 60, "the heartbeat does not follow"
    )
    beats = [json.loads(one.payload) for one in archive.of("heartbeat")]
    assert [beat["n"] for beat in beats] == list(range(1, len(beats) + 1))
    assert not any(one.retain for one in archive.of("heartbeat"))
    assert list(beats[0]) == ["n", "ready", "run"]
    line.stop()


def test_a_verdict_leaves_at_once_and_with_its_code(outbox: Outbox) -> None:
    """Both in one read of the broker's, on a socket without Nagle's algorithm."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = new_line(server.getsockname()[1], outbox)
        line._verdicts.start()
        client = server.accept()[0]
        client.recv(1000)
        client.sendall(bytes([0x20, 3, 0, 0, 0]))
        wait_until(lambda: line.is_connected, 60, "not connected")
        connection = line._verdicts.link.connection
        assert connection is not None
        assert connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.recv(10_000)  # subscriptions
        assert tell(line, outbox)
        read = b""
        while b"/verdict{" not in read.replace(b"\x05\x02\0\0\0\x02", b""):
            read = client.recv(10_000)
        assert b"1 1 A17" in read
        line.stop()
        client.close()


@pytest.mark.long
def test_a_link_of_three_seconds_each_way_connects_and_its_records_arrive(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    """`ready` stays false: a verdict could not be there before its deadline."""
    with Proxy(broker.port) as slow:
        slow.delay(3.0)
        with started(slow.port, outbox) as line:
            assert line.wait_connected(60)
            tell(line, outbox)
            wait_until(lambda: archive.of("record"), 60, "no record")
            wait_problem(line, "does not come back within 2 s")
            assert not tell(line, outbox)


def test_nothing_is_sent_behind_bytes_that_are_still_in_this_machine(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeBroker() as broker, started(broker.port, outbox) as line:
        wait_ready(line)
        monkeypatch.setattr("edge.line.tcp.unsent_bytes", lambda _: 200)
        assert not tell(line, outbox)
        monkeypatch.undo()
        assert tell(line, outbox)
        wait_until(lambda: broker.of("verdict"), 60, "no verdict")
        assert [one.payload[:20] for one in broker.of("verdict")] == [b'{"id":"s1-2","seq":2']


def test_a_verdict_says_when_its_part_was_captured_and_how_long_it_took(outbox: Outbox) -> None:
    with FakeBroker() as broker, started(broker.port, outbox) as line:
        wait_ready(line)
        fields = {**outbox.commit(build), "at": 1795366800123}
        # captured half a second ago
        assert line.publish_verdict(fields, time.monotonic_ns() + 1_500_000_000)
        wait_until(lambda: broker.of("verdict"), 60, "no verdict")
        said = json.loads(broker.of("verdict")[0].payload)
        assert said["at"] == 1795366800123
        assert 500 <= said["ms"] < 60_000
