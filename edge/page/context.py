"""What every request needs, kept in the application's state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from starlette.requests import Request

from edge.config import EdgeConfig
from edge.database import Database
from edge.page.checks import Checks
from edge.page.live_source import SharedLook
from edge.page.live_state import LiveView
from edge.page.render import Renderer
from edge.page.sessions import Sessions
from edge.page.station_guide import StationGuide
from edge.page.turns import Turns
from edge.page.users import Users


@dataclass(frozen=True)
class PageContext:
    """One for each application.

    vault: page.sqlite, under users and sessions. live: what the station does now, asked once for
    all tabs. view: the same as it is shown. guide: the calibration at work. turns: of what counts
    every record.
    """

    root: Path
    config: EdgeConfig
    vault: Database
    users: Users
    checks: Checks
    sessions: Sessions
    renderer: Renderer
    live: SharedLook
    view: LiveView
    guide: StationGuide
    turns: Turns


def context_of(request: Request) -> PageContext:
    """That of the application which serves this request."""
    return cast("PageContext", request.app.state.context)
