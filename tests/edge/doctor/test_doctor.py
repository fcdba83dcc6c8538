"""`edge doctor` on a station and a stand-in of a board: all right at first, then a fault each."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from edge.board.power import PLACE as POWER
from edge.board.usb import usb_cameras
from edge.clock import boot_time_s, is_clock_synced
from edge.config import PLACE, read_config
from edge.doctor import board_checks, camera_checks, disk_checks
from edge.doctor.checks import CHECKS, examine
from edge.doctor.finding import Check, Finding, Subject, right
from edge.doctor.station_checks import WANTED
from edge.install.install import install_bundle
from edge.runtime import status_file
from edge.runtime.status_file import StatusFile
from edge.station.lock import RUN, locked
from edge.station.store import Store
from tests.support.board_tree import CAMERA, CPU, GPU, THERMAL, lay_board, lay_disk, put
from tests.support.root import Bundles, run_edge, snapshot, trusting_root
from tests.support.tiny_bundle import KeyPair

SETTINGS = """\
[station]
site = "plant"
line = "2"
station = "cell7"
[broker]
enabled = false
[camera]
kind = "realsense"
serial = "243522071234"
"""
COMMISSIONED = (
    '{"schema": 1, "mode": "MAXN_SUPER", "clocks": "default", "who": "anna",'
    ' "when": "2026-11-30T10:00:00.000Z"}'
)
ONLINE = {"state": "online", "reason": "", "ready": True, "why": "", "link": None}
# a tree of files cannot tell these
NOT_OF_A_TREE = {"TensorRT", "time", "camera firmware"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, key: KeyPair, bundles: Bundles) -> Path:
    """To copy from: a station with a bundle on a board, everything right."""
    root = lay_board(tmp_path_factory.mktemp("made") / "root")
    trusting_root(root, key)
    put(root, str(PLACE), SETTINGS)
    install_bundle(bundles(), root)
    put(root, str(POWER), COMMISSIONED)
    enable(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    shutil.copytree(made, root, symlinks=True)
    lay_disk(root, "mmcblk0p1")
    return root


def enable(root: Path) -> None:
    """As `systemctl enable edge` does."""
    wanted = root / WANTED
    wanted.parent.mkdir(parents=True)
    wanted.symlink_to("/etc/systemd/system/edge.service")


@contextmanager
def running(root: Path, **said: object) -> Iterator[None]:
    """As if `edge run` were at work and said this."""
    with locked(Store(root).data, RUN, "edge run"):
        StatusFile(root, lambda: {**ONLINE, **said}).write()
        yield


def found(root: Path) -> dict[str, Finding]:
    return {row.name: row.finding for row in examine(root)}


def test_everything_is_right(root: Path, capsys, monkeypatch) -> None:
    with running(root):
        before = snapshot(root)
        answer = run_edge(capsys, monkeypatch, "doctor", "--root", root)
        rows = found(root)
        assert snapshot(root) == before
    states = {name: finding.state for name, finding in rows.items()}
    assert {name for name, state in states.items() if state == "unknown"} == NOT_OF_A_TREE
    assert "wrong" not in states.values()
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[-1] == f"{len(rows) - 3} right, 0 wrong, 3 unknown"
    assert all(len(line) <= 100 or str(root) in line for line in lines)
    assert any(line.startswith("right    GPU clock") for line in lines)
    assert "JetPack 6.2 for Orin" in rows["system"].said
    assert rows["power mode"].said == (
        "MAXN_SUPER, clocks default, as commissioned by anna, 2026-11-30T10:00:00.000Z"
    )
    assert rows["disk wear"].said == "20% of the life of mmcblk0 used"


Fault = Callable[[Path], object]


def text(place: str, content: str) -> Fault:
    return lambda root: put(root, place, content)


def edited(old: str, new: str) -> Fault:
    def edit(root: Path) -> None:
        path = root / PLACE
        path.write_text(path.read_text().replace(old, new))

    return edit


def owned(node: Path, mode: int, group: int = 0) -> None:
    """As the kernel makes a device before a rule is applied: root's, also its group."""
    try:
        os.chown(node, 0, group)
    except PermissionError:
        pytest.skip("only root makes a file of root")
    node.chmod(mode)


GPIO = edited("[camera]", "[gpio]\nenabled = true\nok = 'a'\nng = 'b'\n[camera]")


def gone(place: str) -> Fault:
    return lambda root: (
        shutil.rmtree(root / place) if (root / place).is_dir() else (root / place).unlink()
    )


