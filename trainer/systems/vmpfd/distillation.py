"""Distillation of the patch descriptors from their teacher (EfficientAD, Batzner et al., WACV 2024,
section 3.1).

A network that has seen nothing but normal parts describes nothing else. So irregular patches of
other images and of procedural textures are laid over half of every batch, `disturbed`, from faint
to opaque. No defect is seen or labeled; the target stays the teacher's answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainer.fit import Phase
from trainer.synthetic.textures import Textures
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.systems.vmpfd.teacher import PdnRecipe, Teacher

MEASURED = 64  # images whose features give the teacher's scales
TEXTURES = 48
COARSE = 6  # cells of the noise that patches are cut by, along the image's short side
COVER = (0.8, 1.8)  # deviations above which the noise is a patch
OPACITY = (0.2, 1.0)

Draw = Callable[[Tensor, torch.Generator], Tensor]
"""Image numbers (B,) -> color images (B, 3, h, w) float32 0..255."""


class Distillation:
    """The phase that trains a network to predict its teacher's features; everything here lives only
    while training.

    Args:
        student: takes color in -1..1. draw: gives images by number. count: of image numbers. size:
            (h, w) of the images.
    """

    def __init__(
        self,
        student: PatchDescriptors,
        teacher: Teacher,
        draw: Draw,
        count: int,
        size: tuple[int, int],
        device: str,
    ) -> None:
        self.student, self.teacher, self.draw = student, teacher, draw
        self.count, self.device = count, device
        source, rng = Textures(), np.random.default_rng(0)
        textures = [np.clip(source.draw(*size, rng), 0, 255) for _ in range(TEXTURES)]
        stacked = torch.from_numpy(np.stack(textures).astype(np.float32))  # (T, h, w, 3)
        self.textures = stacked.permute(0, 3, 1, 2).contiguous()  # (T, 3, h, w)

    def phase(self, recipe: PdnRecipe, epochs: int | None) -> Phase:
        """The phase of this distillation."""
        return Phase(
            "descriptors",
            self.student,
            list(self.student.parameters()),
            self.begin,
            self.loss,
            epochs or recipe.epochs,
            recipe.batch_size,
            recipe.rate,
            steps_per_epoch=recipe.steps_per_epoch,
        )

    def begin(self) -> int:
        """Fit the teacher's scales to some of the images.

        Returns: how many image numbers an epoch draws from.
        """
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(self.count, generator=generator)[:MEASURED]
        self.teacher.fit_scales([self.images(part, generator) for part in torch.split(chosen, 8)])
        return self.count

    def images(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Images of these numbers (B, 3, h, w), mirrored at random, every second one disturbed."""
        images = _mirrored(self.draw(batch, generator), generator)
        shuffled = images[torch.randperm(len(images), generator=generator)]
        others = torch.cat([self.textures, shuffled])  # (T + B, 3, h, w)
        images[::2] = disturbed(images[::2], others, generator)
        return images.to(self.device)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the descriptors."""
        images = self.images(batch, generator)
        with torch.no_grad():
            target = self.teacher(images)
        return functional.mse_loss(self.student(images / 127.5 - 1), target)


def _mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every image (B, 3, h, w) mirrored or not, along either axis."""
    flips = torch.rand(len(images), 2, generator=generator) < 0.5
    mirrored = [
        image.flip([axis + 1 for axis in range(2) if flip[axis]])  # (3, h, w)
        for image, flip in zip(images, flips, strict=True)
    ]
    return torch.stack(mirrored)


def disturbed(images: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Irregular patches of some `others` (M, 3, h, w), of random opacity, laid over images (N, 3,
    h, w).
    """
    count, _, height, width = images.shape
    cells = [max(2, round(COARSE * side / min(height, width))) for side in (height, width)]
    noise = torch.randn(count, 1, *cells, generator=generator)
    noise = functional.interpolate(
        noise, size=(height, width), mode="bicubic", align_corners=False
    )  # (N, 1, h, w)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    share = (noise > between(*COVER)).to(images) * between(*OPACITY)  # (N, 1, h, w)
    chosen = others[torch.randint(len(others), (count,), generator=generator)]  # (N, 3, h, w)
    return images + share * (chosen - images)
