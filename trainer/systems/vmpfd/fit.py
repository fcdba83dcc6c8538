"""The training of VMPFD-AD: descriptors distilled unless a file is given, the depth's encoder
trained where depth is judged, both branches trained together, quantiles measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from trainer.data.source import TrainingImages
from trainer.fit import Curves, Phase, fit_phases
from trainer.graph.prepared import Prepared
from trainer.layers.typed import required
from trainer.systems.common.depth_encoder import encoder_phase
from trainer.systems.common.foreground import foreground_mean, rows_of
from trainer.systems.common.views import AT_ONCE, copies_for, to_views
from trainer.systems.common.whitening import PrincipalAxes
from trainer.systems.seam import FitRequest
from trainer.systems.vmpfd.detector import LARGEST_ERROR, QUANTILES, VmpfdDetector, foreground_at
from trainer.systems.vmpfd.distillation import Distillation
from trainer.systems.vmpfd.preset import VmpfdPreset
from trainer.systems.vmpfd.ssim import ssim_map
from trainer.systems.vmpfd.teacher import RECIPES

MSE_WEIGHT = 5.0  # lambda 1 of equation 8
HELD_OUT = 0.1  # share of the images that the branches do not learn from
LEAST_HELD = 2  # images
MOST_COPIES = 31  # of an image, augmented


def fit_detector(detector: VmpfdDetector, images: TrainingImages, request: FitRequest) -> Curves:
    """Train the detector, which is on request.device, in place."""
    preset = detector.preset
    copies = copies_for(images.count, preset.views, MOST_COPIES)
    request.control.tell(f"{images.count} images, {1 + copies} views each")
    kind = "vmpfd 1" if preset.depth is None else "vmpfd 1 with height"
    recipe = f"{kind} {preset.augmentation} {copies} {request.seed}"
    views = images.cached(recipe, lambda: cached_views(images, preset, copies, request.seed))
    train, held = split_views(images.count, copies, request.seed)
    training = Training(detector, views, train, held, request.device)
    training.measure_height()
    phases = [
        *_distillation_phases(training, request),
        *encoder_phases(training, request.epochs),
        _training_phase(training, request.epochs),
    ]
    curves = fit_phases(detector, phases, request.seed, request.control)
    training.settle()
    detector.teacher = None
    return curves


def cached_views(
    images: TrainingImages, preset: VmpfdPreset, copies: int, seed: int
) -> dict[str, Tensor]:
    """Color (n, 3, h, w) float16 0..255 and foreground (n, 1, hd, wd) uint8 of every image and its
    copies; height (n, 1, hd, wd) float32 where the preset judges depth.
    """
    batches = list(images.with_copies(preset.augmentation, copies, seed))
    views = {
        "image": torch.cat([batch.color.half() for batch in batches]),
        "foreground": torch.cat([batch.foreground.to(torch.uint8) for batch in batches]),
    }
    if preset.depth is not None:
        views["height"] = torch.cat([required(batch.height) for batch in batches])
    return views


def split_views(count: int, copies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the views to learn from, copies included, and of those held out, without copies.

    A single image is both.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = min(max(LEAST_HELD, round(HELD_OUT * count)), count // 2)
    out, kept = (order[:held], order[held:]) if held else (order, order)
    views = kept.sort().values[:, None] * (1 + copies) + torch.arange(1 + copies)
    return views.flatten(), out.sort().values * (1 + copies)


class Training:
    """The training over cached views; everything here lives only while training.

    train, held: numbers of views, see split_views. y: the descriptors of all views on their axes,
    (n, D, h, w) float16, once `begin` has computed them.
    """

    def __init__(
        self,
        detector: VmpfdDetector,
        views: Mapping[str, Tensor],
        train: Tensor,
        held: Tensor,
        device: str,
    ) -> None:
        self.detector, self.device = detector, device
        self.views = to_views(views)
        self.image, self.foreground = views["image"], views["foreground"]
        self.train, self.held = train, held
        self.y = torch.zeros(0)

    def colors(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Color of some of the training views, (B, 3, h, w) 0..255, for the distillation."""
        del generator
        return self.image[self.train[batch]].float()

    def measure_height(self) -> None:
        """The scale of the images' fourth channel, where depth is judged."""
        if self.detector.height is not None:
            self.detector.height.measure(*self.views.depth_image(self.train, "cpu"))

    @torch.no_grad()
    def begin(self) -> int:
        """Measure the axes of what is described, which is frozen by now, and compute y."""
        detector, local = self.detector, self.detector.local
        if local is not None:
            y = [self._on_axes(local.axes, self.descriptors)]
            if detector.relief is not None:
                y.append(self._on_axes(required(local.relief_axes), self.reliefs))
            self.y = torch.cat(y, dim=1)  # (n, D, h, w)
        return len(self.train)

    def _on_axes(self, axes: PrincipalAxes, describe: Callable[[Tensor], Tensor]) -> Tensor:
        """Fit the axes to what describes the training views, and bring all views onto them: (n, Di,
        h, w) float16.
        """
        views = torch.split(torch.arange(len(self.image)), AT_ONCE)
        raw = torch.cat([describe(part).cpu() for part in views])
        mask = foreground_at(self.foreground[self.train].float(), self.detector.grid)
        axes.fit(rows_of(raw[self.train], mask), self.detector.preset.shrink)
        y = [axes(part.to(self.device)) for part in torch.split(raw, AT_ONCE)]
        return torch.cat([part.half().cpu() for part in y])

    def descriptors(self, views: Tensor) -> Tensor:
        """Patch descriptors of these views, (B, C, h, w)."""
        return cast(Tensor, self.detector.descriptors(self.images(views)[:, :3]))

    def reliefs(self, views: Tensor) -> Tensor:
        """What describes the depth of these views, (B, R, h, w)."""
        return cast(Tensor, required(self.detector.relief)(self.prepared(views)))

    def prepared(self, views: Tensor) -> Prepared:
        """These views, as the detector takes them."""
        return self.views.prepared(views, self.device)

    def images(self, views: Tensor) -> Tensor:
        """These views in -1..1, (B, channels, h, w)."""
        prepared = self.prepared(views)
        return self.detector.image(prepared.color, prepared.height, prepared.foreground)

    def mask(self, views: Tensor, size: tuple[int, int]) -> Tensor:
        """Foreground of these views at a size, (B, 1, *size)."""
        return foreground_at(self.foreground[views].to(self.device, torch.float32), size)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 8, of the branches that judge; the likelihood per dimension of y."""
        del generator
        detector, views = self.detector, self.train[batch]
        image = self.images(views)
        tokens = detector.encoder(image)  # (B, E, h', w')
        total = torch.zeros((), device=self.device)
        if detector.local is not None:
            condition = tokens if detector.variant.joint else tokens.detach()
            total = total - self.log_likelihood(views, condition)
        if detector.decoder is None:
            return total
        target, reconstructed = detector.target(image), detector.reconstruct(tokens)
        mask = self.mask(views, detector.image_size)
        difference = reconstructed - target  # (B, channels, hi, wi)
        squared = foreground_mean(difference * difference, mask)
        return (
            total
            + MSE_WEIGHT * squared
            + 1
            - foreground_mean(ssim_map(reconstructed, target), mask)
        )

    def log_likelihood(self, views: Tensor, tokens: Tensor) -> Tensor:
        """Mean log p(y | x) / D of some views over the foreground."""
        local = self.detector.local
        assert local is not None  # without it there is no likelihood to ask for
        y = self.y[views].to(self.device, torch.float32)  # (B, D, h, w)
        mask = self.mask(views, self.detector.grid)
        return foreground_mean(local.log_density(y, tokens), mask)

    def held_out(self) -> float:
        """The same of the held-out images."""
        parts = torch.split(self.held, AT_ONCE)
        sums = [
            len(part) * float(self.log_likelihood(part, self.detector.encoder(self.images(part))))
            for part in parts
        ]
        return sum(sums) / len(self.held)

    @torch.no_grad()
    def settle(self) -> None:
        """Measure the usual error of every cell where errors are relative, then the quantiles."""
        detector = self.detector
        if detector.decoder is not None and detector.variant.relative:
            detector.gain.copy_(1 / self.usual_error())
        detector.quantiles |= self.quantiles()

    def quantiles(self) -> dict[str, float]:
        """Equations 15, 16, 18 and 19 over the foreground of the held-out images, by name.

        Without any foreground there are none.
        """
        cells: dict[str, list[Tensor]] = {}
        for part in torch.split(self.held, AT_ONCE):
            for branch, values in self._foreground_cells(part).items():
                cells.setdefault(branch, []).append(values)
        measured = {}
        for branch, parts in cells.items():
            ordered = torch.cat(parts).sort().values  # (M,)
            if len(ordered):
                for name, share in QUANTILES.items():
                    rank = round(share * (len(ordered) - 1))
                    measured[f"{branch}_{name}"] = float(ordered[rank])
        return measured

    def _foreground_cells(self, views: Tensor) -> dict[str, Tensor]:
        """Values (M,) of the raw maps in the foreground of these views, by branch."""
        prepared = self.prepared(views)
        inside = foreground_at(prepared.foreground, self.detector.map_size) > 0  # (B, 1, H, W)
        maps = self.detector.raw_maps(prepared)
        return {branch: one[inside].cpu() for branch, one in maps.items()}

    def usual_error(self) -> Tensor:
        """Mean squared error of the training views in every cell of the map, (1, 1, H, W), plus
        that of all cells.

        Both over the foreground. The second keeps cells that are always reconstructed well from
        dividing by almost nothing.
        """
        detector = self.detector
        errors = torch.zeros(1, 1, *detector.map_size, device=self.device)
        counts = torch.zeros_like(errors)
        for part in torch.split(self.train, AT_ONCE):
            image, mask = self.images(part), self.mask(part, detector.map_size)
            squared = detector.squared_error(image, detector.reconstruct(detector.encoder(image)))
            errors += (squared * mask).sum(dim=0, keepdim=True)
            counts += mask.sum(dim=0, keepdim=True)
        overall = errors.sum() / counts.sum().clamp(min=1)
        return errors / counts.clamp(min=1) + overall.clamp(min=1 / LARGEST_ERROR**2)


def _distillation_phases(training: Training, request: FitRequest) -> list[Phase]:
    """Where there is a teacher."""
    detector = training.detector
    if detector.teacher is None:
        return []
    distillation = Distillation(
        detector.descriptors,
        detector.teacher,
        training.colors,
        len(training.train),
        (training.image.shape[2], training.image.shape[3]),
        request.device,
    )
    recipe = RECIPES[detector.preset.descriptors]
    return [distillation.phase(recipe, request.epochs or detector.preset.distil_epochs)]


def encoder_phases(training: Training, epochs: int | None) -> list[Phase]:
    """Where relief is described."""
    detector = training.detector
    if detector.relief is None:
        return []
    epochs = epochs or required(detector.preset.depth).encoder_epochs
    return [
        encoder_phase(
            detector.relief.encoder, training.views, epochs, training.device, training.train
        )
    ]


def _training_phase(training: Training, epochs: int | None) -> Phase:
    """Both branches together."""
    detector, preset = training.detector, training.detector.preset
    module: nn.Module = detector.trainable()
    return Phase(
        "training",
        module,
        list(module.parameters()),
        training.begin,
        training.loss,
        epochs or preset.epochs,
        preset.batch_size,
        preset.rate,
        preset.weight_decay,
        steps_per_epoch=preset.steps_per_epoch,
        held_out=None if detector.local is None else training.held_out,
    )
