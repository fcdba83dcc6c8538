"""What both distillation systems compare: levels of a frozen backbone, with the depth's beside
them.

Also what systems with a frozen backbone have in common while training: its features of every view,
normal ones and those with drawn anomalies, computed once and cached.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages, moved_to
from trainer.fit import Phase
from trainer.graph.preprocess import Prepared, working_size
from trainer.graph.sizes import WorkingSizes
from trainer.layers.anomaly_map import AnomalyMap
from trainer.layers.backbone import AnyTrunk, BackboneSpec, build_trunk, weights_digest
from trainer.layers.height import HeightEncoder, encoder_error
from trainer.layers.unshuffle import pixel_unshuffle
from trainer.synthetic.anomalies import corrupted
from trainer.synthetic.textures import Textures
from trainer.systems.seam import BuildRequest, FitRequest

VIEWS_AT_ONCE = 16
MOST_COPIES = 7
FINEST = 4  # stride of the finest level
DEPTH_CELLS = 2  # depth image cells per cell of the finest level, on a side
DEPTH_SHARE = 0.05  # energy of a normal part's depth features beside its color features'
# of depth features, in root mean squares of normal parts: what is further out is no more abnormal
DEPTH_BOUND = 8.0


def level_sizes(height_px: int, width_px: int, long_side: int, with_depth: bool) -> WorkingSizes:
    """Long side given, aspect kept to whole cells of the coarsest level; the depth image has half
    the color's side.
    """
    color = working_size(height_px, width_px, long_side)
    cells = color[0] // FINEST * DEPTH_CELLS, color[1] // FINEST * DEPTH_CELLS
    return WorkingSizes(color, cells if with_depth else None)


class LevelFeatures(nn.Module):
    """Frozen features at three levels, each scaled to a mean square of 1 over the training
    foreground.

    With depth, the amplified depth image (trainer.layers.height) is unshuffled to every level's
    grid and joins its channels with DEPTH_SHARE of their energy. The cosine between two such
    features weighs both modalities.

    Args:
        spec: of the backbone. request: sizes and weights. depth: whether depth joins.
    """

    def __init__(self, spec: BackboneSpec, request: BuildRequest, depth: bool) -> None:
        super().__init__()
        height, width = request.sizes.color
        self.trunk = build_trunk(spec, request.weights, random=request.random_backbone)
        self.grids = [(height // stride, width // stride) for stride in spec.strides]
        self.encoder: HeightEncoder | None = None
        self.folds: list[int] = []
        if depth and request.sizes.depth is not None:
            self.encoder = HeightEncoder(finer=height // request.sizes.depth[0])
            self.folds = [request.sizes.depth[0] // rows for rows, _ in self.grids]
        extra = [fold**2 + (fold // 2) ** 2 for fold in self.folds] or [0] * len(self.grids)
        self.channels = [own + more for own, more in zip(spec.channels, extra, strict=True)]
        for level, (own, more) in enumerate(zip(spec.channels, extra, strict=True)):
            self.register_buffer(f"mean_{level}", torch.zeros(own))
            self.register_buffer(f"gain_{level}", torch.ones(own))
            self.register_buffer(f"depth_gain_{level}", torch.ones(more))

    def forward(self, prepared: Prepared) -> list[Tensor]:
        """Prepared batch -> (N, C, h, w) of every level, finest first."""
        return self.joined(self.trunk(prepared.color), self.depth_maps(prepared))

    def depth_maps(self, prepared: Prepared) -> tuple[Tensor, Tensor] | None:
        """The amplified depth image (N, 1, hd, wd) and its tint at half its size; None where depth
        does not join.
        """
        if self.encoder is None or prepared.height is None:
            return None
        return cast(
            tuple[Tensor, Tensor],
            self.encoder(prepared.height, prepared.foreground, prepared.color),
        )

    @torch.no_grad()
    def depth_maps_of(self, views: Views, device: str) -> tuple[Tensor, Tensor]:
        """The amplified depth images of all views and their tints, on the CPU."""
        parts = [self.depth_maps(views.prepared(part, device)) for part in views.parts()]
        relief, tint = zip(*(part for part in parts if part is not None), strict=True)
        return torch.cat(relief).cpu(), torch.cat(tint).cpu()

    def joined(self, colors: Sequence[Tensor], depth: tuple[Tensor, Tensor] | None) -> list[Tensor]:
        """Scaled levels of raw color levels and, where depth joins, the amplified depth image."""
        levels = []
        for level, color in enumerate(colors):
            mean, gain, depth_gain = self._scales(level)
            scaled = (color - mean.view(1, -1, 1, 1)) * gain.view(1, -1, 1, 1)
            if depth is not None:
                bound = DEPTH_BOUND * depth_gain.view(1, -1, 1, 1)
                folded = self.folded(level, depth) / bound.clamp(min=1e-12)
                scaled = torch.cat(
                    [scaled, folded.clamp(-1, 1) * self._depth_weight(level, color)], dim=1
                )
            levels.append(scaled)
        return levels

    def folded(self, level: int, depth: tuple[Tensor, Tensor]) -> Tensor:
        """Relief and tint, unshuffled to the grid of a level."""
        fold = self.folds[level]
        tint = pixel_unshuffle(depth[1], fold // 2) if fold > 2 else depth[1]
        return torch.cat([pixel_unshuffle(depth[0], fold), tint], dim=1)

    def _depth_weight(self, level: int, color: Tensor) -> float:
        """What a depth feature at its bound counts: all together have DEPTH_SHARE of color's energy
        at 1 / bound.
        """
        more = self.channels[level] - color.shape[1]
        return DEPTH_BOUND * math.sqrt(DEPTH_SHARE * color.shape[1] / more)

    def _scales(self, level: int) -> tuple[Tensor, Tensor, Tensor]:
        return cast(
            tuple[Tensor, Tensor, Tensor],
            tuple(getattr(self, f"{name}_{level}") for name in ("mean", "gain", "depth_gain")),
        )

    @torch.no_grad()
    def measure(
        self,
        level: int,
        color: Tensor,
        depth: tuple[Tensor, Tensor] | None,
        mask: Tensor,
        *,
        standardized: bool,
    ) -> None:
        """Take the scales of one level from normal images.

        Args:
            color: (N, C, h, w) raw. depth: as depth_maps gives it. mask: (N, 1, h, w) foreground.
            standardized: each channel to mean 0 and deviation 1; else one factor for all of them.
        """
        mean, gain, depth_gain = self._scales(level)
        rows = rows_of(color, mask).double()
        if standardized:
            mean.copy_(rows.mean(dim=0))
            gain.copy_((rows.var(dim=0, correction=0) + 1e-12).rsqrt())
        else:
            gain.fill_(float((rows.square().mean() + 1e-12).rsqrt()))
        if depth is not None:
            depth_rows = rows_of(self.folded(level, depth), mask).double()
            depth_gain.copy_((depth_rows.square().mean(dim=0) + 1e-12).sqrt())

    def masks(self, foreground: Tensor) -> list[Tensor]:
        """Cells of every level with any foreground, (N, 1, h, w), 0 or 1."""
        return [
            (functional.avg_pool2d(foreground, foreground.shape[2] // rows) > 1e-4).to(
                torch.float32
            )
            for rows, _ in self.grids
        ]


class LevelMaps(nn.Module):
    """One distance map per level to one anomaly map: smoothed, brought to one size, then added or
    multiplied.
    """

    def __init__(
        self, grids: Sequence[tuple[int, int]], map_size: tuple[int, int], blur: float, fusion: str
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.to_map = nn.ModuleList(AnomalyMap(grid, map_size, blur) for grid in grids)

    def forward(self, distances: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """Distances (N, 1, h, w) and masks of every level -> (N, 1, H, W)."""
        maps = [
            to_map(one, mask)
            for to_map, one, mask in zip(self.to_map, distances, masks, strict=True)
        ]
        if self.fusion == "sum":
            return torch.stack(maps).sum(dim=0)
        product: Tensor = maps[0]
        for other in maps[1:]:
            product = product * other
        return product


def rows_of(features: Tensor, mask: Tensor) -> Tensor:
    """(N, C, h, w) and (N, 1, h, w) -> (M, C): the cells where the mask is set, image by image."""
    return features.permute(0, 2, 3, 1)[mask[:, 0] > 0]


@dataclass(frozen=True)
class Views:
    """Prepared images and their frozen raw color levels, of n views.

    image: (n, 3, h, w) float16, 0..255, None if not kept. height, foreground: (n, 1, hd, wd),
    float32 or None, uint8.
    levels: float16, finest first. intrinsics, plane: (n, 4), None without depth.
    """

    image: Tensor | None
    height: Tensor | None
    foreground: Tensor
    levels: list[Tensor]
    intrinsics: Tensor | None = None
    plane: Tensor | None = None

    def __len__(self) -> int:
        return len(self.foreground)

    def prepared(self, views: Tensor | slice, device: str) -> Prepared:
        """These views, as a detector takes them."""
        assert self.image is not None  # whoever asks for whole views has kept their images
        color = self.image[views].to(device, torch.float32)
        ones = torch.ones(len(color), device=device)
        height, intrinsics, plane = (
            None if tensor is None else tensor[views].to(device)
            for tensor in (self.height, self.intrinsics, self.plane)
        )
        foreground = self.foreground[views].to(device, torch.float32)
        return Prepared(color, height, foreground, None, ones, ones, intrinsics, plane)

    def colors(self, views: Tensor | slice, device: str) -> list[Tensor]:
        """Raw color levels of these views, float32."""
        return [level[views].to(device, torch.float32) for level in self.levels]

    def parts(self) -> Iterator[slice]:
        """All views, a few at a time."""
        for start in range(0, len(self), VIEWS_AT_ONCE):
            yield slice(start, start + VIEWS_AT_ONCE)


def copies_for(images: int, views: int, most: int = MOST_COPIES) -> int:
    """Augmented copies of each image, so that there are about `views` in all: none to `most`."""
    return min(most, max(0, round(views / images) - 1))


@torch.no_grad()
def normal_views(
    trunk: AnyTrunk,
    images: TrainingImages,
    augmentation: Augmentation,
    copies: int,
    seed: int,
    device: str,
    *,
    keep_image: bool = True,
) -> Views:
    """Every image once as it is and `copies` times augmented; from the cache where they were
    computed before.
    """
    recipe = (
        f"levels 3 {trunk.spec} {augmentation} {copies} {seed} {keep_image} {weights_digest(trunk)}"
    )
    batches = (moved_to(batch, device) for batch in images.with_copies(augmentation, copies, seed))
    return to_views(images.cached(recipe, lambda: computed_views(trunk, batches, keep_image)))


@torch.no_grad()
def drawn_views(
    trunk: AnyTrunk,
    images: TrainingImages,
    copies: int,
    depth_sigma: float | None,
    request: FitRequest,
    *,
    keep_image: bool = True,
) -> tuple[Views, Tensor]:
    """`copies` drawn anomalies on every image, and their masks (n, 1, h, w) at the color working
    size.

    depth_sigma: noise of the height in meters, by which anomalies in depth are scaled; None: none
    in depth.
    """
    textures = Textures(request.textures)
    marks: list[Tensor] = []

    def batches() -> Iterator[Prepared]:
        for number in range(images.count):
            image = images.load(number)
            for copy in range(copies):
                view, mark = corrupted(
                    image, textures, depth_sigma, request.seed, number * copies + copy
                )
                marks.append(mark)
                yield moved_to(view, request.device)

    def compute() -> dict[str, Tensor]:
        tensors = computed_views(trunk, batches(), keep_image)
        return {**tensors, "marks": torch.cat(marks)}

    drawing = f"{copies} {request.seed} {textures.digest} {depth_sigma}"
    recipe = f"anomalies 4 {trunk.spec} {drawing} {keep_image} {weights_digest(trunk)}"
    tensors = images.cached(recipe, compute)
    return to_views(tensors), tensors["marks"]


@torch.no_grad()
def computed_views(
    trunk: AnyTrunk, batches: Iterator[Prepared], keep_image: bool
) -> dict[str, Tensor]:
    """Tensors of `Views` by name, of prepared batches on the trunk's device."""
    columns: dict[str, list[Tensor]] = {}
    for batch in batches:
        computed = {"foreground": batch.foreground.to(torch.uint8)}
        if keep_image:
            computed["image"] = batch.color.half()
        geometry = {"height": batch.height, "intrinsics": batch.intrinsics, "plane": batch.plane}
        computed.update({name: tensor for name, tensor in geometry.items() if tensor is not None})
        maps = trunk(batch.color)
        computed.update({f"level_{number}": level.half() for number, level in enumerate(maps)})
        for name, tensor in computed.items():
            columns.setdefault(name, []).append(tensor.cpu())
    return {name: torch.cat(tensors) for name, tensors in columns.items()}


