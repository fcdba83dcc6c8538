"""What Sparkplug 3.0.0 demands of an edge node, each assertion under the specification's own
identifier, on everything that one station publishes in one story on a real mosquitto.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.line.outbox import Outbox
from edge.line.sparkplug_metrics import DEVICE, NODE
from edge.line.sparkplug_schema import DataType
from tests.support.broker import MOSQUITTO, Broker
from tests.support.fake_broker import FakeBroker
from tests.support.sparkplug import (
    HOST,
    TOPICS,
    Heard,
    Host,
    Station,
    commit,
    field_of,
    rebirth,
    started_sparkplug,
    value_of,
    wait_born,
)

QUIET_S = 0.2  # in which nothing may happen
Check = Callable[["Story"], object]
CHECKS: dict[str, Check] = {}


@dataclass
class Story:
    """Everything that was published, and the places in it."""

    heard: list[Heard] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    protocol: str = ""

    def of(self, *kinds: str) -> list[Heard]:
        return [one for one in self.heard if one.kind in kinds]

    def between(self, first: str, last: str) -> list[str]:
        return [one.kind for one in self.heard[self.at[first] : self.at[last]]]


@pytest.fixture(scope="module", params=["5", pytest.param("3.1.1", marks=pytest.mark.endurance)])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    folder = tmp_path_factory.mktemp("sparkplug")
    outbox = Outbox(folder / "line.sqlite")
    with Broker(folder / "broker") as broker:
        host = Host(broker.port)
        told = Story()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("edge.line.sparkplug.REBIRTH_PAUSE_S", 0.1)
                for name in _tell(broker.port, outbox, host, request.param):
                    told.at[name] = len(host.heard)
        finally:
            host.stop()
    outbox.close()
    told.heard, told.protocol = host.heard, request.param
    return told


def _tell(port: int, outbox: Outbox, host: Host, protocol: str) -> Iterator[str]:
    """The story; the names of its places."""
    station = Station()
    host.say(True, 5000, "another")
    host.say(False, 1000)
    with started_sparkplug(port, outbox, station, HOST, protocol=protocol) as line:
        time.sleep(QUIET_S)
        yield "host came"
        host.say(True, 2000)
        host.wait("DBIRTH", 1)
        commit(line, outbox, 3)
        station.change(ok=8, busy=True)
        line.state_changed()
        host.wait("NDATA", 1)
        host.wait("DDATA", 3)
        yield "rebirth asked"
        host.command(rebirth())
        host.wait("DBIRTH", 2)
        yield "old death of the host"
        host.say(False, 1500)
        time.sleep(QUIET_S)
        yield "host went"
        host.say(False, 3000)
        host.wait("NDEATH", 1)
        commit(line, outbox, 2)
        host.say(True, 2500)
        time.sleep(QUIET_S)
        yield "host came again"
        host.say(True, 4000)
        host.wait("DDATA", 5)
        yield "camera lost"
        station.change(camera_problem="unplugged")
        line.state_changed()
        host.wait("DDEATH", 1)
        commit(line, outbox, 1)
        time.sleep(QUIET_S)
        yield "camera came"
        station.change(camera_problem=None)
        line.state_changed()
        host.wait("DBIRTH", 4)
        wait_born(line)
        commit(line, outbox, 260)
        host.wait("DDATA", 266)
        yield "stopped"
    host.wait("NDEATH", 2)
    time.sleep(QUIET_S)
    yield "end"


def tck(*identifiers: str) -> Callable[[Check], Check]:
    def note(check: Check) -> Check:
        for one in identifiers:
            assert CHECKS.setdefault(one, check) is check
        return check

    return note


def numbers(story: Story, kind: str) -> list[int]:
    found = []
    for one in story.of(kind):
        (metric,) = [metric for metric in one.message.metrics if metric.name == "bdSeq"]
        assert metric.datatype == DataType.INT64
        found.append(metric.long_value)
    return found


# --- topics, QoS, retained ---


@tck("topic-structure", "topic-structure-namespace-a",
     "topic-structure-namespace-device-id-associated-message-types",
     "topic-structure-namespace-device-id-non-associated-message-types",
     "topics-nbirth-topic", "topics-ndata-topic", "topics-ndeath-topic", "topics-dbirth-topic",
     "topics-ddata-topic", "topics-ddeath-topic",
     "message-flow-edge-node-birth-publish-nbirth-topic",
     "message-flow-device-birth-publish-dbirth-topic",
     "message-flow-device-birth-publish-dbirth-match-edge-node-topic")  # fmt: skip
def topics(story: Story) -> None:
    node = {f"spBv1.0/plant/{kind}/line:cell7" for kind in ("NBIRTH", "NDATA", "NDEATH")}
    device = {
        f"spBv1.0/plant/{kind}/line:cell7/inspection" for kind in ("DBIRTH", "DDATA", "DDEATH")
    }
    assert {one.topic for one in story.heard} == node | device


@tck("topics-nbirth-mqtt", "topics-dbirth-mqtt", "topics-ndata-mqtt", "topics-ddata-mqtt",
     "topics-ddeath-mqtt", "payloads-nbirth-qos", "payloads-nbirth-retain", "payloads-dbirth-qos",
     "payloads-dbirth-retain", "payloads-ndata-qos", "payloads-ndata-retain",
     "payloads-ddata-qos", "payloads-ddata-retain",
     "message-flow-edge-node-birth-publish-nbirth-qos",
     "message-flow-edge-node-birth-publish-nbirth-retained",
     "message-flow-device-birth-publish-dbirth-qos",
     "message-flow-device-birth-publish-dbirth-retained")  # fmt: skip
def qos_0_not_retained(story: Story) -> None:
    found = story.of("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH")
    assert {(one.qos, one.retain) for one in found} == {(0, False)}


@tck("payloads-ndeath-will-message-qos", "payloads-ndeath-will-message-retain")
def deaths_have_qos_1(story: Story) -> None:
    assert {(one.qos, one.retain) for one in story.of("NDEATH")} == {(1, False)}


# --- sequence numbers ---


@tck("topics-nbirth-seq-num", "payloads-nbirth-seq", "payloads-sequence-num-zero-nbirth",
     "message-flow-edge-node-birth-publish-nbirth-payload-seq")  # fmt: skip
def nbirth_has_seq_0(story: Story) -> None:
    assert {one.message.seq for one in story.of("NBIRTH")} == {0}
    assert all(one.message.HasField("seq") for one in story.of("NBIRTH"))


@tck("payloads-sequence-num-always-included", "payloads-sequence-num-incrementing",
     "topics-ndata-seq-num", "topics-dbirth-seq", "topics-ddata-seq-num", "topics-ddeath-seq-num",
     "payloads-dbirth-seq", "payloads-dbirth-seq-inc", "payloads-ndata-seq",
     "payloads-ndata-seq-inc", "payloads-ddata-seq", "payloads-ddata-seq-inc",
     "payloads-ddeath-seq", "payloads-ddeath-seq-inc", "payloads-ddeath-seq-number",
     "message-flow-device-birth-publish-dbirth-payload-seq")  # fmt: skip
def seq_rises_by_one_and_wraps(story: Story) -> None:
    expected = None
    for one in story.heard:
        if one.kind == "NDEATH":
            continue
        if one.kind == "NBIRTH":
            expected = 0
        assert one.message.HasField("seq")
        assert one.message.seq == expected
        expected = (expected + 1) % 256
    assert sum(one.message.seq == 255 for one in story.heard) >= 1


@tck("topics-ndeath-seq", "payloads-ndeath-seq")
def ndeath_has_no_seq(story: Story) -> None:
    assert not any(one.message.HasField("seq") for one in story.of("NDEATH"))


# --- bdSeq ---


@tck("topics-nbirth-bdseq-included", "topics-nbirth-bdseq-increment", "payloads-nbirth-bdseq",
     "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq")  # fmt: skip
def bdseq_begins_at_0_and_rises_with_each_connect(story: Story) -> None:
    assert numbers(story, "NBIRTH") == [0, 0, 1]  # births, rebirth, births of the next session


@tck("topics-ndeath-payload", "payloads-ndeath-bdseq", "topics-nbirth-bdseq-matching",
     "payloads-nbirth-bdseq-repeat",
     "message-flow-edge-node-birth-publish-will-message-payload-bdSeq")  # fmt: skip
def death_carries_the_bdseq_of_its_birth_alone(story: Story) -> None:
    assert all(len(one.message.metrics) == 1 for one in story.of("NDEATH"))
    assert sorted(set(numbers(story, "NDEATH"))) == [0, 1]
    assert numbers(story, "NDEATH")[0] == 0


@tck("operational-behavior-data-commands-rebirth-action-3")
def rebirth_has_the_same_bdseq(story: Story) -> None:
    first, second = numbers(story, "NBIRTH")[:2]
    assert first == second


# --- births ---


@tck("message-flow-edge-node-birth-publish-phid-wait", "payloads-dbirth-order",
     "message-flow-edge-node-birth-publish-phid-wait-id",
     "message-flow-edge-node-birth-publish-phid-wait-online",
     "operational-behavior-edge-node-birth-sequence-wait",
     "message-flow-device-birth-publish-nbirth-wait", "payloads-ndata-order",
     "payloads-ddata-order")  # fmt: skip
def births_come_first_and_not_before_the_host(story: Story) -> None:
    assert story.at["host came"] == 0
    assert [one.kind for one in story.heard[:2]] == ["NBIRTH", "DBIRTH"]


@tck("message-flow-edge-node-birth-publish-phid-wait-timestamp")
def an_older_state_is_no_state(story: Story) -> None:
    again = story.at["host came again"]
    assert "NBIRTH" not in story.between("host went", "host came again")
    assert [one.kind for one in story.heard[again:][:2]] == ["NBIRTH", "DBIRTH"]


@tck("message-flow-edge-node-birth-publish-phid-offline",
     "operational-behavior-edge-node-termination-host-offline",
     "operational-behavior-edge-node-termination-host-offline-reconnect",
     "operational-behavior-primary-application-state-with-multiple-servers-walk")  # fmt: skip
def the_host_goes_and_the_node_dies(story: Story) -> None:
    assert set(story.between("host went", "host came again")) == {"NDEATH"}


@tck("operational-behavior-edge-node-termination-host-offline-timestamp")
def a_late_death_of_the_host_is_ignored(story: Story) -> None:
    assert "NDEATH" not in story.between("old death of the host", "host went")


@tck("topics-nbirth-metrics", "topics-dbirth-metrics", "payloads-metric-datatype-req",
     "payloads-metric-datatype-value", "payloads-metric-datatype-value-type",
     "operational-behavior-data-publish-nbirth-values",
     "operational-behavior-data-publish-dbirth-values")  # fmt: skip
def births_tell_name_type_and_value(story: Story) -> None:
    for one in story.of("NBIRTH", "DBIRTH"):
        for metric in one.message.metrics:
            assert metric.name
            assert metric.datatype in set(DataType)
            assert metric.is_null == (value_of(metric) is None)


@tck("topics-nbirth-metric-reqs", "topics-dbirth-metric-reqs",
     "operational-behavior-data-publish-nbirth",
     "operational-behavior-data-publish-dbirth")  # fmt: skip
def births_have_every_metric(story: Story) -> None:
    for kind, data, table in (("NBIRTH", "NDATA", NODE), ("DBIRTH", "DDATA", DEVICE)):
        for one in story.of(kind):
            known = {metric.alias for metric in one.message.metrics if metric.HasField("alias")}
            assert known == {metric.alias for metric in table}
        for one in story.of(data):
            assert {metric.alias for metric in one.message.metrics} <= known


@tck("topics-nbirth-rebirth-metric", "payloads-nbirth-rebirth-req",
     "operational-behavior-data-commands-rebirth-name",
     "operational-behavior-data-commands-rebirth-name-aliases",
     "operational-behavior-data-commands-rebirth-datatype",
     "operational-behavior-data-commands-rebirth-value")  # fmt: skip
def nbirth_has_the_rebirth_metric(story: Story) -> None:
    for one in story.of("NBIRTH"):
        (metric,) = [
            metric for metric in one.message.metrics if metric.name == "Node Control/Rebirth"
        ]
        assert metric.datatype == DataType.BOOLEAN
        assert value_of(metric) is False
        assert not metric.HasField("alias")


@tck("payloads-alias-uniqueness", "payloads-alias-birth-requirement",
     "case-sensitivity-metric-names")  # fmt: skip
def aliases_and_names_are_unique(story: Story) -> None:
    births = [story.of(kind)[0].message.metrics for kind in ("NBIRTH", "DBIRTH")]
    aliases = [metric.alias for birth in births for metric in birth if metric.HasField("alias")]
    assert len(aliases) == len(set(aliases))
    for birth in births:
        names = [metric.name.lower() for metric in birth]
        assert len(names) == len(set(names))
        without = {metric.name for metric in birth if not metric.HasField("alias")}
        assert without <= {"bdSeq", "Node Control/Rebirth"}


@tck("operational-behavior-data-commands-rebirth-action-1",
     "operational-behavior-data-commands-rebirth-action-2")  # fmt: skip
def a_rebirth_is_both_births_and_no_data_before_them(story: Story) -> None:
    assert story.between("rebirth asked", "old death of the host")[:2] == ["NBIRTH", "DBIRTH"]


# --- data ---


@tck("payloads-alias-data-cmd-requirement", "payloads-metric-datatype-not-req",
     "payloads-name-requirement")  # fmt: skip
def data_has_the_alias_alone(story: Story) -> None:
    for one in story.of("NDATA", "DDATA"):
        for metric in one.message.metrics:
            assert metric.HasField("alias")
            assert not metric.HasField("name")
            assert not metric.HasField("datatype")
            assert metric.WhichOneof("value") in (None, field_of(metric))


@tck("topics-ndata-payload", "operational-behavior-data-publish-nbirth-change",
     "principles-rbe-recommended")  # fmt: skip
def ndata_is_what_has_changed(story: Story) -> None:
    assert story.of("NDATA")[0].values == {"ok": 8, "busy": True}


@tck("topics-ddata-payload", "operational-behavior-data-publish-dbirth-change")
def each_record_is_one_ddata(story: Story) -> None:
    assert [one.values["seq"] for one in story.of("DDATA")] == list(range(1, 267))
    historical = [one.values["seq"] for one in story.of("DDATA") if one.is_historical]
    assert historical == [4, 5, 6]


@tck("operational-behavior-data-publish-nbirth-order",
     "operational-behavior-data-publish-dbirth-order")  # fmt: skip
def times_do_not_run_back(story: Story) -> None:
    for one in story.of("NBIRTH", "DBIRTH", "NDATA", "DDATA"):
        times = [metric.timestamp for metric in one.message.metrics if not metric.is_historical]
        assert times == sorted(times)


@tck("payloads-timestamp-in-UTC", "topics-nbirth-timestamp", "topics-dbirth-timestamp",
     "topics-ndata-timestamp", "topics-ddata-timestamp", "payloads-nbirth-timestamp",
     "payloads-dbirth-timestamp", "payloads-ndata-timestamp", "payloads-ddata-timestamp",
     "payloads-ddeath-timestamp")  # fmt: skip
def payloads_say_when_they_were_sent(story: Story) -> None:
    for one in story.of("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"):
        assert abs(one.message.timestamp / 1e3 - one.at_s) < 10.0


@tck("payloads-name-birth-data-requirement", "payloads-metric-timestamp-in-UTC")
def metrics_say_when_they_were_measured(story: Story) -> None:
    for one in story.of("NBIRTH", "NDATA"):
        assert all(abs(metric.timestamp / 1e3 - one.at_s) < 10.0 for metric in one.message.metrics)
    for one in story.of("DDATA"):  # the record's own time, tests.support.line.RECORD
        assert {metric.timestamp for metric in one.message.metrics} == {1795366800000}


# --- deaths ---


@tck("operational-behavior-device-ddeath")
def a_lost_camera_is_a_dead_device(story: Story) -> None:
    lost = story.between("camera lost", "camera came")
    assert lost[0] == "DDEATH"
    assert "DDATA" not in lost
    assert story.between("camera came", "stopped")[:2] == ["DBIRTH", "NDATA"]


@tck("operational-behavior-edge-node-intentional-disconnect-ndeath",
     "operational-behavior-edge-node-intentional-disconnect-packet",
     "payloads-ndeath-will-message-publisher",
     "payloads-ndeath-will-message-publisher-disconnect-mqtt311",
     "payloads-ndeath-will-message-publisher-disconnect-mqtt50")  # fmt: skip
def a_stop_is_a_death(story: Story) -> None:
    """In MQTT 5 the station disconnects with its will, which the broker publishes as well."""
    expected = ["NDEATH"] * (2 if story.protocol == "5" else 1)
    assert story.between("stopped", "end") == expected
    assert numbers(story, "NDEATH")[-1] == numbers(story, "NBIRTH")[-1]


@pytest.mark.parametrize("identifier", sorted(CHECKS))
def test_tck_id(story: Story, identifier: str) -> None:
    CHECKS[identifier](story)


# --- what the packets say ---


@pytest.fixture(params=["5", "3.1.1"])
def packets(request: pytest.FixtureRequest, outbox: Outbox) -> Iterator[tuple[Any, str]]:
    """(connects, subscriptions) of a line that was started and stopped."""
    with FakeBroker() as broker:
        with started_sparkplug(broker.port, outbox, protocol=request.param) as line:
            wait_born(line)
        yield broker, request.param


@pytest.mark.parametrize("identifier", [
    "message-flow-edge-node-birth-publish-will-message",
    "message-flow-edge-node-birth-publish-will-message-topic",
    "message-flow-edge-node-birth-publish-will-message-payload",
    "message-flow-edge-node-birth-publish-will-message-qos",
    "message-flow-edge-node-birth-publish-will-message-will-retained",
    "payloads-ndeath-will-message",
    "principles-persistence-clean-session-311",
    "principles-persistence-clean-session-50",
])  # fmt: skip
def test_tck_id_of_connect(packets: tuple[FakeBroker, str], identifier: str) -> None:
    (connect,) = packets[0].connects
    flags = connect[7]
    clean, will, qos, retain = flags & 2, flags & 4, (flags >> 3) & 3, flags & 32
    assert (bool(clean), bool(will), qos, bool(retain)) == (True, True, 1, False)
    topic = TOPICS("NDEATH").encode()
    assert len(topic).to_bytes(2, "big") + topic in connect
    assert b"\n\x05bdSeq" in connect  # the name of the metric, as Protocol Buffers write it


@pytest.mark.parametrize("identifier", [
    "message-flow-edge-node-birth-publish-connect", "principles-birth-certificates-order",
])  # fmt: skip
def test_tck_id_of_order(packets: tuple[FakeBroker, str], identifier: str) -> None:
    kinds = [one.topic.split("/")[2] for one in packets[0].published]
    assert kinds[:2] == ["NBIRTH", "DBIRTH"]
    assert kinds[-1] == "NDEATH"


def test_tck_id_message_flow_edge_node_ncmd_subscribe(packets: tuple[FakeBroker, str]) -> None:
    topic, qos_1 = TOPICS("NCMD").encode(), b"\x01"
    (found,) = [body for body in packets[0].subscribes if topic in body]
    assert found.endswith(len(topic).to_bytes(2, "big") + topic + qos_1)
