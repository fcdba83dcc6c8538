"""The edge-station package as a file, and whether it is for a system: one for another Python is
refused before anything of it is unpacked.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ConfigError, MissingDependency
from edge.provision.architecture import architecture

PACKAGE = "edge-station"
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64", "arm": "armhf", "i386": "i386"}
FORMAT = "${Package}\t${Version}\t${Architecture}\t${Pre-Depends}"
OLDEST = re.compile(r"\bpython3 \(>= (\d+\.\d+)\)")  # a package has the libraries of one Python
STATUS = "var/lib/dpkg"
INSTALLED_PYTHON = ("--showformat=${db:Status-Status} ${Version}", "--show", "python3")


@dataclass(frozen=True)
class Package:
    """What a .deb file says of itself. processor: as Debian names it. python: such as 3.10; blank
    where it needs none.
    """

    path: Path
    name: str
    version: str
    processor: str
    python: str

    def require_fits(self, system: str, processor: str | None, python: str) -> None:
        """Require that it is edge-station, for this processor and Python.

        system: for the error. python: the version of the system's package python3; blank: unknown.
        Raises: ConfigError.
        """
        if self.name != PACKAGE:
            raise ConfigError(
                f"{self.path} is the package {self.name}, not {PACKAGE}: name the .deb of {PACKAGE}"
            )
        if self.processor not in ("all", processor):
            raise ConfigError(
                f"{self.path} is for {self.processor}, {system} is for {processor}: take the"
                " package of that processor"
            )
        if self.python and python and major_minor(python) != self.python:
            raise ConfigError(
                f"{self.path} is for Python {self.python}, {system} has Python"
                f" {major_minor(python)}: take the package of that system (jammy for JetPack 6,"
                " noble for JetPack 7, bookworm for Debian 12)"
            )

    def require_fits_root(self, rootfs: Path) -> None:
        """As require_fits, for the system under `rootfs`."""
        machine = architecture(rootfs)
        self.require_fits(str(rootfs), DEBIAN.get(machine or "", machine), python_of(rootfs))


def read_package(path: Path) -> Package:
    """What a .deb file says.

    Raises: ConfigError if it is none, MissingDependency without dpkg-deb.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is no file: name the .deb of {PACKAGE}")
    if shutil.which("dpkg-deb") is None:
        raise MissingDependency("dpkg-deb is not installed: apt-get install dpkg")
    told = _told("dpkg-deb", f"--showformat={FORMAT}", "--show", str(path))
    fields = told.split("\t")
    if len(fields) != 4:
        raise ConfigError(f"{path} is no Debian package: name the .deb of {PACKAGE}")
    name, version, processor, needs = fields
    oldest = OLDEST.search(needs)
    return Package(path, name, version, processor, oldest[1] if oldest else "")


def python_of(rootfs: Path) -> str:
    """The version of the package python3 that the system under `rootfs` has; blank where it has
    none.
    """
    told = _told("dpkg-query", f"--admindir={rootfs / STATUS}", *INSTALLED_PYTHON)
    return told.removeprefix("installed ") if told.startswith("installed ") else ""


def major_minor(version: str) -> str:
    """3.10 of a version such as 3.10.6-1~22.04."""
    return ".".join(re.findall(r"\d+", version)[:2])


def _told(*command: str) -> str:
    """What a program prints; blank if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""
