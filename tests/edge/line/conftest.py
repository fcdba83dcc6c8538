from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.line.outbox import Outbox


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "line.sqlite")
    yield opened
    opened.close()
