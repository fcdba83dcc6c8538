"""Passwords are checked one at a time: each check takes 32 MiB and a tenth of a second."""

from __future__ import annotations

import asyncio

from starlette.concurrency import run_in_threadpool

from edge.page.users import User, Users

WAITING_LIMIT = 8


class Busy(Exception):
    """Too many wait already."""


class Checks:
    """The queue before Users.check. Of one event loop."""

    def __init__(self, users: Users) -> None:
        """Nobody waits yet."""
        self._users, self._turn, self._waiting = users, asyncio.Lock(), 0

    async def check(self, name: str, secret: str) -> User | None:
        """As Users.check, beside the other requests. Raises: WaitFirst, Busy."""
        if self._waiting >= WAITING_LIMIT:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                return await run_in_threadpool(self._users.check, name, secret)
        finally:
            self._waiting -= 1
