"""MATS's phases where teacher and student see a window of cells: over crops of the fused maps
instead of single cells, which are drawn the more often the rarer they look.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from trainer.fit import Phase
from trainer.systems.mats.flow import negative_log_likelihood
from trainer.systems.mats.phases import Training
from trainer.systems.mats.rarity import rarity

CROP = 16  # cells, side of a crop
OFF_CENTER = 4  # cells, that the drawn cell lies off the crop's middle at most
CROPS = 8  # in a batch
SEED = 0  # of the clusters; the crops follow the training's


@dataclass(frozen=True)
class Fused:
    """What the fusion makes of all views: joined, attended (n, C, h, w) float16, and the weights
    (n, 1, h, w) of their cells.
    """

    joined: Tensor
    attended: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Crops:
    """B crops: joined, attended (B, C, h, w), position (B, 32, h, w), weights (B, 1, h, w)."""

    joined: Tensor
    attended: Tensor
    position: Tensor
    weights: Tensor


class WindowTraining(Training):
    """The phases of `Training`, teacher and student trained on crops."""

    fused: Fused | None = None

    def _teacher_phase(self, epochs: int) -> Phase:
        return replace(super()._teacher_phase(epochs), batch_size=CROPS)

    def begin_teacher(self) -> int:
        """As many crops as batches take; each is drawn when it is asked for."""
        self.fused_maps()
        return CROPS * (self.preset.steps_per_epoch or len(self.views))

    @torch.no_grad()
    def fused_maps(self) -> Fused:
        """Computed once, when the fusion is trained."""
        if self.fused is None:
            color, depth = self.whitened()
            pairs = [
                self.detector.fusion(color[batch], None if depth is None else depth[batch])
                for batch in self.views.batches()
            ]
            joined, attended = (
                torch.cat([one.half() for one in maps]) for maps in zip(*pairs, strict=True)
            )
            self.fused = Fused(joined, attended, rarity(joined, self.mask, SEED))
        return self.fused

    def crops(self, count: int, generator: torch.Generator) -> Crops:
        """Crops around cells that are drawn by their weights."""
        fused, position = self.fused_maps(), self.detector.position
        height, width = position.shape[2:]
        of_views = fused.weights.flatten(1).sum(dim=1).cpu()  # (n,)
        places = []
        for view in torch.multinomial(of_views, count, True, generator=generator).tolist():
            cell = _drawn(fused.weights[view].flatten().cpu(), generator)
            rows = _around(cell // width, height, generator)
            columns = _around(cell % width, width, generator)
            places.append((view, slice(None), rows, columns))
        return Crops(
            torch.stack([fused.joined[place] for place in places]).float(),
            torch.stack([fused.attended[place] for place in places]).float(),
            torch.stack([position[0, :, rows, columns] for _, _, rows, columns in places]),
            torch.stack([fused.weights[place] for place in places]),
        )

    def teacher_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 13 per channel, over the cells of the crops by weight."""
        crops = self.crops(len(batch), generator)
        z, log_det = self._teacher(crops)
        return _weighted(negative_log_likelihood(z, log_det) / z.shape[1], crops.weights)

    def _teacher(self, crops: Crops) -> tuple[Tensor, Tensor]:
        return cast(tuple[Tensor, Tensor], self.detector.flow(crops.attended, crops.position))

    def begin_student(self) -> int:
        """The student sees such crops, too."""
        return self.begin_teacher()

    def student_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 14 per channel, over the cells of the crops by weight."""
        crops = self.crops(len(batch), generator)
        with torch.no_grad():
            target, _ = self._teacher(crops)  # (B, C, h, w)
        inputs = torch.cat([crops.joined, crops.position], dim=1)  # (B, C + 32, h, w)
        squared = (self.detector.student(inputs) - target) ** 2
        return _weighted(squared.mean(dim=1, keepdim=True), crops.weights)


def _drawn(weights: Tensor, generator: torch.Generator) -> int:
    return int(torch.multinomial(weights, 1, generator=generator))


def _around(cell: int, cells: int, generator: torch.Generator) -> slice:
    """The crop's rows or columns, inside the grid."""
    off = int(torch.randint(-OFF_CENTER, OFF_CENTER + 1, (1,), generator=generator))
    first = min(max(cell - CROP // 2 + off, 0), max(cells - CROP, 0))
    return slice(first, first + CROP)


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of (B, 1, h, w) by weights."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-12)
