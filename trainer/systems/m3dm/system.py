"""M3DM: hybrid fusion of memory banks (Wang et al., CVPR 2023).

Color features of a frozen backbone and point features of a Point-MAE, aligned on the color
features' grid (PFA), are fused by two MLPs trained to make the two modalities of one position alike
(UFF). Three memory banks, of color, points and the fused feature, measure how far a position is
from anything normal; one-class support vector machines weigh their distances (DLF).

What the paper leaves open or the device needs differently, and what was measured:
docs/systems/m3dm.md.
"""

from __future__ import annotations

from edge.errors import ConfigError
from trainer.data.source import TrainingImages
from trainer.fit import Curves
from trainer.graph.sizes import WorkingSizes
from trainer.systems.common.frame import FrozenSystem
from trainer.systems.m3dm.checkpoint import load_pointmae
from trainer.systems.m3dm.detector import M3dmDetector
from trainer.systems.m3dm.fit import fit_detector
from trainer.systems.m3dm.preset import PRESETS, M3dmPreset
from trainer.systems.seam import BuildRequest, FitRequest, Modality, System


class M3dm(FrozenSystem[M3dmPreset, M3dmDetector]):
    """M3DM as a row of the registry."""

    name = "m3dm"
    presets = PRESETS
    takes_backbone = True
    pretrains: Modality = "depth"

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """The preset's squares: the paper brings images to a square."""
        chosen = PRESETS[preset]
        depth = (chosen.points.depth_side, chosen.points.depth_side)
        return WorkingSizes(
            (chosen.side, chosen.side), depth if with_depth else None, (height_px, width_px)
        )

    def assemble(self, preset: M3dmPreset, request: BuildRequest) -> M3dmDetector:
        """Raises: ConfigError if the switches leave no bank, or a file is named for point features
        that a color-only detector does not have.
        """
        detector = M3dmDetector(preset, request)
        if request.pretrained is not None:
            if detector.points is None:
                raise ConfigError(
                    f"--pretrained {request.pretrained}: without depth m3dm has no point features"
                    " to load it into; leave the option out, or train with depth"
                )
            load_pointmae(request.pretrained, detector.points.features.transformer)
            detector.pretrained = True
        return detector

    def train(
        self,
        detector: M3dmDetector,
        preset: M3dmPreset,
        images: TrainingImages,
        request: FitRequest,
    ) -> Curves:
        """See trainer.systems.m3dm.fit."""
        del preset  # the detector was built from it
        return fit_detector(detector, images, request)


def create_system() -> System[M3dmDetector]:
    """For the registry."""
    return M3dm()
