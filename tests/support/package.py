"""Small Debian packages, made by dpkg-deb: they stand in for edge-station where only apt's and
dpkg's part in it is looked at.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


def make_package(
    folder: Path,
    name: str = "edge-station",
    version: str = "0.1",
    architecture: str = "all",
    files: Mapping[str, str] | None = None,
    postinst: str = "",
    needs: str = "",
) -> Path:
    """A package with these programs and this script, as a .deb file in `folder`. needs: what must
    be installed before it is unpacked. Skips, saying so, where there is no dpkg-deb.
    """
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed: apt-get install dpkg")
    tree = folder / f"{name}-{version}-{architecture}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
        "Maintainer: tests <tests@localhost>\nDescription: made by a test\n"
        + (f"Pre-Depends: {needs}\n" if needs else "")
    )
    if postinst:
        (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\nset -e\n{postinst}\n")
        (tree / "DEBIAN/postinst").chmod(0o755)
    for place, text in (files or {}).items():
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).write_text(text)
        (tree / place).chmod(0o755)
    package = folder / f"{name}_{version}_bookworm_{architecture}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, package],
        check=True,
        capture_output=True,
    )
    return package


def lay_python(rootfs: Path, version: str) -> None:
    """Let dpkg know, in this root, the package python3 as installed."""
    status = rootfs / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text(
        f"Package: python3\nStatus: install ok installed\nVersion: {version}\n"
        "Architecture: all\nMaintainer: tests <tests@localhost>\nDescription: made by a test\n"
    )
