"""The files of packaging/: what a package is made of, before any is built."""

from __future__ import annotations

import configparser
import errno
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from edge.provision.first_files import UNIT_NAMES
from scripts import make_deb, wheelhouse
from scripts.make_deb import ROOT
from tests.support.broker import MOSQUITTO, free_port, wait_until
from tests.support.patience import HANG_S
from tests.support.tiny_deb import DAY, make_tiny_deb

PACKAGING, UNITS = ROOT / "packaging", ROOT / "systemd"
MAINTAINER_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


@pytest.mark.parametrize("name", [*MAINTAINER_SCRIPTS, "environment", "python"])
def test_the_shell_understands_it(name: str) -> None:
    checked = subprocess.run(["sh", "-n", PACKAGING / name], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def settings(target: str) -> dict:
    text = make_deb.render_settings(wheelhouse.TARGETS[target], Path("/x"), "1.2.3", DAY)
    return yaml.safe_load(text)


def test_there_is_one_package_for_each_system_that_the_documentation_names() -> None:
    page = (ROOT / "docs/package.md").read_text()
    for target in wheelhouse.TARGETS.values():
        row = f"| `{target.name}` | {target.system} | {target.python_version} |"
        assert row in page


@pytest.mark.parametrize("name", list(wheelhouse.TARGETS))
def test_a_package_depends_on_its_python_and_c_library(name: str) -> None:
    target, filled = wheelhouse.TARGETS[name], settings(name)
    major, minor = target.python
    assert (filled["name"], filled["arch"], filled["version"]) == (
        "edge-station",
        target.arch,
        "1.2.3",
    )
    assert filled["deb"]["predepends"] == [
        f"python3 (>= {major}.{minor})",
        f"python3 (<< {major}.{minor + 1})",
    ]
    assert f"libc6 (>= 2.{target.glibc[1]})" in filled["depends"]
    # apt-get --no-install-recommends, as `edge install` calls it, leaves a camera that opens
    assert ({"libusb-1.0-0", "libudev1"} <= set(filled["depends"])) == target.camera
    assert ("python3-libnvinfer" in filled["recommends"]) == ("JetPack" in target.system)
    assert {Path(path).name for path in filled["scripts"].values()} == set(MAINTAINER_SCRIPTS)
    assert all((ROOT / path).is_file() for path in filled["scripts"].values())


def test_every_file_of_the_folder_has_its_place_and_every_unit_is_packed(tmp_path: Path) -> None:
    placed = {*make_deb.PLACES, *MAINTAINER_SCRIPTS, "nfpm.yaml"}
    assert {path.name for path in PACKAGING.iterdir()} == placed
    make_deb.lay_out(tmp_path, "1.2.3", DAY)
    packed = {path.name for path in (tmp_path / make_deb.UNITS).iterdir()}
    assert packed == {path.name for path in UNITS.iterdir()}
    loose = [
        path for path in tmp_path.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o777 != (
            0o755 if path.is_dir() or path.parent.name == "bin" else 0o644
        )
    ]  # fmt: skip
    assert loose == []
    command = tmp_path / "usr/bin/edge"
    assert command.readlink() == Path("/opt/edge/bin/edge")


def test_package_first_installation_and_documentation_have_the_same_units() -> None:
    shipped = {path.name for path in UNITS.iterdir()}
    assert set(UNIT_NAMES) == shipped
    page = (ROOT / "docs/jetson.md").read_text()
    table = page.partition("## Units\n")[2].partition("\n\n")[0]
    first_cells = "".join(row.split("|")[1] for row in table.splitlines())
    assert set(re.findall(r"`(\S+)`", first_cells)) == shipped


def units() -> dict[str, configparser.ConfigParser]:
    read = {}
    for path in UNITS.iterdir():
        read[path.name] = configparser.ConfigParser(strict=False, interpolation=None)
        read[path.name].optionxform = str
        read[path.name].read_string(path.read_text())
    return read


def test_programs_accounts_and_groups_that_units_name_are_in_the_package() -> None:
    programs = {"/opt/edge/bin/edge", "/opt/edge/bin/python"}
    lines = [
        line.split() for line in (PACKAGING / "edge-station.sysusers").read_text().splitlines()
        if line and not line.startswith("#")
    ]  # fmt: skip
    groups = {line[1] for line in lines if line[0] == "g"}
    joined = {line[2] for line in lines if line[0] == "m"}
    assert joined < groups
    for name, unit in units().items():
        if "Service" not in unit:
            continue
        service = unit["Service"]
        assert service["ExecStart"].split()[0].lstrip("-+!") in programs, name
        assert service.get("User", "edge") == "edge", name
        assert set(service.get("SupplementaryGroups", "").split()) <= joined, name


def test_systemd_makes_account_and_folders(tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None or os.geteuid() != 0:
        pytest.skip("needs root, systemd-sysusers and systemd-tmpfiles")
    (tmp_path / "etc").mkdir()
    make_deb.lay_out(tmp_path, "1.2.3", DAY)
    for program in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        done = subprocess.run(
            [*program, f"--root={tmp_path}", "edge-station.conf"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    accounts = (tmp_path / "etc/passwd").read_text()
    (account,) = [line.split(":") for line in accounts.splitlines() if line.startswith("edge:")]
    assert account[5:] == ["/var/lib/edge", "/usr/sbin/nologin"]
    owners = {
        place: ((tmp_path / place).stat().st_uid, (tmp_path / place).stat().st_mode & 0o777)
        for place in ("etc/edge", "etc/edge/trust", "var/lib/edge", "run/edge")
    }
    edge = int(account[2])
    assert owners == {
        "etc/edge": (0, 0o755),
        "etc/edge/trust": (0, 0o755),
        "var/lib/edge": (edge, 0o755),
        "run/edge": (edge, 0o755),
    }


@pytest.mark.parametrize(
    ("words", "forced", "code"),
    [
        (["upgrade", "1.1.0", "1.0.0"], "", 1),
        (["install", "1.1.0", "1.0.0"], "", 1),
        (["upgrade", "1.1.0", "1.0.0"], "yes", 0),
        (["upgrade", "1.0.0", "1.0.0"], "", 0),
        (["upgrade", "1.9.0", "1.10.0"], "", 0),
        (["install"], "", 0),
        (["abort-upgrade", "1.1.0"], "", 0),
    ],
)
def test_an_older_version_does_not_replace_a_newer_one(
    words: list[str], forced: str, code: int
) -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed")
    answer = subprocess.run(
        ["sh", PACKAGING / "preinst", *words], capture_output=True, text=True,
        env=os.environ | {"EDGE_DOWNGRADE": forced},
    )  # fmt: skip
    assert answer.returncode == code
    assert ("EDGE_DOWNGRADE=yes" in answer.stderr) == (code == 1)
    assert answer.stderr.count("\n") == code


def test_the_broker_for_loopback_starts_and_listens_nowhere_else(tmp_path: Path) -> None:
    if shutil.which(MOSQUITTO) is None:
        pytest.skip("mosquitto is not installed")
    settings, port = (PACKAGING / "mosquitto-loopback.conf").read_text(), free_port()
    assert settings.count("1883") == 1
    (tmp_path / "edge.conf").write_text(settings.replace("1883", str(port)))
    broker = subprocess.Popen(
        [MOSQUITTO, "-c", tmp_path / "edge.conf"], stderr=subprocess.PIPE, text=True
    )
    try:
        with socket.socket() as client:
            wait_until(
                lambda: client.connect_ex(("127.0.0.1", port)) in (0, errno.EISCONN),
                HANG_S,
                "it does not listen",
            )
        tables = [Path(f"/proc/{broker.pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
        listening = re.findall(rf": ([0-9A-F]+):{port:04X} \S+ 0A ", "".join(tables))
        assert listening == ["0100007F"]
    finally:
        broker.terminate()
        broker.communicate()


def test_the_same_wheels_give_the_same_package(tmp_path: Path) -> None:
    made = make_tiny_deb(tmp_path, "1.0").read_bytes()
    root = tmp_path / "1.0/root"
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.touch()
    shutil.rmtree(root / "usr")
    (root / make_deb.HOME / "bin/edge").unlink()
    package = make_deb.pack(wheelhouse.TARGETS["bookworm-amd64"], root, tmp_path, "1.0", DAY)
    assert package.read_bytes() == made
