"""A child process ends within its limits, and with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edge.bounded import ChildFailed, Limits, call_bounded
from tests.support.broker import wait_until

CHILD = "tests.support.bounded_child"
REPOSITORY = Path(__file__).resolve().parents[2]
ROOM = Limits(120, 2 << 30)


def call(text: str, limits: Limits = ROOM) -> str:
    return call_bounded(CHILD, text.encode(), limits).decode()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if CHILD in child.cmdline()]


def test_an_answer_comes_back_and_what_a_library_prints_does_not(capfd) -> None:
    word, pid = call("echo").split()
    assert (word, int(pid) == os.getpid()) == ("echo", False)
    assert children() == []


@pytest.mark.parametrize(
    ("text", "limits", "words"),
    [
        ("hang", Limits(2, 2 << 30), "it took longer than 2 s"),
        ("eat 2048", Limits(120, 256 << 20, hard=False), "it took more than 0.3 GB of memory"),
        # a MemoryError: refused by the kernel
        ("eat 2048", Limits(120, 256 << 20), "its process ended with code 1"),
        ("crash", ROOM, "its process was ended by SIGSEGV"),
        ("exit", ROOM, "its process ended with code 3"),
        ("talk", ROOM, "it answered more than"),
    ],
)
def test_whatever_it_does_is_a_clause_and_it_is_gone(text: str, limits: Limits, words: str) -> None:
    with pytest.raises(ChildFailed, match=words):
        call(text, limits)
    assert children() == []


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """Ctrl-C interrupts, also where a shell has started the tests in the background, which ignores
    it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_an_interrupt_takes_the_child_along(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def interrupt() -> None:
        wait_until(begun.exists, 60, "no child")
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        call(f"hang {begun}")
    helper.join()
    assert children() == []


def test_a_parent_that_is_killed_takes_the_child_along() -> None:
    script = f"from edge.bounded import *; call_bounded({CHILD!r}, b'hang', Limits(500, 1 << 31))"
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stderr is not None
    # it has entered, and its output is no answer
    assert "a library says" in parent.stderr.readline()
    (child,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.communicate()
    wait_until(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE,
        60,
        "the child lives on",
    )
