"""A frame that is shown to the graphs, with float32's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.progress import progress
from trainer.quantize.evidence import Feeds, Kind, Source

Answer = Callable[[Feeds], Mapping[str, NDArray[Any]]]  # a graph: inputs by name -> outputs by name
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame of the certificate.

    source: reads its graph inputs. truth: (H, W) bool of the defective pixels, None where
    they are not known.
    map (1, 1, h, w), score (1,): the answer of a float32 graph, raw units; zeros before `answered`.
    """

    name: str
    source: Source
    kind: Kind
    truth: Mask | None
    map: NDArray[np.float32] = field(default_factory=lambda: np.zeros((1, 1, 1, 1), np.float32))
    score: NDArray[np.float32] = field(default_factory=lambda: np.zeros(1, np.float32))

    @property
    def value(self) -> float:
        """The score as a number."""
        return float(self.score[0])

    def in_memory(self) -> Shown:
        """The frame with its graph inputs in memory: a search reads them many times."""
        feeds = self.source()
        return replace(self, source=lambda: feeds)


def answered(answer: Answer, frames: Iterable[Shown]) -> list[Shown]:
    """The frames with a graph's map and score."""
    outputs = ((frame, answer(frame.source())) for frame in frames)
    return [replace(frame, map=raw["map"], score=raw["score"]) for frame, raw in outputs]


def answered_slowly(answer: Answer, frames: Sequence[Shown], what: str) -> list[Shown]:
    """As `answered`, of many frames; how far it is gets shown. what: in the words of the user."""
    return answered(answer, progress(frames, what))


def by_falling_score(frames: Sequence[Shown]) -> list[Shown]:
    """Answered frames, the highest float32 score first; equal ones as they came."""
    return sorted(frames, key=lambda frame: -frame.value)
