"""The frames that prove a quantized graph: normal parts, defects real and drawn; boards repeat the
golden ones.

normal   validation parts: each precision's threshold is measured on its own scores of them
good     normal parts that neither the thresholds nor the choice of a plan has seen: how many would
         be rejected
real     test parts with defects, where there are any
drawn    defects on normal parts, from barely there to plain, drawn without regard to the threshold
near     the same, faded until they come near float32's threshold: what noise would change
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.proof.certificate import UNLIKE_DISTANCE
from edge.proof.compare import Responses
from edge.proof.golden import carried_ranks
from edge.proof.threshold import Threshold
from trainer.data.choose import spread
from trainer.graph.deploy import Deployed
from trainer.quantize.evidence import Evidence, Feeds, Kind, Rule, Source, rule_of
from trainer.synthetic.on_frames import draw_defect, part_of

GOLDEN_NORMAL = 4  # golden frames of normal parts
GOLDEN_DEFECTS = 6  # golden frames above the threshold, at least LEAST_DEFECTS
LEAST_DEFECTS = 4
LEAST_GOLDEN = 8
# about as many defects are drawn: of fewer, one swapped pair would exceed an I-AUROC limit
DRAWN = 48
MOST_DRAWN_ON = 40  # normal parts that they are drawn on
NEAR = 12  # defects drawn to lie near the threshold
NEAR_WITHIN = 1.5  # s: so near that noise may well change the verdict
NEAR_STRENGTHS = (0.1, 0.4, 1.0)  # of the defect that is faded: the first that is rejected
NEAR_STEPS = 6  # halvings of what is left of it
MOST_SEARCHED_REAL = 24  # real defects that the choice of a plan looks at
SEEN = 0.05  # s: by so much a drawn defect has to change its part's score

Answer = Callable[[Feeds], Mapping[str, NDArray[Any]]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame. source: reads its graph inputs. truth: (H, W) bool, None where nobody knows the
    pixels.

    map (1, 1, h, w), score (1,): float32's.
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

    @property
    def is_defect(self) -> bool:
        """Whether it shows a defect, real or drawn."""
        return self.kind not in ("normal", "good")


@dataclass(frozen=True, eq=False)
class Proof:
    """The certificate's frames with float32's answers.

    golden: a part of them, answered by torch, in the bundle. searched: names of those that a plan's
    choice may look at.
    """

    golden: tuple[Shown, ...]
    others: tuple[Shown, ...]
    searched: frozenset[str]
    rule: Rule

    @property
    def frames(self) -> tuple[Shown, ...]:
        """All of them, the golden ones first."""
        return (*self.golden, *self.others)

    def evidence(self) -> Evidence:
        """What quantization measures on."""
        frames = self.frames
        reference = Responses.of({"map": frame.map, "score": frame.score} for frame in frames)
        return Evidence(
            sources=[frame.source for frame in frames],
            reference=reference,
            kinds=np.array([frame.kind for frame in frames]),
            truths=[_reduced(frame.truth, reference.maps.shape[1:]) for frame in frames],
            golden=len(self.golden),
            searched=np.array([frame.name in self.searched for frame in frames]),
            rule=self.rule,
        )

    def write_golden(self, folder: Path) -> None:
        """golden/NNNN.npz: every graph input by name, map and score."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(self.golden):
            arrays: dict[str, Any] = {**frame.source(), "map": frame.map, "score": frame.score}
            np.savez_compressed(folder / f"{index:04d}.npz", **arrays)


def by_falling_score(frames: Sequence[Shown]) -> list[Shown]:
    """Answered frames, the highest float32 score first; equal ones as they came."""
    return sorted(frames, key=lambda frame: -frame.value)


def answered(answer: Answer, frames: Iterable[Shown]) -> list[Shown]:
    """The frames with a graph's map and score."""
    outputs = ((frame, answer(frame.source())) for frame in frames)
    return [replace(frame, map=raw["map"], score=raw["score"]) for frame, raw in outputs]