def damaged_model(root: Path) -> None:
    path = next(root.glob("var/lib/edge/products/washer/slots/*/model/fp32.onnx"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("name", "fault", "said", "remedy"),
    [
        ("system", text("etc/nv_tegra_release", "# R36 (release), REVISION: 3.0, x"),
         "JetPack 6.0", "TensorRT 10.3: flash a newer"),
        ("power mode", text("var/lib/nvpmodel/status", "pmode:0000"),
         "power mode 15W, this station was commissioned in MAXN_SUPER", "sudo nvpmodel -m 2"),
        ("power mode", text(str(POWER), COMMISSIONED.replace("default", "max")),
         "clocks follow the load", "sudo jetson_clocks"),
        ("power mode", text(str(POWER), "{}"), "power.json is damaged", "--power-mode again"),
        ("GPU clock", text(f"{GPU}/max_freq", "624000000"),
         "at most 624 MHz, MAXN_SUPER promises 1020 MHz", "super configuration"),
        ("throttling", text("sys/class/hwmon/hwmon3/oc1_event_cnt", "5"),
         "voltage was too low 5 times", "supply"),
        ("temperature", text(f"{THERMAL}/thermal_zone0/temp", "96000"), "96 °C", "fan"),
        ("memory", text("proc/meminfo", "MemTotal: 7802336 kB\nMemAvailable: 700000 kB\n"),
         "0.7 of 7.4 GiB free", "set-default multi-user"),
        ("swap", text("proc/meminfo", "MemTotal: 7802336 kB\nMemAvailable: 7000000 kB\n"),
         "none, on a board of 7.4 GiB", "nvzramconfig"),
        ("disk", edited("[camera]", "[retention]\nmin_free_gb = 9999.0\n[camera]"),
         "min_free_gb is 9999", "lower gb"),
        ("disk wear", text("sys/block/mmcblk0/device/life_time", "0x0a 0x01"),
         "100% of the life of mmcblk0", "replace the disk"),
        ("camera", edited("243522071234", "111"),
         "camera 111 is not plugged in (there are 243522071234)", "correct serial"),
        ("camera", gone(CAMERA), "is not plugged in", "USB 3 port"),
        ("USB speed", text(f"{CAMERA}/speed", "480"), "480 Mbit/s at USB port 2-1.4", "USB 3"),
        ("USB autosuspend", text(f"{CAMERA}/power/control", "auto"), "may suspend", "2-1.4/power"),
        ("udev", gone("usr/lib/udev/rules.d/99-realsense.rules"), "no rule", "edge-station"),
        ("udev", lambda root: (root / "dev/bus/usb/002/003").chmod(0o600),
         "was not applied to", "udevadm"),
        ("udev", lambda root: owned(root / "dev/bus/usb/002/003", 0o664),
         "root alone may use it", "udevadm"),
        ("GPIO", lambda root: (GPIO(root), owned(put(root, "dev/gpiochip0", ""), 0o660)),
         "no rule opens gpiochip0", "edge-station"),
        ("GPIO", edited("[camera]", "[gpio]\nenabled = true\nok = 'a'\nng = 'b'\n[camera]"),
         "no GPIO chip", "correct [gpio]"),
        ("station.toml", edited("serial =", "seral ="), "seral", "correct its name"),
        ("broker", edited("enabled = false", "enabled = true\nport = 1"),
         "localhost:1 does not answer", "start the broker"),
        ("trusted keys", gone("etc/edge/trust"), "no key is trusted", "edge trust"),
        ("bundle", damaged_model, "fp32.onnx", ""),
        ("bundle", gone("var/lib/edge/active"), "none is installed", "edge install"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_remedy(
    root: Path, name: str, fault: Fault, said: str, remedy: str
) -> None:
    before = found(root)
    fault(root)
    after = found(root)
    assert name not in before or before[name].state == "right"
    assert after[name].state == "wrong"
    assert said in after[name].said
    assert remedy in after[name].remedy


def unlimited(root: Path) -> None:
    for path in (root / THERMAL).glob("thermal_zone0/trip_point_*"):
        path.unlink()
    put(root, f"{THERMAL}/thermal_zone0/temp", "110000")


def untold_clocks(root: Path) -> None:
    put(root, str(POWER), COMMISSIONED.replace("default", "max"))
    for place in (f"{GPU}/min_freq", f"{CPU}/scaling_min_freq"):
        (root / place).unlink()


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("temperature", unlimited, "110 °C; no sensor says where the system slows down"),
        ("power mode", text(str(POWER), COMMISSIONED.replace('"MAXN_SUPER"', "null")),
         "does not say which is meant"),
        ("power mode", untold_clocks, "does not tell whether the clocks are at their highest"),
        ("udev", gone("dev/bus/usb/002/003"), "whether it was applied, a camera shows"),
    ],
)  # fmt: skip
def test_what_nobody_tells_is_not_called_right(
    root: Path, name: str, fault: Fault, said: str
) -> None:
    fault(root)
    row = found(root)[name]
    assert row.state == "unknown"
    assert said in row.said


def test_the_groups_of_the_account_are_enough(root: Path) -> None:
    GPIO(root)
    for node in (root / "dev/bus/usb/002/003", put(root, "dev/gpiochip0", "")):
        owned(node, 0o660, group=4321)
    assert [found(root)[name].state for name in ("udev", "GPIO")] == ["right", "right"]


def test_a_station_without_a_name_is_told_so(root: Path) -> None:
    edited('"cell7"', '"station"')(root)
    edited("enabled = false", "enabled = true")(root)
    finding = found(root)["station.toml"]
    assert finding.state == "wrong"
    assert finding.said.endswith("station.toml: this station has no name yet")
    assert finding.remedy.startswith("set site, line and station")


def test_an_engine_that_is_not_proven_here(root: Path) -> None:
    (proof,) = (root / "var/lib/edge/engines").glob("????????????.json")
    told = json.loads(proof.read_text())
    proof.write_text(json.dumps({**told, "state": "pending", "engines": [], "chosen": None}))
    assert found(root)["engine"].state == "unknown"
    proof.write_text(json.dumps({**told, "board": "another board"}))
    finding = look("engine", here(root))
    assert finding.state == "wrong"
    assert "proven on another machine, another board" in finding.said


def test_what_the_running_station_says(root: Path) -> None:
    assert found(root)["service"].state == "unknown"
    finding = look("service", here(root))
    assert (finding.state, finding.said) == (
        "wrong", "it starts with the machine, and is not running",
    )  # fmt: skip
    with running(root):
        assert found(root)["service"].state == "right"
    with running(root, state="degraded", reason="camera_lost", why="no frame for 2 s"):
        assert found(root)["service"].said == "degraded: no frame for 2 s"
    (root / WANTED).unlink()
    with running(root):
        finding = found(root)["service"]
    assert finding.state == "wrong"
    assert "systemctl enable" in finding.remedy


def test_the_broker(root: Path, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        edited("enabled = false", f'enabled = true\nhost = "127.0.0.1"\nport = {port}')(root)
        assert found(root)["broker"].said.startswith(f"127.0.0.1:{port} answers")
        with running(root, link="refused: not authorized"):
            finding = found(root)["broker"]
            monkeypatch.setattr(status_file, "boot_time_s", lambda: boot_time_s() + 3600)
            assert found(root)["broker"].said.startswith(f"127.0.0.1:{port} answers"), "it hangs"
    assert (finding.state, finding.said) == ("wrong", f"127.0.0.1:{port}: refused: not authorized")
    edited("port =", 'username = "a"\npassword_file = "etc/edge/none"\nport =')(root)
    finding = found(root)["broker"]
    assert "broker.password_file" in finding.said
    assert finding.state == "wrong"


def test_dates_of_certificates(root: Path) -> None:
    edited("[camera]", '[page]\nenabled = true\ncertificate = "c.pem"\nkey = "k.pem"\n[camera]')(
        root
    )
    assert found(root)["certificates"].state == "wrong"  # there is none
    for days, state in ((400, "right"), (20, "wrong"), (-1, "wrong")):
        (root / "c.pem").write_bytes(certificate(timedelta(days=-500), timedelta(days=days)))
        finding = found(root)["certificates"]
        assert finding.state == state
        until = datetime.now(timezone.utc) + timedelta(days=days)
        assert f"{until:%Y-%m-%d}" in finding.said
        assert ("has expired on" in finding.said) == (days < 0)
    (root / "c.pem").write_bytes(certificate(timedelta(days=30), timedelta(days=400)))
    finding = found(root)["certificates"]
    assert "correct the clock" in finding.remedy


def test_the_authority_of_the_updates_server_ends_too(root: Path) -> None:
    url = 'source = "tuf"\nurl = "https://a/b"\nca_file = "etc/edge/ca.pem"'
    edited("[camera]", f"[update]\n{url}\n[camera]")(root)
    (root / "etc/edge/ca.pem").write_bytes(certificate(timedelta(days=-9), timedelta(days=9)))
    assert "ca.pem is valid until" in found(root)["certificates"].said


def certificate(begins: timedelta, ends: timedelta) -> bytes:
    """PEM, from and until these times from now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now + begins, now + ends
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# --- what only the machine itself tells ---


def look(name: str, subject: Subject) -> Finding:
    (check,) = (check for check in CHECKS if check.name == name)
    finding = check.look(subject)
    assert finding is not None
    return finding


def here(root: Path) -> Subject:
    """The station, on this very machine."""
    return Subject(Store(root), Path("/"), read_config(root))


def driver(firmware: str, recommended: str) -> ModuleType:
    """A stand-in of pyrealsense2 with one camera; recommended: blank where it does not tell."""
    told = {"serial": "243522071234", "firmware": firmware, "recommended": recommended}
    camera = SimpleNamespace(supports=lambda key: bool(told[key]), get_info=told.__getitem__)
    module = ModuleType("pyrealsense2")
    module.camera_info = SimpleNamespace(
        serial_number="serial",
        firmware_version="firmware",
        recommended_firmware_version="recommended",
    )
    module.context = lambda: SimpleNamespace(query_devices=lambda: [camera])
    return module


@pytest.mark.parametrize(
    ("firmware", "recommended", "state"),
    [
        ("5.16.0.1", "5.16.0.1", "right"),
        ("5.9.15.1", "5.16.0.1", "wrong"),  # 9 is less than 16
        ("5.17.0.9", "5.16.0.1", "right"),
        ("5.16.0.1", "", "unknown"),
        ("", "5.16.0.1", "unknown"),
    ],
)
def test_the_firmware_of_the_camera(
    root: Path, monkeypatch, firmware: str, recommended: str, state: str
) -> None:
    monkeypatch.setitem(sys.modules, "pyrealsense2", driver(firmware, recommended))
    monkeypatch.setattr(camera_checks, "usb_cameras", lambda _: usb_cameras(root))
    assert look("camera firmware", here(root)).state == state
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    assert look("camera firmware", here(root)).state == "unknown"


def test_tensorrt_and_the_clock_of_this_machine(root: Path, monkeypatch) -> None:
    assert look("time", here(root)).state == ("right" if is_clock_synced() else "wrong")
    monkeypatch.setattr(board_checks, "is_jetson", lambda _: True)
    monkeypatch.setattr(board_checks, "tensorrt_is_installed", lambda: True)
    assert look("TensorRT", here(root)).state == "right"
    monkeypatch.setattr(board_checks, "tensorrt_is_installed", lambda: False)
    finding = look("TensorRT", here(root))
    assert finding.state == "wrong"
    assert "nvidia-jetpack" in finding.remedy


# --- other machines, and what is printed ---


def test_a_machine_that_is_no_jetson_has_no_rows_of_one(store: Store) -> None:
    rows = found(store.root)
    assert {"TensorRT", "power mode", "GPU clock", "throttling", "swap"} & set(rows) == set()
    assert rows["system"].state == "right"
    assert "no Jetson" in rows["system"].said
    assert rows["bundle"].remedy == "`edge install BUNDLE`"


def test_a_program_reads_one_object_and_the_exit_code(root: Path, capsys, monkeypatch) -> None:
    put(root, f"{CAMERA}/speed", "480")
    answer = run_edge(capsys, monkeypatch, "doctor", "--json", "--root", root)
    assert answer.code == 1
    told = json.loads(answer.out)
    assert (told["schema"], told["root"]) == (1, str(root))
    wrong = [row for row in told["rows"] if row["state"] == "wrong"]
    assert [row["name"] for row in wrong] == ["USB speed"]
    assert wrong[0]["remedy"].startswith("plug it into a USB 3 port")


def test_text_of_a_device_is_safe_for_a_terminal(root: Path, capsys, monkeypatch) -> None:
    put(root, f"{CAMERA}/product", "RealSense \x1b[31m\nright    faked")
    answer = run_edge(capsys, monkeypatch, "doctor", "--root", root)
    assert "\x1b" not in answer.out
    assert "faked" in answer.out
    assert not any(line.startswith("right    faked") for line in answer.out.splitlines())


def test_a_row_that_cannot_be_looked_at_costs_no_other(root: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/sys/x")

    monkeypatch.setattr(disk_checks, "disk_of", refuse)
    rows = found(root)
    assert rows["disk wear"] == Finding(
        "unknown",
        "/sys/x cannot be used, permission denied: check its owner and mode, or use another"
        " account",
        "run it with sudo",
    )
    assert rows["engine"].state == "right"


def test_root_is_told_what_root_alone_is_told(store: Store, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has another account's rights to take")
    tmp_path.chmod(0o755)
    for path in (store.data, *store.data.rglob("*")):
        os.chown(path, 4321, 4321)

    def account(_: Subject) -> Finding:
        return right(str(os.geteuid()))

    checks = (Check("disk wear", account, needs_root=True), Check("engine", account))
    assert [row.finding.said for row in examine(store.root, checks)] == ["0", "4321"]
    assert next(check for check in CHECKS if check.name == "disk wear").needs_root
    put(store.root, "etc/os-release", "NAME=x")
    said = [row.finding.said for row in examine(store.root, checks)]
    assert said == ["4321", "4321"], "no program of another system runs as root"
