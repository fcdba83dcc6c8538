"""Against a real mosquitto: records arrive all and in order, verdicts now or never, the state is always known."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.config import BrokerConfig
from edge.errors import ConfigError
from edge.line.message import Record, record_fields, state_payload
from edge.line.mqtt import MqttLine
from edge.line.outbox import Fields, Outbox
from edge.types import Code, Reason
from tests.support.broker import Broker, Subscriber, assert_archive_is_complete, wait_until

PREFIX = "edge/site/line/s1"
RECORD = Record(
    part="A17", code=Code.OK, reason=Reason.NORMAL, score=np.float32(0.2), threshold=np.float32(0.5), ms=34, area=0.31,
    valid=0.97, frames=8, product="washer", bundle="washer-1.0.0", geometry=None, model_state=None,
    engine="onnxruntime 1.32.0 fp32", threshold_from="bundle", threshold_parts=60, guarantee="few are rejected",
    captured_at="2026-11-22T17:00:00.000Z", judged_at="2026-11-22T17:00:00.034Z", clock_synced=True,
)


def build(seq: int) -> Fields:
    return record_fields(RECORD, "s1", seq)


def new_line(port: int, outbox: Outbox, **broker_settings: object) -> MqttLine:
    config = BrokerConfig.model_validate({"host": "127.0.0.1", "port": port, **broker_settings})
    return MqttLine(
        config, PREFIX, outbox, state=lambda: state_payload("online", "", True, "s1"),
        offline=lambda reason: state_payload("offline", reason, False, "s1"),
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "line.sqlite")
    yield opened
    opened.close()


def tell(line: MqttLine, outbox: Outbox, deadline_s: float = 2.0) -> bool:
    fields = outbox.commit(build)
    sent = line.publish_verdict(fields, time.monotonic_ns() + int(deadline_s * 1e9))
    line.records_waiting()
    return sent


def drain(outbox: Outbox, timeout_s: float) -> None:
    wait_until(lambda: outbox.counts()["waiting"] == 0, timeout_s, "the broker did not take every record")


def test_a_part_is_a_verdict_now_and_a_record_once(broker: Broker, archive: Subscriber, outbox: Outbox) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    assert line.wait_connected(5)
    assert tell(line, outbox)
    drain(outbox, 5)
    wait_until(lambda: archive.of("verdict/code"), 2, "no verdict/code")
    (verdict,), (code,), (record,) = archive.of("verdict"), archive.of("verdict/code"), archive.of("record")
    assert verdict.json == {key: record.json[key] for key in verdict.json}
    assert (code.payload, verdict.expiry_s, verdict.retain) == (b"1 1 A17", 2, False)
    assert record.json["replay"] is False
    line.stop()


def test_a_verdict_without_a_broker_is_never_sent_and_its_record_always(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    broker.stop()                                              # it keeps the archive's subscription, as a plant's does
    line = new_line(broker.port, outbox)
    line.start()
    assert not tell(line, outbox)
    broker.start()
    assert line.wait_connected(15)
    drain(outbox, 5)
    wait_until(archive.records, 10, "the archive did not get the record")
    time.sleep(0.3)
    assert archive.of("verdict") == []
    assert archive.of("verdict/code") == []
    assert [record["seq"] for record in archive.records()] == [1]
    assert line.counters.verdicts_unsent == 1
    line.stop()


def test_a_verdict_past_its_deadline_is_not_sent(broker: Broker, archive: Subscriber, outbox: Outbox) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    assert line.wait_connected(5)
    assert not tell(line, outbox, deadline_s=-0.001)
    drain(outbox, 5)
    assert archive.of("verdict") == []
    line.stop()


def test_the_state_is_retained_and_the_last_will_says_lost(broker: Broker, outbox: Outbox) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    assert line.wait_connected(5)
    late = Subscriber(broker.port, "page")
    wait_until(lambda: late.of("state"), 5, "no state")
    assert late.of("state")[-1].json["state"] == "online"
    sockets = [line._records._socket, line._verdicts._socket]
    for link in (line._verdicts, line._records):
        link._stopping.set()
    for opened in sockets:
        opened.shutdown(socket.SHUT_RDWR)                      # no DISCONNECT: as a process that was killed
    wait_until(lambda: late.of("state")[-1].json["state"] == "offline", 5, "no last will")
    assert late.of("state")[-1].json["reason"] == "connection lost"
    assert late.of("state")[-1].json["ready"] is False
    line.stop()
    late.stop()


def test_the_state_is_repeated_and_told_at_every_change(
    broker: Broker, archive: Subscriber, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.mqtt.STATE_S", 2.0)
    line = new_line(broker.port, outbox)
    line.start()
    wait_until(lambda: archive.of("state"), 5, "no state")
    started_s = time.monotonic()
    line.state_changed()
    wait_until(lambda: len(archive.of("state")) == 2, 1, "a change was not told")
    assert time.monotonic() - started_s < 0.9
    wait_until(lambda: len(archive.of("state")) >= 3, 5, "the state was not repeated")
    assert all(message.json["state"] == "online" for message in archive.of("state"))
    line.stop()


def test_a_clean_stop_says_stopped_and_returns_at_once(broker: Broker, archive: Subscriber, outbox: Outbox) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    assert line.wait_connected(5)
    wait_until(lambda: archive.of("state"), 5, "no state")
    started_s = time.monotonic()
    line.stop()
    assert time.monotonic() - started_s < 1.0
    wait_until(lambda: archive.of("state")[-1].json["state"] == "offline", 2, "no goodbye")
    states = [message.json for message in archive.of("state")]
    assert [state["reason"] for state in states if state["state"] == "offline"] == ["stopped"]


def test_a_broker_that_stops_in_mid_run_loses_no_record(broker: Broker, outbox: Outbox) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    archive = Subscriber(broker.port)
    assert line.wait_connected(5)
    finished = threading.Event()
    sent: list[tuple[int, bool, float]] = []

    def produce() -> None:
        while not finished.is_set():
            sent.append((len(sent) + 1, tell(line, outbox), time.monotonic()))
            time.sleep(0.05)

    producer = threading.Thread(target=produce)
    producer.start()
    time.sleep(2.0)
    broker.stop()
    time.sleep(5.0)
    broker.start()
    assert line.wait_connected(15)
    time.sleep(2.0)
    finished.set()
    producer.join()
    drain(outbox, 10)
    wait_until(lambda: archive.records()[-1]["seq"] == len(sent), 10, "the archive did not get the last record")
    assert_archive_is_complete(archive.records(), list(range(1, len(sent) + 1)))
    assert sum(record["replay"] for record in archive.records()) <= 2
    told = {number: at_s for number, was_sent, at_s in sent if was_sent}
    verdicts = archive.of("verdict")
    assert {message.json["seq"] for message in verdicts} <= set(told)
    assert all(message.at_s - told[message.json["seq"]] < 2.0 for message in verdicts)
    assert len(told) < len(sent)
    line.stop()
    archive.stop()


def test_an_open_socket_is_no_connection_before_the_broker_says_so(outbox: Outbox) -> None:
    """A broker that accepts and never answers: paho would queue a QoS 0 message behind its CONNECT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = new_line(server.getsockname()[1], outbox)
        line.start()
        held = [server.accept()[0] for _ in range(2)]
        assert not tell(line, outbox)                          # no CONNACK yet: not connected
        line.stop()
        for connection in held:
            connection.close()


