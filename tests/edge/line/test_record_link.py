"""Records reach the archive all and in order, several at a time; what the broker refuses stays and
is said.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edge.errors import StorageError
from edge.line.outbox import Outbox
from edge.line.records import WINDOW
from tests.support.broker import Broker, Subscriber, assert_archive_is_complete, wait_until
from tests.support.fake_broker import FakeBroker, Publication
from tests.support.line import PREFIX, build, drain, started, wait_problem, wait_ready
from tests.support.proxy import Proxy


def fill(outbox: Outbox, count: int) -> None:
    for _ in range(count):
        outbox.commit(build)


def sequence(broker: FakeBroker) -> list[int]:
    """The numbers of the records as they arrived."""
    return [int(one.payload.split(b'"seq":')[1].split(b",")[0]) for one in broker.of("record")]


def test_several_are_in_flight_and_none_waits_for_the_one_before(outbox: Outbox) -> None:
    """No acknowledgement comes until a whole window has left: one at a time would never get
    there.
    """
    fill(outbox, WINDOW)
    seen = threading.Event()

    def puback(one: Publication) -> int | None:
        if one.topic.endswith("/record"):
            seen.set() if len(sequence(broker)) >= WINDOW else None
            return None
        return 0

    with FakeBroker(puback=puback) as broker, started(broker.port, outbox):
        assert seen.wait(60)
        assert sequence(broker) == list(range(1, WINDOW + 1))
        assert outbox.counts()["waiting"] == WINDOW


@pytest.mark.parametrize(("allowed", "in_flight"), [(1, 1), (2, 1), (5, 4)])
def test_no_more_are_in_flight_than_the_broker_allows(
    outbox: Outbox, allowed: int, in_flight: int
) -> None:
    """Receive Maximum of CONNACK (MQTT 5.0, section 3.2.2.3.3); one place is the state's."""
    fill(outbox, 12)
    answers = {"record": False}

    def puback(one: Publication) -> int | None:
        return 0 if answers["record"] or not one.topic.endswith("/record") else None

    with FakeBroker(connack=bytes([0, 0, 3, 0x21, 0, allowed]), puback=puback) as broker:
        with started(broker.port, outbox) as line:
            wait_until(lambda: len(sequence(broker)) == in_flight, 60, "nothing was sent")
            line.records_waiting()
            wait_until(lambda: len(broker.of("heartbeat")) >= 2, 60, "no heartbeat")
            assert len(sequence(broker)) == in_flight
        answers["record"] = True
        outbox.close()
        again = Outbox(outbox.path)
        with started(broker.port, again):
            drain(again, 60)
        again.close()
        assert sequence(broker)[in_flight:] == list(range(1, 13))


