"""A person beside a board, who does what a test has written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class PowerCut(BaseException):
    """The process is gone at once: nothing after this line runs."""


def _pull() -> bool:
    raise PowerCut


@dataclass
class FakeDesk:
    """Keeps what was told. cut: what happens while a cut is awaited. acts: done when a text that
    begins so is told.
    """

    is_attended: bool = False
    cut: Callable[[], bool] = _pull
    acts: dict[str, Callable[[], object]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.told.append(text)
        for begins, act in self.acts.items():
            if text.startswith(begins):
                act()

    confirm = tell

    def wait_for_cut(self, limit_s: float) -> bool:
        assert limit_s > 0
        return self.cut()
