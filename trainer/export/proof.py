"""The frames on which a quantized graph is compared with the trained one.

normal   validation parts: each precision's threshold is measured on its own scores of them
good     normal parts that neither the thresholds nor the choice of a plan has seen: how many would
         be rejected
real     test parts with defects, where there are any
drawn    synthetic defects on normal parts, from barely there to plain, whatever the threshold
near     the same, faded until they come near float32's threshold: what noise would change

A few of them, clear of the threshold, are the bundle's reference frames (golden/): a station
repeats them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import DataError
from edge.proof.compare import Responses
from edge.proof.golden import carried_ranks
from edge.proof.threshold import Threshold
from trainer.export.reference_frames import reference_frames
from trainer.export.shown import Answer, Mask, Shown, answered_slowly, by_falling_score
from trainer.export.synthetic_defects import SyntheticDefects
from trainer.graph.deploy import Deployed
from trainer.quantize.evidence import Evidence, EvidenceFrame, Rule, rule_of

MOST_SEARCHED_REAL = 24  # real defects that the choice of a plan looks at


@dataclass(frozen=True, eq=False)
class Proof:
    """The certificate's frames with float32's answers.

    golden: the reference frames, answered by torch, which go into the bundle. others: all further
    ones, answered by onnxruntime. searched: names of those that the choice of a plan may look at.
    """

    golden: tuple[Shown, ...]
    others: tuple[Shown, ...]
    searched: frozenset[str]
    rule: Rule

    @property
    def frames(self) -> tuple[Shown, ...]:
        """All of them, the reference frames first."""
        return (*self.golden, *self.others)

    def evidence(self) -> Evidence:
        """What quantization measures on."""
        reference = Responses.of({"map": one.map, "score": one.score} for one in self.frames)
        size = reference.maps.shape[1:]
        frames = [
            EvidenceFrame(
                one.source, one.kind, _reduced(one.truth, size), one.name in self.searched
            )
            for one in self.frames
        ]
        return Evidence(frames, reference, len(self.golden), self.rule)

    def write_golden(self, folder: Path) -> None:
        """golden/NNNN.npz: every graph input by name, map and score."""
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(self.golden):
            arrays: dict[str, Any] = {**frame.source(), "map": frame.map, "score": frame.score}
            np.savez_compressed(folder / f"{index:04d}.npz", **arrays)


def gather(
    deployed: Deployed,
    answer: Answer,
    normal: Sequence[Shown],
    good: Sequence[Shown],
    real: Sequence[Shown],
    threshold: Threshold,
) -> Proof:
    """Choose the reference frames and complete the certificate's.

    Args:
        deployed: the float32 model, which answers the reference frames.
        answer: the same model in float32 on the quickest runtime, which answers all others.
        normal: all parts that set the thresholds, answered, by falling score.
        good: normal parts that were set aside.
        real: test parts with defects, their types in turn; there may be none of either.
        threshold: float32's, of `normal`.
    Raises: DataError if normal scores do not vary, or fewer than four frames can be brought above
        the threshold: the model rejects nothing.
    """
    rule = _rule(threshold, normal)
    ranks, _ = carried_ranks(len(normal), threshold.rank)
    carried = [normal[rank - 1].in_memory() for rank in ranks]
    defective = _answered_real(answer, real)
    synthetic = SyntheticDefects(deployed, answer, carried, rule)
    drawn, near = synthetic.of_every_strength(), synthetic.near_threshold()
    rising = by_falling_score(drawn)[::-1]
    golden = reference_frames(carried, [*defective, *rising], synthetic, rule)
    others = [
        *_with(carried, normal),
        *answered_slowly(answer, good, "judging good parts"),
        *defective,
        *drawn,
        *near,
    ]
    chosen = frozenset(frame.name for frame in golden)
    searched = [*carried, *defective[:MOST_SEARCHED_REAL], *drawn, *near]
    return Proof(
        golden=tuple(answered_slowly(deployed.run, golden, "answering the reference frames")),
        others=tuple(frame for frame in others if frame.name not in chosen),
        searched=chosen.union(frame.name for frame in searched),
        rule=rule,
    )


def _rule(threshold: Threshold, normal: Sequence[Shown]) -> Rule:
    """Raises: DataError if normal scores do not vary."""
    rule = rule_of(threshold, np.array([frame.value for frame in normal]))
    if rule.spread <= 0:
        raise DataError(
            f"every one of {len(normal)} normal parts has the score {normal[0].value:g}: this model"
            " tells no two parts apart, train it longer or on other images"
        )
    return rule


def _answered_real(answer: Answer, real: Sequence[Shown]) -> list[Shown]:
    """Real defects with float32's answer, in memory those that the choice of a plan looks at."""
    frames = [*(one.in_memory() for one in real[:MOST_SEARCHED_REAL]), *real[MOST_SEARCHED_REAL:]]
    return answered_slowly(answer, frames, "judging defective parts")


def _with(in_memory: Sequence[Shown], frames: Sequence[Shown]) -> list[Shown]:
    """The frames, those of them in memory that are there already."""
    known = {frame.name: frame for frame in in_memory}
    return [known.get(frame.name, frame) for frame in frames]


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
