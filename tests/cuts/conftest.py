"""The builder of cut roots, in the folder `place` that each file of tests makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cuts.disk import Builder


@pytest.fixture(scope="module")
def builder(place: Path) -> Iterator[Builder]:
    builder = Builder(place)
    yield builder
    builder.require_untouched()
