"""Independent clients from npm: tests/peers/NAME has their package.json and lock file."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[1] / "peers"
INSTALL_S = 600.0
FILES = ("package.json", "package-lock.json")


def installed_peer(name: str) -> Path:
    """The folder whose node_modules has what the lock file of this peer names, installed once into
    the user's cache. Skips, saying so, where that is not possible.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed: apt-get install nodejs npm")
    wanted = b"".join((PEERS / name / file).read_bytes() for file in FILES)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = (
        cache / "rgbd-inspection" / "peers" / f"{name}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    )
    if not folder.exists():
        _install(npm, name, folder)
    return folder


def _install(npm: str, name: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        for file in FILES:
            shutil.copy(PEERS / name / file, made)
        words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                words, cwd=made, capture_output=True, text=True, timeout=INSTALL_S
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm ci of tests/peers/{name} did not end within {INSTALL_S:.0f} s")
        if done.returncode:
            pytest.skip(f"npm ci of tests/peers/{name} failed: {done.stderr.strip()[-300:]}")
        Path(made).rename(folder)
        Path(made).mkdir()  # for the end of the temporary folder