def gather(
    deployed: Deployed,
    answer: Answer,
    normal: Sequence[Shown],
    good: Sequence[Shown],
    real: Sequence[Shown],
    threshold: Threshold,
) -> Proof:
    """Choose golden frames and complete the certificate's.

    Args:
        deployed: the float32 model, which answers the golden frames. answer: the same model in
            float32 on the quickest runtime, which answers all others.
        normal: all parts that set the thresholds, answered, by falling score. good: normal parts
            that were set aside.
        real: test parts with defects, their types in turn; there may be none of either.
        threshold: float32's, of `normal`.
    Raises: DataError if normal scores do not vary, or fewer than four frames can be brought above
        the threshold: the model rejects nothing.
    """
    rule = rule_of(threshold, np.array([frame.value for frame in normal]))
    if rule.spread <= 0:
        raise DataError(
            f"every one of {len(normal)} normal parts has the score {normal[0].value:g}: this model"
            " tells no two parts apart, train it longer or on other images"
        )
    ranks, _ = carried_ranks(len(normal), threshold.rank)
    carried = [_kept(normal[rank - 1]) for rank in ranks]
    answered_real = answered(
        answer, [*map(_kept, real[:MOST_SEARCHED_REAL]), *real[MOST_SEARCHED_REAL:]]
    )
    parts = _Parts(deployed)
    drawn = _drawn_at_strengths(answer, parts, carried, rule)
    near = _drawn_near(answer, parts, carried, rule)
    rejected = _rejected(
        answer, parts, carried, [*answered_real, *by_falling_score(drawn)[::-1]], rule
    )
    golden = _golden(carried, rejected, rule)
    chosen = {frame.name for frame in golden}
    in_memory = {frame.name: frame for frame in carried}
    kept = [in_memory.get(frame.name, frame) for frame in normal]
    others = [*kept, *answered(answer, good), *answered_real, *drawn, *near]
    searched = {
        frame.name for frame in (*carried, *answered_real[:MOST_SEARCHED_REAL], *drawn, *near)
    }
    return Proof(
        tuple(answered(deployed.run, golden)),
        tuple(frame for frame in others if frame.name not in chosen),
        frozenset(searched | chosen),
        rule,
    )


# --- golden frames ---


def _rejected(
    answer: Answer, parts: _Parts, carried: Sequence[Shown], defects: Sequence[Shown], rule: Rule
) -> list[Shown]:
    """Frames with a defect above the threshold, real ones first; plain ones are drawn where there
    are too few.
    """
    rejected = [frame for frame in defects if _is_rejected(frame, rule)]
    real = [frame for frame in rejected if frame.kind == "real"]
    if len(real) >= LEAST_DEFECTS:
        return real
    if len(rejected) < LEAST_DEFECTS:
        strong = (
            parts.drawn(frame, 1.0, seed)
            for seed, frame in enumerate([*carried, *carried], start=10_000)
        )
        rejected += [frame for frame in answered(answer, strong) if _is_rejected(frame, rule)]
    if len(rejected) < LEAST_DEFECTS:
        raise DataError(
            f"only {len(rejected)} frames with a defect score above the threshold"
            f" {rule.threshold:g}, a bundle needs {LEAST_DEFECTS}: this model rejects next to"
            " nothing, train it longer or on more parts"
        )
    return rejected


def _golden(carried: Sequence[Shown], rejected: Sequence[Shown], rule: Rule) -> list[Shown]:
    """Normal parts and rejected defects clear of the threshold, so that only a real fault changes a
    verdict.
    """
    defects = spread(_clear_of(rejected, rule, LEAST_DEFECTS), GOLDEN_DEFECTS)
    rising = by_falling_score(carried)[::-1]
    normal = spread(_clear_of(rising, rule, GOLDEN_NORMAL), GOLDEN_NORMAL)
    more = [
        frame for frame in rising if frame not in normal and abs(frame.value - rule.threshold) > 0
    ]
    return [*normal, *more[: max(0, LEAST_GOLDEN - len(normal) - len(defects))], *defects]


def _clear_of(frames: Sequence[Shown], rule: Rule, needed: int) -> list[Shown]:
    """Frames outside the distance within which a verdict may differ, the clearest of them where
    those are too few.
    """
    band = UNLIKE_DISTANCE * rule.spread
    clear = [frame for frame in frames if abs(frame.value - rule.threshold) > band]
    if len(clear) >= needed:
        return clear
    clearest = sorted(frames, key=lambda frame: -abs(frame.value - rule.threshold))[:needed]
    return [frame for frame in frames if frame in clearest]


def _is_rejected(frame: Shown, rule: Rule) -> bool:
    return bool(frame.score[0] > np.float32(rule.threshold))


# --- drawn defects ---


