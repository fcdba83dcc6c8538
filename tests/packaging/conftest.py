"""The packages of all targets, each made when a test asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from scripts.make_deb import ROOT
from scripts.wheelhouse import TARGETS


@pytest.fixture(scope="session")
def package_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The package of a target: out of the folder that EDGE_TEST_DEB names, else built here, from
    the index that pip is set up for.
    """
    named = os.environ.get("EDGE_TEST_DEB")
    out = Path(named) if named else tmp_path_factory.mktemp("deb")

    @cache
    def package(name: str) -> Path:
        if not named:
            require_index(out)
            words = [ROOT / "scripts/make_deb.py", name, "--out", out]
            subprocess.run([sys.executable, *words], check=True)
        target = TARGETS[name]
        return max(out.glob(f"edge-station_*_{target.codename}_{target.arch}.deb"))

    return package


def require_index(out: Path) -> None:
    """Skip, saying so, where pip reaches no package index."""
    words = ["download", "--quiet", "--no-deps", "--no-cache-dir", "--dest", out / "try", "mdurl"]
    if subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True).returncode:
        pytest.skip("pip reaches no package index: no package can be built")
