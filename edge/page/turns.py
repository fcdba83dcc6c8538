"""Counting walks through every record, which takes seconds where there are millions: one at a time
for all browsers together, and those that wait hold no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool

WAITING_LIMIT = 8

Found = TypeVar("Found")


class Turns:
    """One for each application."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def take(self, work: Callable[[], Found]) -> Found:
        """What `work` gives, called in a thread when it is its turn.

        Raises: HTTPException 503 if too many wait already, and whatever `work` raises.
        """
        if self._waiting >= WAITING_LIMIT:
            raise HTTPException(503, "too many ask for counts at this moment: try again")
        self._waiting += 1
        try:
            async with self._lock:
                return await run_in_threadpool(work)
        finally:
            self._waiting -= 1
