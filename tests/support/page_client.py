"""A client that has logged in to the page of a station under a temporary root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from edge.page.app import create_app
from edge.page.live_source import Look
from edge.page.roles import Role
from edge.page.security import COOKIE

PASSWORD = "a horse in the rain"
ORIGIN = "http://localhost"
SAID: Mapping[str, Any] = {
    "state": "online",
    "ready": True,
    "engine_ms": 41.25,
    "commit_ms": 3.5,
    "pid": 7,
}


class StillSource:
    """A station that always says the same."""

    async def look(self) -> Look:
        return Look("online", SAID)

    async def close(self) -> None:
        return None


def page_client(root: Path, role: Role | None = Role.LOOK, name: str = "quality") -> TestClient:
    """A client of a new application; role None: it has not logged in."""
    app = create_app(root, StillSource())
    client = TestClient(app, base_url=ORIGIN, follow_redirects=False)
    if role is not None:
        context = app.state.context
        if context.users.find(name) is None:
            context.users.add(name, role)
        context.users.choose_password(name, PASSWORD)
        client.cookies.set(COOKIE, context.sessions.begin(name))
    return client


def post(client: TestClient, path: str, origin: str | None = ORIGIN, **fields: str) -> Any:
    """As a browser sends a form of the page at `origin`."""
    headers = {} if origin is None else {"origin": origin}
    return client.post(path, data=fields, headers=headers)
