"""The sizes that a graph works at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkingSizes:
    """What the graph reduces the crop to, (h, w) in pixels. depth: None in a color-only graph.

    crop: its own size.
    """

    color: tuple[int, int]
    depth: tuple[int, int] | None
    crop: tuple[int, int] | None = None
