"""The units on a machine that systemd boots: real accounts, real restrictions, the virtual camera
and a broker.
"""

from __future__ import annotations

import http.client
import os
import signal
import ssl
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.booted import BootedRoot, wait_s
from tests.support.booted_station import configure, status_of
from tests.support.broker import Broker, Subscriber, free_port, wait_until
from tests.support.patience import slowness

pytestmark = pytest.mark.long
FIRST_VERDICT_S = 10.0  # from `systemctl start`, with an engine that was proven before
PASSWORD = "correct horse"
AS_EDGE = "setpriv --reuid edge --regid edge --clear-groups"
PLACES = {  # whether a process of the station could write there, were it root
    "/var/lib/edge": True,
    "/run/edge": True,
    "/etc/edge": False,
    "/usr": False,
    "/opt/edge": False,
    "/root": False,
}


def fields_of(pid: int) -> dict[str, str]:
    """What the kernel says of a process, by name."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def main_process(booted: BootedRoot, unit: str) -> int:
    wait_s(booted, unit, "active")
    return booted.main_process(unit)


def test_the_first_verdict_comes_within_ten_seconds(
    station: BootedRoot, broker: Broker, archive: Subscriber
) -> None:
    configure(station, broker.port)
    started_s = time.monotonic()
    station.run("systemctl start edge")
    wait_until(lambda: archive.of("verdict"), 60, "no verdict")
    took_s = time.monotonic() - started_s
    print(f"first verdict {took_s:.1f} s after systemctl start")
    assert took_s < FIRST_VERDICT_S * slowness()
    assert archive.of("verdict")[0].json["code"] in (1, 2)
    wait_until(lambda: len(archive.records()) >= 4, 60, "no records")
    assert {record["code"] for record in archive.records()[:4]} == {1, 2}, "one part is defective"


def test_the_station_runs_as_its_account_and_reaches_nothing_else(
    station: BootedRoot, broker: Broker, archive: Subscriber
) -> None:
    configure(station, broker.port)
    station.run("systemctl start edge")
    wait_until(lambda: archive.of("verdict"), 60, "no verdict")
    pid = main_process(station, "edge")
    found = fields_of(pid)
    uid, gid = station.run("id -u edge; id -g edge").stdout.split()
    assert set(found["Uid"].split()) == {uid}
    groups = station.run("getent group edge video render plugdev gpio").stdout.splitlines()
    assert {line.split(":")[2] for line in groups} == set(found["Groups"].split())
    assert found["NoNewPrivs"] == "1"
    assert {int(found[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    for place, is_writable in PLACES.items():
        written = where_it_is(pid, f"touch {place}/.probe && rm {place}/.probe")
        assert (written.returncode == 0) is is_writable, f"{place}: {written.stderr}"
    others = where_it_is(pid, "ls /proc/1/cmdline", "-p", "-S", uid, "-G", gid)
    assert others.returncode != 0, "processes of other accounts are hidden"


def where_it_is(pid: int, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A command that sees the files that a process of a unit sees; as root, whom modes do not stop,
    if no option of nsenter says otherwise.
    """
    words = ["nsenter", "-t", str(pid), "-m", *options, "sh", "-c", command]
    return subprocess.run(words, capture_output=True, text=True)


@pytest.mark.parametrize("unit", ["edge", "edge-page", "edge-opcua"])
def test_a_system_call_that_no_service_needs_is_refused(station: BootedRoot, unit: str) -> None:
    """ptrace(PTRACE_TRACEME) needs no right: only the unit's filter refuses it."""
    drop_in = station.root / f"etc/systemd/system/{unit}.service.d/probe.conf"
    drop_in.parent.mkdir(parents=True)
    command = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0)"
    drop_in.write_text(
        f'[Service]\nType=exec\nRestart=no\nExecStart=\nExecStart=/usr/bin/python3 -c "{command}"\n'
    )
    station.run(f"systemctl daemon-reload && systemctl start {unit}")
    wait_until(lambda: station.show(unit, "SubState") in ("dead", "failed"), 30, "it hangs")
    assert station.show(unit, "Result") == "success", "the call was allowed"


