"""Whether a restored backup is being put in place under a root: until that is done, nothing judges
and nothing else changes the station.
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import BusyError
from edge.files import is_there

STAGE = ".restore"  # in var/lib/edge: what is staged
READY = "ready"  # in it, once everything is staged: from then on a restore is only ever finished


def require_not_restoring(data: Path) -> None:
    """data: var/lib/edge of a root. Raises: BusyError."""
    if is_there(data / STAGE / READY):
        raise BusyError(
            f"`edge restore` was interrupted while it put a backup in place under {data}: give the"
            " same command again, which finishes it"
        )
