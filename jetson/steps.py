"""What a flash does, step by step. A dry run shows the same steps that a run performs."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from edge.errors import EdgeError
from edge.files import make_folder

HIDDEN = "********"


class FlashError(EdgeError):
    """One of NVIDIA's tools ended with an error."""


class BoardLog:
    """The log of one board: every step, every line of every tool. Nothing secret is in it."""

    def __init__(self, folder: Path, name: str) -> None:
        make_folder(folder)
        now = datetime.now(timezone.utc)
        self.path = folder / f"{name}-{now:%Y%m%dT%H%M%S.%fZ}.log"
        self.file = self.path.open("xb", buffering=0)

    def say(self, text: str) -> None:
        """A line of this software, with the time."""
        self.file.write(f"--- {datetime.now(timezone.utc):%H:%M:%S} {text}\n".encode())

    def close(self) -> None:
        """The file is on the disk."""
        os.fsync(self.file.fileno())
        self.file.close()


class Step(Protocol):
    """One thing that is done for a board."""

    def shown(self) -> str:
        """What it is, for a dry run and the log: a command line as a shell takes it, or a
        sentence.
        """

    def perform(self, log: BoardLog) -> None:
        """Do it. Raises: EdgeError."""


@dataclass(frozen=True)
class Command:
    """A tool of NVIDIA. words: what it is called with. folder: where. variables: of its
    environment, beside this process's. secrets: words that nobody is shown.
    """

    words: Sequence[str]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[str] = ()

    def shown(self) -> str:
        """With `cd`, as it can be typed; secrets are stars."""
        words = [HIDDEN if word in self.secrets else shlex.quote(word) for word in self.words]
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items()]
        return f"cd {shlex.quote(str(self.folder))} && sudo {' '.join([*settings, *words])}"

    def perform(self, log: BoardLog) -> None:
        """Run it without a terminal; its output goes to the log. Raises: FlashError."""
        started = time.monotonic()
        done = subprocess.run(
            self.words,
            cwd=self.folder,
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=log.file,
            stderr=subprocess.STDOUT,
        )
        log.say(f"ended with {done.returncode} after {time.monotonic() - started:.0f} s")
        if done.returncode != 0:
            raise FlashError(
                f"{self.words[0]} ended with {done.returncode}: its last lines are in"
                f" {log.path}; mend what they say, put the board into recovery mode, and give the"
                " same command again"
            )


@dataclass(frozen=True)
class Act:
    """Something that this software does itself. what: a sentence of it."""

    what: str
    do: Callable[[], object]

    def shown(self) -> str:
        """The sentence."""
        return self.what

    def perform(self, log: BoardLog) -> None:  # noqa: ARG002  it says nothing more
        """Do it."""
        self.do()
