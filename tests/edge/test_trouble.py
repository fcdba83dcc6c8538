"""A failure that repeats is told when it begins, changes and ends."""

from __future__ import annotations

import logging

import pytest

from edge.trouble import Trouble


def test_it_is_told_when_it_begins_changes_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(logging.getLogger("test"), "connected again")
    for _ in range(100):
        trouble.happened("nothing listens")
    for _ in range(50):
        trouble.happened("no answer")
        trouble.happened("nothing listens")
    assert trouble.is_on
    trouble.ended()
    trouble.ended()
    assert caplog.messages == [
        "nothing listens",
        "no answer (before this: 100 failures in 0 s)",
        "connected again, after 200 failures in 0 s",
    ]
    trouble.happened("nothing listens")
    trouble.ended()
    assert caplog.messages[3:] == ["nothing listens", "connected again, after 1 failure in 0 s"]


def test_two_that_suffer_from_one_cause_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(logging.getLogger("test"), "connected again")
    trouble.happened("nothing listens", "verdict")
    trouble.happened("nothing listens", "record")
    trouble.ended("verdict")
    assert caplog.messages == ["nothing listens"]
    trouble.ended("record")
    assert caplog.messages[1:] == ["connected again, after 2 failures in 0 s"]
