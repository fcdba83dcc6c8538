"""Root file systems of Debian 12 and packages for them: EDGE_TEST_ROOTS (.venv/roots) has a folder
per architecture, EDGE_TEST_DEB (build/deb) the packages, which `make deb` makes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from edge.files import remove_tree
from tests.support.booted import ROOTS, made_root

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = Path(os.environ.get("EDGE_TEST_DEB", REPOSITORY / "build/deb"))


@contextmanager
def debian_root(arch: str, make: bool = True) -> Iterator[Path]:
    """A root of the architecture; what is changed in it lies in a folder of its own.

    make: where there is none, it is made, which takes minutes.
    Skips, saying so, where there is none, or this account may not mount.
    """
    base = made_root(arch) if make else ROOTS / arch
    if not (base / "etc/debian_version").exists():
        pytest.skip(f"no root {base}: the long tests make it (make endurance)")
    work = Path(mkdtemp(prefix="edge-root-"))
    for name in ("upper", "work", "root"):
        (work / name).mkdir()
    options = f"lowerdir={base},upperdir={work}/upper,workdir={work}/work"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(work / "root")]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        remove_tree(work)
        pytest.skip("this account mounts no overlay: run the tests as root")
    try:
        yield work / "root"
    finally:
        # where something is still mounted inside, nothing may be removed: it could be /dev
        subprocess.run(["umount", work / "root"], check=True)
        remove_tree(work)


def find_package(arch: str) -> Path:
    """The newest package for Debian 12 on this architecture. Skips, saying so, without one."""
    found = sorted(PACKAGES.glob(f"edge-station_*_bookworm_{arch}.deb"))
    if not found:
        pytest.skip(f"no package for {arch} in {PACKAGES}: make deb TARGET=bookworm-{arch}")
    return found[-1]


def run_inside(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A program of the root, in the root."""
    return subprocess.run(["chroot", root, *command], capture_output=True, text=True)


def mounts_below(folder: Path) -> list[str]:
    """Places below `folder` where something is mounted."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}/")]
