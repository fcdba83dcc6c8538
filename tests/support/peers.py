"""Clients by others, from npm: their packages are installed once, into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[1] / "peers"
INSTALL_S = 120
NPM_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def node_modules(name: str) -> Path:
    """The packages that tests/peers/NAME/package-lock.json pins.

    Skips, saying why, where node, npm or the packages are not to be had.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed: they run the independent client")
    files = [PEERS / name / file for file in ("package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "rgbd-inspection" / "peers" / f"{name}-{digest}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        try:
            for file in files:
                shutil.copy(file, beside)
            _install(npm, name, beside)
            if not folder.is_dir():  # another worker may have been faster
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder / "node_modules"


def _install(npm: str, name: str, folder: Path) -> None:
    try:
        done = subprocess.run(
            [npm, *NPM_CI], cwd=folder, capture_output=True, text=True, timeout=INSTALL_S
        )
        why = done.stderr if done.returncode else ""
    except subprocess.TimeoutExpired:
        why = f"npm took more than {INSTALL_S} s"
    if why:
        pytest.skip(f"the packages of tests/peers/{name} are not to be had here: {why[-300:]}")
