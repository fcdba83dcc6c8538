"""Tasks for runners that are lines of Python, and somebody who listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.runner.protocol import Outcome, Task


class Heard:
    """What a runner told. See trainer.runner.protocol.Watch."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self.running: list[str] = []
        self.stopped = 0
        self.beside: dict[str, set[str]] = {}  # by task: who ran beside its last attempt

    def started(self, task: Task) -> None:
        self.begun.append(task.name)
        self.running = [*(name for name in self.running if name != task.name), task.name]
        self.beside[task.name] = set(self.running) - {task.name}
        for name in self.beside[task.name]:
            self.beside[name].add(task.name)

    def finished(self, task: Task, outcome: Outcome) -> None:
        assert task.name not in self.outcomes, "finished twice"
        self.outcomes[task.name] = outcome
        self.running.remove(task.name)

    def waited(self) -> None:
        pass

    def stopping(self, count: int) -> None:
        self.stopped = count

    def codes(self) -> dict[str, int]:
        return {name: outcome.code for name, outcome in self.outcomes.items()}


def python_task(root: Path, name: str, *scripts: str, kind: str = "any", **more: Any) -> Task:
    """Each script is a step; {root}, {name} and {place} in it are filled in."""
    place = root / f"{name}.part"
    filled = [
        script.replace("{root}", str(root)).replace("{name}", name).replace("{place}", str(place))
        for script in scripts
    ]
    return Task(
        name=name,
        kind=kind,
        steps=tuple(("-c", script) for script in filled),
        place=place,
        landing=root / name,
        record={"identity": f"id of {name}"},
        **more,
    )
