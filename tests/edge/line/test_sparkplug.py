"""The Sparkplug line against a real mosquitto: no record is lost, nobody can harm it, and it harms
nobody.
"""

from __future__ import annotations

import functools
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import EdgeConfig, parse_config
from edge.errors import ConfigError, MissingDependency
from edge.line.base import LineSetup
from edge.line.factory import dialects_of, make_line
from edge.line.message import Record, StationState, TriggerCounts, Triggered, record_fields
from edge.line.outbox import Outbox
from edge.line.several import SeveralLines
from edge.line.sparkplug import NAME, SparkplugLine
from edge.line.sparkplug_host import PrimaryHost
from edge.line.sparkplug_link import FILE_NAME, BirthNumbers
from edge.line.sparkplug_metrics import DEVICE, NODE, device_values, node_values, time_of
from edge.line.sparkplug_schema import payload_class
from edge.types import Code
from tests.support.broker import Broker, Subscriber, free_port, wait_until
from tests.support.brokers import Mosquitto
from tests.support.fake_broker import FakeBroker
from tests.support.line import RECORD, build, drain, new_line, tell, wait_ready
from tests.support.proxy import Proxy
from tests.support.sparkplug import (
    DETAILS,
    HOST,
    NAMES,
    TOPICS,
    Host,
    command_of,
    commit,
    config_with,
    new_sparkplug,
    rebirth,
    started_sparkplug,
    wait_born,
)


@pytest.fixture
def host(broker: Broker) -> Any:
    listening = Host(broker.port)
    yield listening
    listening.stop()


def seqs(host: Host) -> list[int]:
    return [one.values["seq"] for one in host.records()]


# --- records ---


def test_a_backlog_arrives_once_in_order_marked_historical_and_no_faster_than_it_may(
    broker: Broker, host: Host, outbox: Outbox, tmp_path: Path
) -> None:
    host.say(True, 1)
    with started_sparkplug(broker.port, outbox, host_id=HOST) as line:
        wait_born(line)
        broker.stop()
        (tmp_path / "broker/mosquitto.db").unlink(missing_ok=True)  # what the host had said
        wait_until(lambda: not line.is_born, 20, "the broker's end was not noticed")
        commit(line, outbox, 50)
        broker.start()
        wait_until(lambda: host.connects == 2, 20, "the host is not back")
        wait_until(lambda: line._link.is_connected, 20, "the line is not back")
        time.sleep(0.2)
        assert not line.is_born  # the host has not said that it is online
        host.say(True, 2)
        host.wait("DDATA", 50)
        wait_until(lambda: line.backlog == 0, 20, "they were not marked")
        commit(line, outbox, 1)
        host.wait("DDATA", 51)
    assert seqs(host) == list(range(1, 52))
    assert [one.is_historical for one in host.records()] == [True] * 50 + [False]
    assert {metric.timestamp for one in host.records() for metric in one.message.metrics} == {
        time_of(build(1), 0)
    }
    took_s = host.records()[49].at_s - host.records()[0].at_s
    assert took_s > 0.2  # 20 at once, then 100 a second
    assert host.of("DBIRTH")[-1].values["seq"] == 50  # what is true now
    assert line.counters.records_sent == 51


def test_what_did_not_come_back_is_sent_by_the_next_process(
    broker: Broker, host: Host, outbox: Outbox
) -> None:
    delivered: list[object] = []

    def delivers(one: Any) -> bool:
        is_record = one.topic == TOPICS("DDATA") and len(delivered) < 20
        return is_record and not delivered.append(one)

    with FakeBroker(delivers=delivers) as deaf, started_sparkplug(deaf.port, outbox) as line:
        wait_born(line)
        commit(line, outbox, 50)
        wait_until(lambda: line.backlog == 30, 20, "20 were not marked")
    again = Outbox(outbox.path)
    with started_sparkplug(broker.port, again) as line:
        host.wait("DDATA", 30)
    again.close()
    assert seqs(host) == list(range(21, 51))
    assert all(one.is_historical for one in host.records())


