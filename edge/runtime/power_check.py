"""At each start: whether the board is in the power mode that the station was commissioned in."""

from __future__ import annotations

import logging
from pathlib import Path

from edge.board.power import power_problem
from edge.errors import EdgeError
from edge.runtime.health import Health

log = logging.getLogger(__name__)


def note_power(root: Path, health: Health) -> None:
    """Let the state say how the board's power differs from what was commissioned. A board that does
    not tell its mode differs in nothing.
    """
    try:
        why = power_problem(root)
    except (EdgeError, OSError) as error:
        why = str(error)
    if why:
        log.warning("%s", why)
    health.note_power(why)
