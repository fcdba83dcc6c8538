"""`edge run` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.patience import patience_s
from tests.support.station import StationRoot

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def edge_run(station: StationRoot, *options: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "edge", "run", "--root", str(station.root), *options]


@contextmanager
def running_process(
    station: StationRoot, log: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The running command, with its log appended to a file; killed at the end."""
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            edge_run(station, *options), cwd=REPOSITORY, stderr=stderr, env=ENVIRONMENT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(patience_s(10))
