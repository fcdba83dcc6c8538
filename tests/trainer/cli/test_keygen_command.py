"""`trainer keygen` as a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge.bundle.key_files import read_public_key

REPOSITORY = Path(__file__).resolve().parents[3]


def test_keygen_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainer", "keygen", str(tmp_path / "line")]
    end = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert end.returncode == 0
    assert read_public_key(tmp_path / "line.pub").keyid in end.stdout
    assert "edge trust line.pub" in end.stdout.splitlines()[-1]
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