def test_a_refused_password_is_said_and_tried_again(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.mqtt.CONNECT_S", 60.0)      # a refusal is an answer: nothing is waited for after it
    closed = Broker(tmp_path / "closed", extra=f"password_file {tmp_path}/passwords\n")
    (tmp_path / "passwords").write_text("")
    text = closed._config.read_text().replace("allow_anonymous true", "allow_anonymous false")
    closed._config.write_text(text)
    closed.start()
    line = new_line(closed.port, outbox)
    line.start()
    refused = "s1-record: the broker refuses this client"
    wait_until(lambda: refused in caplog.text, 5, "no word about the refusal")
    wait_until(lambda: caplog.text.count(refused) > 1, 20, "a station that was refused once did not try again")
    assert not line.is_connected
    line.stop()
    closed.stop()


def test_a_password_file_that_is_missing_is_one_sentence(outbox: Outbox, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="password_file"):
        new_line(1883, outbox, username="edge", password_file=str(tmp_path / "absent"))


def test_tls_and_a_password_from_a_file(tmp_path: Path, outbox: Outbox) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: it makes the broker's certificate")
    certificate, key = tmp_path / "broker.pem", tmp_path / "broker.key"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)],
        check=True, capture_output=True,
    )
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "passwords").write_text("edge:correct horse\n")
    subprocess.run(["mosquitto_passwd", "-U", str(tmp_path / "passwords")], check=True, capture_output=True)
    (tmp_path / "passwords").chmod(0o644)
    extra = f"certfile {certificate}\nkeyfile {key}\npassword_file {tmp_path}/passwords\n"
    secure = Broker(tmp_path / "secure", extra)
    text = secure._config.read_text()
    secure._config.write_text(text.replace("allow_anonymous true", "allow_anonymous false"))
    secure.start()
    password = str(tmp_path / "password")
    line = new_line(secure.port, outbox, tls=True, ca_file=str(certificate), username="edge", password_file=password)
    line.start()
    assert line.wait_connected(5)
    assert tell(line, outbox)
    drain(outbox, 5)
    line.stop()
    secure.stop()