def test_a_broker_that_discards_records_is_told_and_they_wait(
    tmp_path: Path,
    outbox: Outbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("BACK_S", "REFUSED_S", "REFUSED_LIMIT_S"):
        monkeypatch.setattr(f"edge.line.sparkplug_records.{name}", 0.1)
    denying = "topic readwrite spBv1.0/plant/NBIRTH/#\ntopic read #"
    with (
        Mosquitto(tmp_path / "denying", denying) as broker,
        started_sparkplug(broker.port, outbox) as line,
    ):
        host = Host(broker.port)
        wait_born(line)
        commit(line, outbox, 3)
        wait_until(lambda: "DDATA" in (line.problem or ""), 20, f"not told: {line.problem}")
        assert line.backlog == 3
        assert (line.verdict_problem, line.tells_plc) == (None, False)
        broker.allow("topic readwrite #")
        wait_until(lambda: line.backlog == 0, 20, "they did not leave")
        wait_until(lambda: line.problem is None, 20, f"not over: {line.problem}")
        host.wait("DDATA", 3)
        host.stop()
    assert [one.is_historical for one in host.records()] == [True, True, False]
    assert sum("does not deliver DDATA" in one.message for one in caplog.records) == 1


def test_a_broker_that_takes_no_packet_of_a_birth_is_told(tmp_path: Path, outbox: Outbox) -> None:
    small = Broker(tmp_path / "small", "max_packet_size 500\n")
    with small, started_sparkplug(small.port, outbox) as line:
        words = "at most 500 bytes and NBIRTH has"
        wait_until(lambda: words in (line.problem or ""), 20, f"not told: {line.problem}")


def test_the_newest_record_of_a_backlog_is_what_is_true_now_unless_births_have_told_it(
    broker: Broker, host: Host, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.sparkplug_records.BURST", 2.0)
    monkeypatch.setattr("edge.line.sparkplug_records.BACKLOG_PER_S", 20.0)
    line = new_sparkplug(broker.port, outbox)
    commit(line, outbox, 6)
    line.start()
    host.wait("DDATA", 1)
    commit(line, outbox, 2)  # while the backlog leaves
    host.wait("DDATA", 8)
    line.stop()
    assert [one.is_historical for one in host.records()] == [True] * 7 + [False]


# --- the session ---


def test_a_lost_connection_is_a_death_by_the_will_and_new_births(
    broker: Broker, host: Host, outbox: Outbox
) -> None:
    with started_sparkplug(broker.port, outbox) as line:
        host.wait("DBIRTH", 1)
        connection = line._link.connection
        assert connection is not None
        assert connection._socket is not None
        connection._socket.shutdown(socket.SHUT_RDWR)
        host.wait("DBIRTH", 2)
    assert [one.kind for one in host.heard][:5] == [
        "NBIRTH",
        "DBIRTH",
        "NDEATH",
        "NBIRTH",
        "DBIRTH",
    ]
    death = host.of("NDEATH")[0]
    assert [one.values["bdSeq"] for one in host.of("NBIRTH")] == [0, 1]
    assert (death.values["bdSeq"], death.qos, death.retain) == (0, 1, False)


def test_bdseq_goes_on_after_a_restart_and_counts_only_what_was_sent(
    host: Host, broker: Broker, outbox: Outbox
) -> None:
    closed = free_port()
    with started_sparkplug(closed, outbox) as line:  # nobody listens: no CONNECT was sent
        wait_until(lambda: "nothing listens" in (line.problem or ""), 20, "not told")
    for _ in range(2):
        with started_sparkplug(broker.port, outbox) as line:
            wait_born(line)
    host.wait("NBIRTH", 2)
    assert [one.values["bdSeq"] for one in host.of("NBIRTH")] == [0, 1]


def test_bdseq_is_0_after_255_and_where_its_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    numbers = BirthNumbers(path)
    assert numbers.next == 0
    numbers.use(255)
    assert BirthNumbers(path).next == 0
    path.write_bytes(b"\xff\x00")
    assert BirthNumbers(path).next == 0


def test_a_disk_that_takes_no_number_does_not_stop_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = BirthNumbers(tmp_path / "gone" / FILE_NAME)
    for expected in (0, 1):
        assert numbers.next == expected
        numbers.use(expected)
    assert len(caplog.records) == 1


def test_without_its_primary_host_records_wait_and_the_station_stays_ready(
    broker: Broker,
    host: Host,
    outbox: Outbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("edge.line.sparkplug.HOST_S", 0.0)
    with started_sparkplug(broker.port, outbox, host_id=HOST) as line:
        commit(line, outbox, 2)
        wait_until(lambda: f"host application {HOST}" in (line.problem or ""), 20, "not told")
        assert (line.backlog, line.verdict_problem, line.tells_plc) == (2, None, False)
        assert line.wait_connected(0.0)
        host.say(True, 7)
        host.wait("DDATA", 2)
        wait_until(lambda: line.problem is None, 20, f"not over: {line.problem}")
    logged = [one.message for one in caplog.records if f"host application {HOST}" in one.message]
    assert len(logged) == 1


def test_a_primary_host_that_goes_and_comes_at_once_is_missed_all_the_same(
    broker: Broker, host: Host, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    host.say(True, 1)
    with started_sparkplug(broker.port, outbox, host_id=HOST) as line:
        host.wait("DBIRTH", 1)
        for is_online in (b"false", b"true"):  # before the line's thread looks
            line._host.hear(b'{"online":%s,"timestamp":1}' % is_online)
        line._wake.set()
        host.wait("DBIRTH", 2)
    kinds = [one.kind for one in host.heard if one.kind != "STATE"]
    assert not [one for one in caplog.records if "host application" in one.message]
    assert "NDEATH" in kinds[2 : kinds.index("NBIRTH", 2)]
    assert [one.values["bdSeq"] for one in host.of("NBIRTH")] == [0, 1]


def test_a_broker_that_takes_no_will_of_qos_1_is_told_and_gets_no_other(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeBroker(connack=b"\0\x9b\0") as broker, started_sparkplug(broker.port, outbox):
        wait_until(lambda: len(broker.connects) >= 2, 20, "it does not try again")
    assert {connect[7] >> 3 & 3 for connect in broker.connects} == {1}
    assert sum("refuses this client" in one.message for one in caplog.records) == 1


# --- strangers ---


def hostile() -> list[bytes]:
    def fill(change: Callable[[Any], object]) -> bytes:
        def write(metric: Any) -> None:
            metric.name, metric.datatype = "Node Control/Rebirth", 11
            change(metric)

        return command_of(write)

    nested = b""
    for _ in range(200):
        nested = b"\x12" + _varint(len(nested)) + nested
    return [
        b"", b"\xff" * 64, b"\x12\xff\xff\xff\xff\x0f", b'{"metrics": []}', nested,
        b"\x12\x04\x0a\x02\xff\xfe", bytes(1 << 20), rebirth() * 1000,
        fill(lambda metric: setattr(metric, "boolean_value", False)),
        fill(lambda metric: setattr(metric, "int_value", 1)),
        fill(lambda metric: setattr(metric, "string_value", "true")),
        fill(lambda metric: (setattr(metric, "boolean_value", True),
                             setattr(metric, "is_null", True))),
        fill(lambda metric: (setattr(metric, "boolean_value", True),
                             setattr(metric, "name", "Node Control/Reboot"))),
    ]  # fmt: skip


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])


def test_a_hostile_command_is_ignored_and_counted(
    broker: Broker, host: Host, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.sparkplug.REBIRTH_PAUSE_S", 0.1)
    commands = hostile()
    with started_sparkplug(broker.port, outbox) as line:
        wait_born(line)
        for one in commands:
            host.command(one)
        wait_until(lambda: line.commands_ignored == len(commands), 20, "not counted")
        wait_until(
            lambda: (
                host.of("NDATA")
                and host.of("NDATA")[-1].values.get("commands_ignored") == len(commands)
            ),
            20,
            "the count was not told",
        )
        commit(line, outbox, 1)
        host.wait("DDATA", 1)
        assert len(host.of("NBIRTH")) == 1
        host.command(rebirth())
        host.wait("DBIRTH", 2)


def test_a_flood_of_rebirth_requests_is_one_birth_in_each_pause(
    broker: Broker, host: Host, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.sparkplug.REBIRTH_PAUSE_S", 0.4)
    with started_sparkplug(broker.port, outbox) as line:
        wait_born(line)
        for _ in range(200):
            host.command(rebirth())
        host.wait("NBIRTH", 2)
        commit(line, outbox, 1)
        host.wait("DDATA", 1)
        assert len(host.of("NBIRTH")) <= 4


def test_a_retained_rebirth_request_is_ignored(broker: Broker, host: Host, outbox: Outbox) -> None:
    host.publish(TOPICS("NCMD"), rebirth(), retain=True)
    with started_sparkplug(broker.port, outbox) as line:
        wait_until(lambda: line.commands_ignored == 1, 20, "not counted")
        host.wait("DBIRTH", 1)
    host.wait("NDEATH", 1)
    assert len(host.of("NBIRTH")) == 1


def test_only_a_state_message_changes_what_is_known_of_the_host() -> None:
    host = PrimaryHost(HOST)
    host.hear(b'{"online":true,"timestamp":5}')
    garbage = [
        b"", b"ONLINE", b"[" * 2000, b"[" * 900, b"[]", b"\xff", b'{"online":false}',
        b'{"online":"false","timestamp":9}', b'{"online":false,"timestamp":true}',
        b'{"online":false,"timestamp":9.5}', b'{"online":false,"timestamp":-1}',
        b'{"online":false,"timestamp":' + b"9" * 30 + b"}",
    ]  # fmt: skip
    for one in garbage:
        host.hear(one)
        assert host.is_online
    assert host.ignored == len(garbage)
    for at_ms in (5, 6):
        host.hear(b'{"online":false,"timestamp":%d}' % at_ms)
        assert (host.is_online, host.departures) == (False, 1)


# --- the other dialects ---


@pytest.mark.parametrize("fault", ["stall", "swallow"])
def test_a_broker_that_stalls_delays_neither_verdicts_nor_records_of_mqtt(
    broker: Broker, archive: Subscriber, tmp_path: Path, outbox: Outbox, fault: str
) -> None:
    with Broker(tmp_path / "other") as other, Proxy(other.port) as proxy:
        sparkplug = new_sparkplug(proxy.port, outbox)
        mqtt = new_line(broker.port, outbox)
        lines = SeveralLines({"mqtt": mqtt, NAME: sparkplug})
        lines.start()
        wait_ready(mqtt)
        wait_born(sparkplug)
        getattr(proxy, fault)()
        left, slowest_s = 0, 0.0
        for _ in range(30):
            left += tell(lines, outbox)  # type: ignore[arg-type]
            began_s = time.monotonic()
            sparkplug.publish_verdict({}, 0)
            sparkplug.records_waiting()
            sparkplug.state_changed()
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        drain(outbox, 20)
        assert lines.verdict_problem is None
        assert slowest_s < 0.2
        assert sparkplug.backlog > 0
        proxy.heal()
        lines.stop()
    assert len(archive.of("verdict")) == left >= 20  # a busy machine may miss some by itself


# --- what is configured ---


def make(config: EdgeConfig, outbox: Outbox) -> SparkplugLine:
    state = StationState("cell7", "online", "", ready=True)
    line = make_line(
        LineSetup(config, outbox.path.parent, outbox, lambda: state, lambda: True, lambda: None)
    )
    assert isinstance(line, SparkplugLine)
    return line


def test_names_and_broker_come_from_the_station_unless_they_are_given(outbox: Outbox) -> None:
    line = make(config_with(), outbox)
    assert line._topics == TOPICS
    assert line._link._broker.host == "archive"
    own = config_with(group="Plant 1", node="cell", device="camera", host="scada", port=1884)
    line = make(own, outbox)
    assert line._topics("DDATA") == "spBv1.0/Plant 1/DDATA/cell/camera"
    assert (line._link._broker.host, line._link._broker.port) == ("scada", 1884)
    assert dialects_of(own) == (NAME,)


def test_a_sentence_names_the_section_of_its_broker(outbox: Outbox, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^sparkplug\.password_file: "):
        make(config_with(host="scada", username="edge", password_file="absent"), outbox)
    line = make(config_with(host="127.0.0.1", port=free_port()), outbox)
    line.start()
    wait_until(lambda: r"in [sparkplug]" in (line.problem or ""), 20, f"{line.problem}")
    line.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("group = 'a/b'", "sparkplug.group"),
        ("primary_host = '#'", "sparkplug.primary_host"),
        ("device = ''", "sparkplug.device"),
        ("port = 1884", "port is set and host is not"),
        ("username = 'edge'", "username is set and host is not"),
    ],
)
def test_a_setting_that_cannot_be_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(f"[sparkplug]\n{text}\n")


def test_without_protobuf_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf.descriptor_pb2", None)
    with pytest.raises(MissingDependency, match=r"pip install 'rgbd-inspection\[sparkplug\]'"):
        payload_class.__wrapped__()


# --- the metrics ---


def test_every_key_of_a_record_is_a_metric() -> None:
    triggered = Record(**{**vars(RECORD), "triggered": Triggered(7, Code.OK, 9), "at": 12})
    fields = record_fields(triggered, "cell7", 4711)
    assert set(fields) == {metric.name for metric in DEVICE}
    values = {metric.name: value for metric, value in device_values(fields).items()}
    changed = {"captured_at": 1795366800000, "judged_at": 1795366800034}
    assert values == {**fields, **changed}


def test_every_key_of_the_state_is_a_metric_but_those_that_always_change() -> None:
    details = vars(DETAILS) | {"triggers": TriggerCounts(1, 2, 3, 4, 5)}
    state = StationState("cell7", "online", "", True, type(DETAILS)(**details))
    assert state.details is not None
    known = set(state.details.as_fields()) - {"heartbeat", "uptime_s"}
    own = {"state", "reason", "ready", "commands_ignored", *NAMES}
    assert {metric.name for metric in NODE} == known | own
    values = {metric.name: value for metric, value in node_values(state, NAMES, 6).items()}
    assert values["triggers_refused"] == 2
    assert values["commands_ignored"] == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seq", -1), ("seq", 1 << 64), ("seq", True), ("seq", "1"), ("code", 256), ("n", 1.5),
        ("part", 7), ("clock_synced", 1), ("captured_at", "yesterday"), ("at", 1 << 70),
    ],
)  # fmt: skip
def test_a_value_that_its_type_cannot_carry_is_null(name: str, value: object) -> None:
    values = device_values({**build(1), name: value})
    (found,) = [value for metric, value in values.items() if metric.name == name]
    assert found is None


def test_a_record_without_a_synchronized_clock_has_the_time_of_its_capture() -> None:
    assert time_of({**build(1), "at": 12}, 99) == 12
    assert time_of({**build(1), "at": None}, 99) == 1795366800000
    assert time_of({"seq": 1}, 99) == 99


def test_no_call_of_the_station_waits_for_the_network(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = new_sparkplug(free_port(), outbox)
    line.start()
    calls = (line.records_waiting, line.state_changed, functools.partial(line.wait_connected, 60.0),
             functools.partial(line.publish_verdict, {}, 0))  # fmt: skip
    began_s = time.monotonic()
    for call in calls:
        call()
    assert time.monotonic() - began_s < 0.1
    line.stop()