def to_views(tensors: dict[str, Tensor]) -> Views:
    """Views from their tensors by name."""
    levels = [tensors[name] for name in sorted(tensors) if name.startswith("level_")]
    geometry = (tensors.get(name) for name in ("intrinsics", "plane"))
    return Views(
        tensors.get("image"), tensors.get("height"), tensors["foreground"], levels, *geometry
    )


def depth_sigma(encoder: HeightEncoder, normal: Views) -> float | None:
    """Noise of the height of normal views in meters, which the encoder takes as well; None without
    depth.
    """
    if normal.height is None:
        return None
    encoder.measure(normal.height, normal.foreground.float())
    return float(encoder.sigma)


def encoder_phase(encoder: HeightEncoder, views: Views, epochs: int, device: str) -> Phase:
    """The training of the depth's encoder on drawn dents and stains, as in MATS
    (trainer.systems.mats.system).
    """

    def begin() -> int:
        everything = views.prepared(slice(None), "cpu")
        assert everything.height is not None  # there is an encoder
        encoder.measure(everything.height, everything.foreground)
        return len(views)

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        prepared = views.prepared(batch, device)
        assert prepared.height is not None  # there is an encoder
        return encoder_error(
            encoder, prepared.height, prepared.foreground, prepared.color, generator
        )

    return Phase(
        "depth",
        encoder,
        list(encoder.parameters()),
        begin,
        loss,
        epochs,
        4,
        3e-3,
        steps_per_epoch=20,
    )
