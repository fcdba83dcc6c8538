"""Against a real mosquitto: records arrive all and in order, verdicts now or never, the state is
always known.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.line.outbox import Outbox
from tests.support.broker import Broker, Subscriber, assert_archive_is_complete, wait_until
from tests.support.line import drain, new_line, tell


def test_a_part_is_a_verdict_now_and_a_record_once(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    assert line.wait_connected(60)
    assert tell(line, outbox)
    drain(outbox, 60)
    for topic in ("verdict", "verdict/code", "record"):
        wait_until(partial(archive.of, topic), 60, f"no {topic}")
    (verdict,), (code,), (record,) = (
        archive.of("verdict"),
        archive.of("verdict/code"),
        archive.of("record"),
    )
    # `ms` is known only when the verdict is sent
    said = {key: value for key, value in verdict.json.items() if key != "ms"}
    assert said == {key: record.json[key] for key in said}
    assert (code.payload, verdict.expiry_s, verdict.retain) == (b"1 1 A17", 2, False)
    assert record.json["replay"] is False
    line.stop()


def test_a_verdict_without_a_broker_is_never_sent_and_its_record_always(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    broker.stop()  # it keeps the archive's subscription, as a plant's does
    line = new_line(broker.port, outbox)
    line.start()
    assert not tell(line, outbox)
    broker.start()
    assert line.wait_connected(60)
    drain(outbox, 60)
    wait_until(archive.records, 60, "the archive did not get the record")
    time.sleep(0.3)
    assert archive.of("verdict") == []
    assert archive.of("verdict/code") == []
    assert [record["seq"] for record in archive.records()] == [1]
    assert line.counters.verdicts_unsent == 1
    line.stop()


def test_a_verdict_past_its_deadline_is_not_sent(
    broker: Broker, archive: Subscriber, outbox: Outbox
) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    assert line.wait_connected(60)
    assert not tell(line, outbox, deadline_s=-0.001)
    drain(outbox, 60)
    assert archive.of("verdict") == []
    line.stop()


def test_the_state_is_retained_and_the_last_will_says_lost(broker: Broker, outbox: Outbox) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    assert line.wait_connected(60)
    late = Subscriber(broker.port, "page")
    wait_until(lambda: late.of("state"), 60, "no state")
    assert late.of("state")[-1].json["state"] == "online"
    links = [line._records.link, line._verdicts.link]
    connections = [link.connection for link in links]
    for link in links:
        link._stopping.set()
    for connection in connections:
        assert connection is not None
        connection._socket.shutdown(socket.SHUT_RDWR)  # no DISCONNECT: as a process that was killed
    wait_until(lambda: late.of("state")[-1].json["state"] == "offline", 60, "no last will")
    assert late.of("state")[-1].json["reason"] == "connection lost"
    assert late.of("state")[-1].json["ready"] is False
    line.stop()
    late.stop()


def test_the_state_is_repeated_and_told_at_every_change(
    broker: Broker, archive: Subscriber, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.state.STATE_S", 3600.0)
    line = new_line(broker.port, outbox)
    line.start()
    wait_until(lambda: archive.of("state"), 60, "no state")
    seen = len(archive.of("state"))
    line.state_changed()
    wait_until(lambda: len(archive.of("state")) > seen, 60, "a change was not told")
    monkeypatch.setattr("edge.line.state.STATE_S", 0.5)
    seen = len(archive.of("state"))
    wait_until(lambda: len(archive.of("state")) > seen + 1, 60, "the state was not repeated")
    assert all(message.json["state"] == "online" for message in archive.of("state"))
    line.stop()


def test_a_clean_stop_says_stopped(broker: Broker, archive: Subscriber, outbox: Outbox) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    assert line.wait_connected(60)
    wait_until(lambda: archive.of("state"), 60, "no state")
    line.stop()
    wait_until(lambda: archive.of("state")[-1].json["state"] == "offline", 60, "no goodbye")
    states = [message.json for message in archive.of("state")]
    assert [state["reason"] for state in states if state["state"] == "offline"] == ["stopped"]


@pytest.mark.endurance
def test_a_broker_that_stops_in_mid_run_loses_no_record(broker: Broker, outbox: Outbox) -> None:
    line = new_line(broker.port, outbox)
    line.start()
    archive = Subscriber(broker.port)
    assert line.wait_connected(60)
    finished = threading.Event()
    sent: list[tuple[int, bool, float]] = []

    def produce() -> None:
        while not finished.is_set():
            sent.append((len(sent) + 1, tell(line, outbox), time.time()))
            time.sleep(0.05)

    def wait_for(count: int, was_sent: bool) -> None:
        before = len(sent)
        wait_until(
            lambda: [one for _, one, _ in sent[before:]].count(was_sent) >= count,
            60,
            f"no {count} more",
        )

    producer = threading.Thread(target=produce)
    producer.start()
    wait_for(20, True)
    broker.stop()
    wait_for(20, False)
    broker.start()
    wait_for(20, True)
    finished.set()
    producer.join()
    drain(outbox, 60)
    wait_until(
        lambda: archive.records()[-1]["seq"] == len(sent),
        60,
        "the archive did not get the last record",
    )
    assert_archive_is_complete(archive.records(), list(range(1, len(sent) + 1)))
    told = {number: at_s for number, was_sent, at_s in sent if was_sent}
    verdicts = archive.of("verdict")
    assert {message.json["seq"] for message in verdicts} <= set(told)
    assert all(message.at_s - told[message.json["seq"]] < 2.0 for message in verdicts)
    assert len(told) < len(sent)
    line.stop()
    archive.stop()


def test_an_open_socket_is_no_connection_before_the_broker_says_so(outbox: Outbox) -> None:
    """A broker that accepts and never answers: paho would queue a QoS 0 message behind its
    CONNECT.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = new_line(server.getsockname()[1], outbox)
        line.start()
        held = [server.accept()[0] for _ in range(2)]
        assert not tell(line, outbox)  # no CONNACK yet: not connected
        line.stop()
        for connection in held:
            connection.close()


def test_a_password_file_that_is_missing_is_one_sentence(outbox: Outbox, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="password_file"):
        new_line(1883, outbox, username="edge", password_file=str(tmp_path / "absent"))


def test_tls_and_a_password_from_a_file(tmp_path: Path, outbox: Outbox) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: it makes the broker's certificate")
    certificate, key = tmp_path / "broker.pem", tmp_path / "broker.key"
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-out",
            str(certificate),
            "-keyout",
            str(key),
        ],
        check=True,
        capture_output=True,
    )
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "passwords").write_text("edge:correct horse\n")
    subprocess.run(
        ["mosquitto_passwd", "-U", str(tmp_path / "passwords")], check=True, capture_output=True
    )
    (tmp_path / "passwords").chmod(0o644)
    extra = f"certfile {certificate}\nkeyfile {key}\npassword_file {tmp_path}/passwords\n"
    secure = Broker(tmp_path / "secure", extra)
    text = secure._config.read_text()
    secure._config.write_text(text.replace("allow_anonymous true", "allow_anonymous false"))
    secure.start()
    password = str(tmp_path / "password")
    line = new_line(
        secure.port,
        outbox,
        tls=True,
        ca_file=str(certificate),
        username="edge",
        password_file=password,
    )
    line.start()
    assert line.wait_connected(60)
    assert tell(line, outbox)
    drain(outbox, 60)
    line.stop()
    secure.stop()
