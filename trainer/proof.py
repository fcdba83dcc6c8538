"""The frames that prove a quantised graph: golden ones for boards, validation parts and drawn defects besides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edge.engine.parity import FLIP_BAND, Responses
from edge.errors import DataError
from trainer.drawn import draw_defect
from trainer.graph.deploy import Deployed
from trainer.quantise import Evidence

GOLDEN_NORMAL = 4          # golden frames of normal parts
GOLDEN_DEFECTS = 6         # golden frames above the threshold, at least LEAST_DEFECTS
LEAST_DEFECTS = 4
MOST_NORMAL = 40           # validation parts in the certificate
DRAWN = 48                 # about as many defects are drawn: of fewer, one swapped pair would exceed an I-AUROC limit
SEEN = 0.005               # share of the score range by which a drawn defect has to change its part's score

Feeds = Mapping[str, NDArray[Any]]
Answer = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Mask = NDArray[np.bool_]
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame. truth: (H, W) bool, None where nobody knows the pixels. map (1, 1, h, w), score (1,): float32's."""

    name: str
    feeds: Feeds
    is_defect: bool
    truth: Mask | None
    drawn: bool = False
    map: NDArray[np.float32] = field(default_factory=lambda: np.zeros((1, 1, 1, 1), np.float32))
    score: NDArray[np.float32] = field(default_factory=lambda: np.zeros(1, np.float32))