def test_a_station_that_hangs_is_killed_and_started_again(
    station: BootedRoot, broker: Broker, archive: Subscriber
) -> None:
    configure(station, broker.port)
    station.run("systemctl start edge")
    wait_until(lambda: archive.of("verdict"), 60, "no verdict")
    before = main_process(station, "edge")
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: station.show("edge", "NRestarts") == "1", 90, "the watchdog did not bite")
    assert "Watchdog timeout" in station.journal("edge")
    seen = len(archive.of("verdict"))
    wait_until(lambda: len(archive.of("verdict")) > seen, 60, "no verdict after the restart")
    assert main_process(station, "edge") != before
    numbers = [message.json["seq"] for message in archive.of("verdict")]
    assert numbers == sorted(set(numbers)), "no number of a part comes twice"


def test_a_password_of_root_alone_reaches_the_broker(station: BootedRoot, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    words = ["mosquitto_passwd", "-b", "-c", str(passwords), "edge", PASSWORD]
    subprocess.run(words, check=True, capture_output=True)
    broker = Broker(tmp_path / "broker", f"allow_anonymous false\npassword_file {passwords}\n")
    key = 'username = "edge"\npassword_file = "credential:broker-password"\n'
    with broker:
        configure(station, broker.port, key)
        refused = station.run("systemctl start edge", check=False)
        assert refused.returncode != 0, "a credential that nobody wrote is named"
        assert "write it into /etc/edge/credentials/broker-password" in station.journal("edge")
        station.run("install -d -m 0700 /etc/edge/credentials")
        station.run(f"umask 077 && echo '{PASSWORD}' > /etc/edge/credentials/broker-password")
        read = station.run(f"{AS_EDGE} cat /etc/edge/credentials/broker-password", check=False)
        assert read.returncode != 0, "only root reads it"
        station.run("systemctl restart edge")
        wait_until(lambda: status_of(station).get("ready"), 60, "the broker refuses the station")
        assert "other accounts can read" not in station.journal("edge")


def test_page_and_opcua_server_answer_with_their_few_rights(station: BootedRoot) -> None:
    page, opcua = free_port(), free_port()
    sections = f"""[page]\nenabled = true\nport = {page}
[opcua]\nenabled = true\nhost = "127.0.0.1"\nport = {opcua}\n"""
    configure(station, more=sections)
    station.run("edge page user add lena --role look")
    station.run("systemctl start edge edge-page edge-opcua")
    wait_until(lambda: listens(station, page) and listens(station, opcua), 60, "nobody listens")
    uid = station.run("id -u edge").stdout.strip()
    for unit in ("edge-page", "edge-opcua"):
        found = fields_of(main_process(station, unit))
        assert set(found["Uid"].split()) == {uid}
        assert (found["NoNewPrivs"], int(found["CapBnd"], 16)) == ("1", 0)
        assert station.show(unit, "NRestarts") == "0"
    trusting = ssl._create_unverified_context()
    with closing(http.client.HTTPSConnection("127.0.0.1", page, context=trusting)) as client:
        client.request("GET", "/login")
        answer = client.getresponse()
        answer.read()
    assert answer.status == 200


def listens(booted: BootedRoot, port: int) -> bool:
    return f":{port} " in booted.run("ss -ltn").stdout


def test_the_station_may_ask_root_for_its_usb_port_and_for_nothing_else(
    station: BootedRoot,
) -> None:
    configure(station)
    station.run("systemctl start edge edge-usb-reset.path")
    wait_s(station, "edge", "active")
    station.run(f"{AS_EDGE} sh -c 'echo 99-1 > /run/edge/usb-reset'")
    said = "no device is at USB port 99-1"
    wait_until(lambda: said in station.journal("edge-usb-reset"), 30, "it was not started")
    assert station.run("test ! -e /run/edge/usb-reset").returncode == 0
