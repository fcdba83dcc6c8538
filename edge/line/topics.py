"""The topics of one station below `edge/<site>/<line>/<station>/`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topics:
    """A callable: topics("verdict/code") is the topic of that name."""

    prefix: str

    def __call__(self, name: str) -> str:
        """Below the prefix."""
        return f"{self.prefix}/{name}"
