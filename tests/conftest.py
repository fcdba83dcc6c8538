"""Fixtures shared by every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real images: RGBD_DATA, else shared/data beside the checkout. Skips, saying so, where it is absent."""
    folder = Path(os.environ.get("RGBD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}: set RGBD_DATA to the folder that holds cookies, screw and rgbd")
    return folder
