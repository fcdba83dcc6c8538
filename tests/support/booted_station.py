"""The station of a machine that the tests boot: its files, and what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.booted import BootedRoot


def station_toml(port: int = 0, more: str = "") -> str:
    """Of a station with the virtual camera. port: of a broker on this machine, 0 for none."""
    broker = f'host = "127.0.0.1"\nport = {port}\n' if port else "enabled = false\n"
    return (
        '[station]\nstation = "cell7"\n[camera]\nkind = "virtual"\npath = "/srv/belt"\n'
        f'empty = "/srv/empty"\n[broker]\n{broker}{more}'
    )


def configure(booted: BootedRoot, port: int = 0, more: str = "") -> None:
    """more: further keys of [broker], then further sections."""
    (booted.root / "etc/edge/station.toml").write_text(station_toml(port, more))


def bring(booted: BootedRoot, delivered: Path) -> None:
    """Copy what was delivered to the machine's /srv."""
    shutil.copytree(delivered, booted.root / "srv", dirs_exist_ok=True)
    (booted.root / "srv").chmod(0o755)  # folders of pytest are closed to other accounts


def status_of(booted: BootedRoot) -> dict[str, Any]:
    """What the running station writes each second; empty before it does."""
    shown = booted.run("cat /run/edge/status.json", check=False)
    return json.loads(shown.stdout) if shown.returncode == 0 else {}


def put(booted: BootedRoot, package: Path) -> str:
    """Copy a package to the machine; its path there."""
    shutil.copy(package, booted.root / "srv")
    return f"/srv/{package.name}"


def installed_version(booted: BootedRoot) -> str:
    shown = booted.run("dpkg-query -W -f '${db:Status-Status} ${Version}' edge-station")
    return shown.stdout


def newer_package(package: Path, folder: Path) -> Path:
    """The same package as version 99, with an environment of its own."""
    content = folder / "content"
    subprocess.run(["dpkg-deb", "-R", package, content], check=True)
    control = content / "DEBIAN/control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text("".join("Version: 99\n" if "Version:" in line else line for line in lines))
    with (content / "opt/edge/wheels/requirements.txt").open("a") as file:
        file.write("# another environment\n")
    made = folder / "edge-station_99.deb"
    subprocess.run(["dpkg-deb", "-Znone", "-b", content, made], check=True, capture_output=True)
    shutil.rmtree(content)
    return made