class _Parts:
    """Draws defects on the parts that the graph itself sees; a part is looked for once."""

    def __init__(self, deployed: Deployed) -> None:
        self._deployed = deployed
        self._known: dict[str, Mask] = {}

    def drawn(self, frame: Shown, strength: float, seed: int, kind: Kind = "drawn") -> Shown:
        """A defect on a normal part; strength: 0..1.

        Its name tells the seed, so that no two are the same.
        """
        feeds = frame.source()
        if frame.name not in self._known:
            self._known[frame.name] = part_of(self._deployed, feeds)
        defect = draw_defect(feeds, self._known[frame.name], strength, seed)
        return Shown(
            f"{frame.name} + {defect.kind} {seed}", lambda: defect.feeds, kind, defect.mask
        )


def _drawn_at_strengths(
    answer: Answer, parts: _Parts, carried: Sequence[Shown], rule: Rule
) -> list[Shown]:
    """Defects from barely there to plain, those that float32 itself answers.

    The others tie with the part they were drawn on, to the last bit: any rounding would order them
    anew, and say nothing about the precision.
    """
    pairs = _strengths(spread(carried, MOST_DRAWN_ON))
    drawn = (parts.drawn(frame, strength, seed) for seed, (frame, strength) in enumerate(pairs))
    both = zip(answered(answer, drawn), pairs, strict=True)
    return [
        frame for frame, (source, _) in both if abs(frame.value - source.value) > SEEN * rule.spread
    ]


def _drawn_near(answer: Answer, parts: _Parts, carried: Sequence[Shown], rule: Rule) -> list[Shown]:
    """Defects that are faded until they lie near the threshold, each on another part that lies
    below it.
    """
    below = [frame for frame in carried if frame.value < rule.threshold - NEAR_WITHIN * rule.spread]
    found = []
    for seed, source in enumerate(spread(below, NEAR), start=20_000):
        drawn = answered(
            answer, (parts.drawn(source, strength, seed, "near") for strength in NEAR_STRENGTHS)
        )
        nearest = next((frame for frame in drawn if _is_rejected(frame, rule)), None)
        if nearest is None:
            continue
        whole, low, high = nearest, 0.0, 1.0
        for _ in range(NEAR_STEPS):
            share = (low + high) / 2
            (frame,) = answered(answer, [_faded(source, whole, share)])
            nearest = min(nearest, frame, key=lambda one: abs(one.value - rule.threshold))
            low, high = (low, share) if _is_rejected(frame, rule) else (share, high)
        if abs(nearest.value - rule.threshold) <= NEAR_WITHIN * rule.spread:
            found.append(nearest)
    return found


def _faded(source: Shown, whole: Shown, share: float) -> Shown:
    """A drawn defect of which `share` is left: every pixel and count lies that far from the normal
    part's.
    """
    clean, drawn = source.source(), whole.source()
    color = _mixed(clean["color"], drawn["color"], share)
    mixed = {**drawn, "color": color.astype(np.uint8)}
    if "depth" in clean:
        counts = _mixed(clean["depth"].view("<u2"), drawn["depth"].view("<u2"), share)
        mixed["depth"] = counts.astype("<u2").view(np.uint8)
    return replace(whole, source=lambda: mixed)


def _mixed(first: NDArray[Any], second: NDArray[Any], share: float) -> NDArray[np.float64]:
    return np.asarray(np.rint(first + share * (second.astype(np.float64) - first)), np.float64)


def _strengths(normal: Sequence[Shown]) -> list[tuple[Shown, float]]:
    """Every part several times, with defects from barely there to plain."""
    pairs = [frame for frame in normal for _ in range(max(1, round(DRAWN / len(normal))))]
    return [(frame, index / max(1, len(pairs) - 1)) for index, frame in enumerate(pairs)]


# --- lists ---


def _kept(frame: Shown) -> Shown:
    """The frame with its graph inputs in memory: a search reads them many times."""
    feeds = frame.source()
    return replace(frame, source=lambda: feeds)


def _reduced(truth: Mask | None, map_size: tuple[int, ...]) -> Mask | None:
    """A mask at about four pixels a map cell: a pixel is defective if any pixel it stands for
    is.
    """
    if truth is None:
        return None
    step = max(1, min(truth.shape[0] // (4 * map_size[0]), truth.shape[1] // (4 * map_size[1])))
    height, width = truth.shape[0] // step * step, truth.shape[1] // step * step
    blocks = truth[:height, :width].reshape(height // step, step, width // step, step)
    return np.asarray(blocks.any(axis=(1, 3)))
