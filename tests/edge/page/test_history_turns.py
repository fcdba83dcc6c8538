"""Counting every record happens once at a time, and a crowd that asks for it is turned away."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from fastapi import HTTPException

from edge.page.turns import WAITING_LIMIT, Turns


def test_one_counts_at_a_time_and_a_crowd_is_turned_away() -> None:
    at_work, most, done = 0, 0, threading.Lock()

    def count() -> int:
        nonlocal at_work, most
        with done:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.01)
        with done:
            at_work -= 1
        return 7

    async def ask() -> list[object]:
        turns = Turns()
        asked = [turns.take(count) for _ in range(50)]
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(ask())
    assert most == 1
    assert answers.count(7) == WAITING_LIMIT
    refused = [answer for answer in answers if isinstance(answer, HTTPException)]
    assert len(refused) == 50 - WAITING_LIMIT
    assert {answer.status_code for answer in refused} == {503}


def test_a_count_that_fails_gives_its_turn_back() -> None:
    async def ask() -> int:
        turns = Turns()
        for _ in range(2 * WAITING_LIMIT):
            with pytest.raises(ZeroDivisionError):
                await turns.take(lambda: 1 // 0)
        return await turns.take(lambda: 7)

    assert asyncio.run(ask()) == 7
