"""NTSNet: nonsymmetric teacher-student network (Kong et al.; baseline MKD/STFPM).

A student learns to reproduce three levels of a frozen teacher from the image, on normal images
only. It is built of other blocks than the teacher, contextual transformer blocks
(trainer.systems.ntsnet.cot), so that it does not imitate the teacher where nothing was learned. The
anomaly map is the sum over the levels of half the squared distance of the normalized features. With
depth, only the foreground counts, in the loss and in the map; the preset compact-rgbd judges depth,
too.

docs/systems/ntsnet.md has the paper's equations, what they leave open, what was settled and what
was measured. trainer.systems.ntsnet.detector lists the switches.
"""

from __future__ import annotations

from trainer.data.source import TrainingImages
from trainer.fit import Curves
from trainer.graph.sizes import WorkingSizes
from trainer.systems.common.frame import FrozenSystem
from trainer.systems.common.sizes import level_sizes
from trainer.systems.ntsnet.detector import NtsnetDetector
from trainer.systems.ntsnet.fit import train
from trainer.systems.ntsnet.preset import PRESETS, NtsnetPreset, require_depth
from trainer.systems.seam import BuildRequest, FitRequest, System


class Ntsnet(FrozenSystem[NtsnetPreset, NtsnetDetector]):
    """NTSNet as a row of the registry."""

    name = "ntsnet"
    presets = PRESETS

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Long side of the preset, aspect kept to whole cells.

        Raises: ConfigError if the preset judges depth and there is none.
        """
        require_depth(self.presets[preset], with_depth)
        return level_sizes(height_px, width_px, self.presets[preset].long_side, with_depth)

    def assemble(self, preset: NtsnetPreset, request: BuildRequest) -> NtsnetDetector:
        """The detector with its initial weights."""
        return NtsnetDetector(preset, request)

    def train(
        self,
        detector: NtsnetDetector,
        preset: NtsnetPreset,
        images: TrainingImages,
        request: FitRequest,
    ) -> Curves:
        """See trainer.systems.ntsnet.fit."""
        return train(detector, preset, images, request)


def create_system() -> System[NtsnetDetector]:
    """For the registry."""
    return Ntsnet()