@dataclass(frozen=True, eq=False)
class Proof:
    """The certificate's frames with float32's answers. golden: a part of them, answered by torch, in the bundle."""

    golden: tuple[Shown, ...]
    others: tuple[Shown, ...]
    threshold: float

    @property
    def frames(self) -> tuple[Shown, ...]:
        """All of them, the golden ones first."""
        return (*self.golden, *self.others)

    def evidence(self) -> Evidence:
        """What quantisation measures on."""
        frames = self.frames
        reference = Responses.of({"map": frame.map, "score": frame.score} for frame in frames)
        labels = np.array([frame.is_defect for frame in frames])
        truths = [_reduced(frame.truth, reference.maps.shape[1:]) for frame in frames]
        return Evidence([frame.feeds for frame in frames], reference, len(self.golden), self.threshold, labels, truths)

    def write_golden(self, folder: Path) -> None:
        """golden/NNNN.npz: every graph input by name, map and score."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(self.golden):
            arrays: dict[str, Any] = {**frame.feeds, "map": frame.map, "score": frame.score}
            np.savez_compressed(folder / f"{index:04d}.npz", **arrays)


def gather(
    deployed: Deployed, answer: Answer, normal: Sequence[Shown], real: Sequence[Shown], threshold: float
) -> Proof:
    """Choose golden frames and complete the certificate's.

    Args:
        deployed: the float32 model, which answers the golden frames. answer: the same model in float32 on the quickest
            runtime, which answers all others.
        normal: validation parts. real: test parts with defects, as many as are to be looked at; there may be none.
        threshold: score > threshold is NG.
    Raises: DataError if fewer than four frames can be brought above the threshold: the model rejects nothing.
    """
    normal = _answers(answer, spread(normal, MOST_NORMAL))
    parts = {frame.name: part_of(deployed, frame.feeds) for frame in normal}
    limit = np.float32(threshold)
    rejected = [frame for frame in _answers(answer, real) if frame.score[0] > limit]
    weak = enumerate(_strengths(normal))
    drawn = _answers(answer, (_drawn(frame, parts[frame.name], strength, seed) for seed, (frame, strength) in weak))
    drawn = _seen(drawn, [frame for frame, _ in _strengths(normal)])
    if len(rejected) < LEAST_DEFECTS:
        rejected += sorted((frame for frame in drawn if frame.score[0] > limit), key=_score)
    if len(rejected) < LEAST_DEFECTS:
        strong = (_drawn(frame, parts[frame.name], 1.0, seed) for seed, frame in enumerate(normal * 2, start=10_000))
        rejected += [frame for frame in _answers(answer, strong) if frame.score[0] > limit]
    if len(rejected) < LEAST_DEFECTS:
        raise DataError(
            f"only {len(rejected)} frames with a defect score above the threshold {threshold:g}, a bundle needs "
            f"{LEAST_DEFECTS}: this model rejects next to nothing, train it longer or on more parts"
        )
    band = FLIP_BAND * np.ptp([_score(frame) for frame in (*normal, *rejected, *drawn)])
    defects = spread(_clear_of(rejected, threshold, band, LEAST_DEFECTS), GOLDEN_DEFECTS)
    shipped = spread(_clear_of(sorted(normal, key=_score), threshold, band, GOLDEN_NORMAL), GOLDEN_NORMAL)
    shipped += [frame for frame in normal if frame not in shipped][: max(0, 8 - len(shipped) - len(defects))]
    golden = (*shipped, *defects)
    others = tuple(frame for frame in (*normal, *drawn) if frame not in golden)
    return Proof(tuple(_answers(deployed.run, golden)), others, threshold)


def _seen(drawn: Sequence[Shown], before: Sequence[Shown]) -> list[Shown]:
    """Drawn defects that float32 itself answers. The others tie with the part they were drawn on, to the last bit: any
    rounding would order them anew, and say nothing about the precision.
    """
    least = SEEN * np.ptp([_score(frame) for frame in (*drawn, *before)])
    pairs = zip(drawn, before, strict=True)
    return [frame for frame, source in pairs if abs(_score(frame) - _score(source)) > least]


def _clear_of(frames: Sequence[Shown], threshold: float, band: float, needed: int) -> list[Shown]:
    """Frames outside the band in which a verdict may flip, if they are enough: the highest normal part lies in it."""
    clear = [frame for frame in frames if abs(_score(frame) - threshold) > band]
    return clear if len(clear) >= needed else list(frames)


def _strengths(normal: Sequence[Shown]) -> list[tuple[Shown, float]]:
    """Every part several times, with defects from barely there to plain."""
    pairs = [frame for frame in normal for _ in range(max(1, round(DRAWN / len(normal))))]
    return [(frame, index / max(1, len(pairs) - 1)) for index, frame in enumerate(pairs)]


def _drawn(frame: Shown, part: Mask, strength: float, seed: int) -> Shown:
    defect = draw_defect(frame.feeds, part, strength, seed)
    return Shown(f"{frame.name} + {defect.kind}", defect.feeds, True, defect.mask, drawn=True)


@torch.no_grad()
def part_of(deployed: Deployed, feeds: Feeds) -> Mask:
    """(H, W) bool: where the graph itself sees the part."""
    named = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in feeds.items()}
    foreground = deployed.prepare(named).foreground[0, 0].numpy()
    height, width = deployed.preprocess.size
    return np.asarray(cv2.resize(foreground, (width, height), interpolation=cv2.INTER_NEAREST) > 0)


def _answers(answer: Answer, frames: Iterable[Shown]) -> list[Shown]:
    outputs = ((frame, answer(frame.feeds)) for frame in frames)
    return [replace(frame, map=raw["map"], score=raw["score"]) for frame, raw in outputs]


def _score(frame: Shown) -> float:
    return float(frame.score[0])


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items (at least 2), evenly over the list."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def in_turn(items: Iterable[Item], kind: Callable[[Item], str], count: int) -> list[Item]:
    """At most `count` of the items, one of each kind in turn."""
    kinds: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        kinds[kind(item)].append(item)
    rounds = max((len(members) for members in kinds.values()), default=0)
    return [members[index] for index in range(rounds) for members in kinds.values() if index < len(members)][:count]


def _reduced(truth: Mask | None, map_size: tuple[int, ...]) -> Mask | None:
    """A mask at about four pixels a map cell: a pixel is defective if any pixel it stands for is."""
    if truth is None:
        return None
    step = max(1, min(truth.shape[0] // (4 * map_size[0]), truth.shape[1] // (4 * map_size[1])))
    height, width = truth.shape[0] // step * step, truth.shape[1] // step * step
    blocks = truth[:height, :width].reshape(height // step, step, width // step, step)
    return np.asarray(blocks.any(axis=(1, 3)))
