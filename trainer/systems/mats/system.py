"""MATS: multimodal asymmetric teacher-student (Li et al., Computer Systems & Applications 35(2),
2026), on AST (WACV 2023).

Features of a frozen backbone and of the unshuffled depth image meet in two cross-modal amplifiers
(CAA, section 2.2) and a multi-dilated attention (MDLA, 2.3.1); a Real-NVP flow (the teacher, 2.3.2)
maps them to a normal distribution; a FastKAN student (2.4) predicts the teacher's output per
position. Where they differ, the part is not normal.

docs/systems/mats.md has the paper's equations, what they leave open, what was settled and what was
measured. trainer.systems.mats.detector lists the switches.
"""

from __future__ import annotations

from trainer.data.source import TrainingImages
from trainer.fit import Curves
from trainer.graph.preprocess import working_size
from trainer.graph.sizes import WorkingSizes
from trainer.systems.common.frame import FrozenSystem
from trainer.systems.mats.detector import MatsDetector
from trainer.systems.mats.fit import train
from trainer.systems.mats.preset import PRESETS, UNSHUFFLE, MatsPreset
from trainer.systems.seam import BuildRequest, FitRequest, System


class Mats(FrozenSystem[MatsPreset, MatsDetector]):
    """MATS as a row of the registry."""

    name = "mats"
    presets = PRESETS

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Long side of the preset, aspect kept to whole cells.

        The depth image has UNSHUFFLE x UNSHUFFLE values a cell.
        """
        chosen = self.presets[preset]
        stride = chosen.backbone.strides[-1]
        color = working_size(height_px, width_px, chosen.long_side)
        depth = (color[0] // stride * UNSHUFFLE, color[1] // stride * UNSHUFFLE)
        return WorkingSizes(color, depth if with_depth else None)

    def assemble(self, preset: MatsPreset, request: BuildRequest) -> MatsDetector:
        """The detector with its initial weights."""
        return MatsDetector(preset, request)

    def train(
        self,
        detector: MatsDetector,
        preset: MatsPreset,
        images: TrainingImages,
        request: FitRequest,
    ) -> Curves:
        """See trainer.systems.mats.fit."""
        return train(detector, preset, images, request)


def create_system() -> System[MatsDetector]:
    """For the registry."""
    return Mats()