def test_what_was_in_flight_when_the_connection_broke_is_repeated_in_order_and_marked(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    fill(outbox, 200)
    with Proxy(broker.port) as link, started(link.port, outbox) as line:
        wait_until(lambda: len(archive.records()) > 20, 60, "no records")
        link.stall()
        connection = line._records.link.connection
        assert connection is not None
        connection._socket.shutdown(2)
        link.heal()
        drain(outbox, 60)
        wait_until(
            lambda: archive.records() and archive.records()[-1]["seq"] == 200, 60, "not all arrived"
        )
    assert_archive_is_complete(archive.records(), list(range(1, 201)))


@pytest.mark.endurance
def test_a_slow_link_does_not_slow_the_archive(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    """300 records over a round trip of 0.3 s: one at a time would take 90 s."""
    fill(outbox, 300)
    with Proxy(broker.port) as slow:
        slow.delay(0.15)
        with started(slow.port, outbox):
            drain(outbox, 60)
            wait_until(lambda: len(archive.records()) >= 300, 60, "records are missing")
    assert [record["seq"] for record in archive.records()] == list(range(1, 301))


@pytest.mark.endurance
def test_a_refused_record_stays_is_said_once_and_leaves_when_it_may(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    refuses = {"now": True}
    fill(outbox, 5)

    def puback(one: Publication) -> int:
        return 0x97 if refuses["now"] and one.topic.endswith("/record") else 0

    with FakeBroker(puback=puback) as broker, started(broker.port, outbox) as line:
        wait_problem(
            line,
            f"the broker refuses {PREFIX}/record: Quota exceeded (0x97): raise the broker's quota",
        )
        assert line.verdict_problem is None or "nothing yet" in line.verdict_problem
        wait_until(lambda: sequence(broker)[5:] == [1], 60, "not tried again, alone")
        states = len(broker.of("state"))
        line.state_changed()
        wait_until(
            lambda: len(broker.of("state")) > states, 60, "records that wait block the state"
        )
        assert (outbox.counts()["waiting"], line.counters.records_sent) == (5, 0)
        refuses["now"] = False
        drain(outbox, 60)
        wait_until(lambda: line.problem is None, 60, "it is still a problem")
        accepted = sequence(broker)[-5:]
    assert accepted == [1, 2, 3, 4, 5]
    assert caplog.text.count("0x97") == 1
    assert "records are accepted again, after" in caplog.text


def test_an_acknowledgement_that_overtakes_waits_for_the_one_before(outbox: Outbox) -> None:
    held: list[int] = []
    fill(outbox, 3)

    def puback(one: Publication) -> int | None:
        """The first record is not answered until somebody has looked."""
        if one.topic.endswith("/record") and not held:
            held.append(one.number)
            return None
        return 0

    with FakeBroker(puback=puback) as broker, started(broker.port, outbox) as line:
        wait_until(lambda: len(sequence(broker)) == 3, 60, "not three in flight")
        wait_until(
            lambda: (
                sum(one.delivery.is_acknowledged for one in line._records._flight.values()) == 2
            ),
            60,
            "no answers",
        )
        assert outbox.counts()["waiting"] == 3
        assert line.counters.records_sent == 0


@pytest.mark.endurance
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_access_list_that_denies_records_is_said_and_none_counts_as_sent(
    tmp_path: Path, outbox: Outbox, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In MQTT 3.1.1 mosquitto acknowledges what it throws away: the station sees that nothing comes
    back.
    """
    monkeypatch.setattr("edge.line.delivery.ACK_S", 1.0)
    rest = "".join(
        f"topic write {PREFIX}/{name}\n"
        for name in ("verdict", "verdict/code", "heartbeat", "state")
    )
    fill(outbox, 3)
    with Broker(tmp_path / "guarded", acl=f"topic read edge/#\n{rest}") as guarded:
        archive = Subscriber(guarded.port)
        with started(guarded.port, outbox, protocol=protocol) as line:
            wait_problem(line, f"{PREFIX}/record")
            wait_ready(line)
            assert line.record_problem is not None
            assert outbox.counts()["waiting"] == 3
            monkeypatch.setattr("edge.line.delivery.ACK_S", 15.0)
            guarded.reload(f"topic readwrite {PREFIX}/#\ntopic read edge/#\n")
            drain(outbox, 60)
            wait_until(lambda: len(archive.records()) >= 3, 60, "they did not arrive")
            wait_until(lambda: line.problem is None, 60, "it is still a problem")
        assert_archive_is_complete(archive.records(), [1, 2, 3])
        archive.stop()


def test_the_brokers_maximum_packet_size_is_said_once_with_the_size_of_a_record(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    fill(outbox, 3)
    with (
        Broker(tmp_path / "small", extra="max_packet_size 400\n") as small,
        started(small.port, outbox) as line,
    ):
        wait_problem(line, "the broker takes packets of at most 400 bytes and a record has 5")
        outbox.commit(build)
        line.records_waiting()
        wait_ready(line)
        assert outbox.counts()["waiting"] == 4
        wait_until(lambda: line._records._state.sent is None, 60, "the state was not told")
    assert caplog.text.count("400 bytes") == 1


def test_a_broker_that_acknowledges_nothing_at_all_by_its_configuration(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    fill(outbox, 1)
    with Broker(tmp_path / "plain", extra="max_qos 0\n") as plain:
        page = Subscriber(plain.port, "page", qos=0)
        with started(plain.port, outbox) as line:
            wait_problem(line, "QoS 0 only")
            wait_ready(line)
            wait_until(lambda: page.of("state"), 60, "no state")
            assert outbox.counts()["waiting"] == 1
        page.stop()
    assert [one.message for one in caplog.records if one.levelname == "ERROR"] == [
        "the broker takes QoS 0 only and acknowledges nothing: allow QoS 1 in its configuration."
        " Records wait in the outbox"
    ]


def test_a_broker_that_retains_nothing_gets_the_state_unretained(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    fill(outbox, 1)
    with Broker(tmp_path / "fleeting", extra="retain_available false\n") as fleeting:
        page = Subscriber(fleeting.port, "page")
        with started(fleeting.port, outbox) as line:
            drain(outbox, 60)
            wait_ready(line)
            wait_until(lambda: page.of("state"), 60, "no state")
        page.stop()
    assert "retains no message" in caplog.text


def test_the_state_is_told_while_the_disk_does_not_answer(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise StorageError("input/output error")

    monkeypatch.setattr(outbox, "unsent", broken)
    with FakeBroker() as broker, started(broker.port, outbox) as line:
        wait_until(lambda: "records wait: input/output error" in caplog.text, 60, "not said")
        states = len(broker.of("state"))
        line.state_changed()
        wait_until(lambda: len(broker.of("state")) > states, 60, "no state")
        monkeypatch.undo()
        wait_until(lambda: "records leave again, after" in caplog.text, 60, "the end was not said")
    assert caplog.text.count("input/output error") == 1


def test_mqtt_3_1_1_carries_everything(broker: Broker, archive: Subscriber, outbox: Outbox) -> None:
    fill(outbox, 30)
    with started(broker.port, outbox, protocol="3.1.1") as line:
        wait_ready(line)
        fields = outbox.commit(build)
        assert line.publish_verdict(fields, time.monotonic_ns() + 2_000_000_000)
        line.records_waiting()
        drain(outbox, 60)
        wait_until(lambda: line.counters.verdicts_sent == 1, 60, "the verdict did not come back")
        wait_until(lambda: len(archive.records()) == 31, 60, "records are missing")
    assert_archive_is_complete(archive.records(), list(range(1, 32)))
    wait_until(lambda: archive.of("state")[-1].json["reason"] == "stopped", 60, "no goodbye")
