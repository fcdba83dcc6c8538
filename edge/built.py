"""When this software was built: written into each wheel by setup.py; a source checkout has the date
of its last commit.
"""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

BUILT = ""  # UTC, ISO 8601
EARLIEST = datetime(2026, 11, 30, tzinfo=timezone.utc)  # of every build: updates began then
GIT_S = 10.0
ROOT = Path(__file__).resolve().parents[1]


@cache
def built_at() -> datetime:
    """The moment before which this software cannot run."""
    return max(EARLIEST, datetime.fromisoformat(BUILT) if BUILT else _last_commit())


def _last_commit() -> datetime:
    """Of the checkout that this module lies in; EARLIEST where it lies in none."""
    if not (ROOT / ".git").exists():
        return EARLIEST
    words = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=GIT_S)
    except (OSError, subprocess.SubprocessError):  # no git here
        return EARLIEST
    seconds = done.stdout.strip()
    return datetime.fromtimestamp(int(seconds), timezone.utc) if seconds.isdecimal() else EARLIEST
