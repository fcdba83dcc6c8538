"""One image of an evaluation: what the graph is shown, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.frames.sample import Sample
from trainer.synthetic.on_frames import draw_defect, part_of
from trainer.train.defect_scores import STRENGTHS
from trainer.train.trained_run import TrainedRun

Feeds = Mapping[str, NDArray[Any]]
Runner = Callable[[Feeds], Mapping[str, NDArray[np.float32]]]
"""Graph inputs by name -> outputs by name: torch's deployed graph, or an engine."""

GOOD = "good"
SYNTHETIC = "synthetic "  # and the strength: the defect type of an image with a synthetic defect


@dataclass(frozen=True)
class ShownImage:
    """What the graph is shown: a sample as it is, or with a synthetic defect on it.

    strength: of the synthetic defect, a name of STRENGTHS; None without one. seed: of its kind,
    place and shape.
    """

    sample: Sample
    strength: str | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """Unique within an evaluation."""
        return (
            self.sample.name if self.strength is None else f"{self.sample.name} + {self.strength}"
        )

    @property
    def defect(self) -> str:
        """Its type, or "good"."""
        return SYNTHETIC + self.strength if self.strength else self.sample.defect or GOOD

    def inputs(self, run: TrainedRun) -> tuple[Feeds, NDArray[np.bool_] | None]:
        """Graph inputs, and the true mask (H, W) of the crop: all False for a good part, None where
        the defect is not outlined.

        Raises: DataError if a file cannot be read or does not fit the run.
        """
        feeds = run.feeds(self.sample)
        if self.strength is not None:
            with_defect = draw_defect(
                feeds, part_of(run.deployed, feeds), STRENGTHS[self.strength], self.seed
            )
            return with_defect.feeds, with_defect.mask
        x, y, width, height = run.info.crop
        if self.defect == GOOD:
            return feeds, np.zeros((height, width), np.bool_)
        mask = self.sample.load_mask()
        return feeds, None if mask is None else mask[y : y + height, x : x + width]


@dataclass(frozen=True, eq=False)
class JudgedImage:
    """An image and what the graph says of it.

    score: raw, a float32 value. map: (h, w) float32 raw. truth: as `ShownImage.inputs` gives it.
    shares: what each judgment has of the score, raw: the detector's own score, and what the judges
    beside it (trainer.graph.deploy) add; empty where an engine answers, which does not tell.
    """

    shown: ShownImage
    score: float
    map: NDArray[np.float32]
    truth: NDArray[np.bool_] | None
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Unique within an evaluation."""
        return self.shown.name

    @property
    def defect(self) -> str:
        """Its type, or "good"."""
        return self.shown.defect

    @property
    def is_defective(self) -> bool:
        """Really or synthetically."""
        return self.defect != GOOD

    def is_rejected(self, threshold: float) -> bool:
        """Whether the threshold calls it NG, compared in float32 as the device does."""
        return bool(np.float32(self.score) > np.float32(threshold))


def judge(run: TrainedRun, runner: Runner | None, shown: ShownImage) -> JudgedImage:
    """Show the graph one image. runner: None is float32 torch.

    Raises: DataError if it cannot be read or does not fit the run.
    """
    feeds, truth = shown.inputs(run)
    out, shares = run.deployed.run_apart(feeds) if runner is None else (runner(feeds), {})
    anomaly_map = out["map"][0, 0].astype(np.float32)
    return JudgedImage(shown, float(out["score"].reshape(-1)[0]), anomaly_map, truth, shares)
