"""Views of the training images and their frozen features, computed once and cached: normal views,
and views with synthetic anomalies.

A view is an image as it is or an augmented copy of it. What a frozen backbone says of a view never
changes, so a training asks it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages, moved_to
from trainer.graph.prepared import Prepared
from trainer.layers.backbone import AnyTrunk, weights_digest
from trainer.synthetic.anomalies import corrupted
from trainer.synthetic.textures import Textures
from trainer.systems.seam import FitRequest

AT_ONCE = 16  # views that go through a network together, where nothing is trained
MOST_COPIES = 7  # of an image, augmented


@dataclass(frozen=True)
class Views:
    """Prepared images and their frozen features, of n views.

    image: (n, 3, h, w) float16 or uint8, 0..255, None if not kept. height, foreground: (n, 1, hd,
    wd), float32 or None, uint8.
    levels: raw features (n, C, h, w), finest first. intrinsics, plane: (n, 4), None without depth.
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

    def depth_image(self, views: Tensor | slice, device: str) -> tuple[Tensor, Tensor]:
        """Height and foreground of these views, (B, 1, hd, wd) float32 each."""
        assert self.height is not None  # whoever asks has depth
        return self.height[views].to(device), self.foreground[views].to(device, torch.float32)

    def colors(self, views: Tensor | slice, device: str) -> list[Tensor]:
        """Raw levels of these views, float32."""
        return [level[views].to(device, torch.float32) for level in self.levels]

    def to(self, device: str) -> Views:
        """The same views there."""

        def there(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return Views(
            there(self.image),
            there(self.height),
            self.foreground.to(device),
            [level.to(device) for level in self.levels],
            there(self.intrinsics),
            there(self.plane),
        )

    def batches(self) -> Iterator[slice]:
        """All views, a few at a time."""
        for start in range(0, len(self), AT_ONCE):
            yield slice(start, start + AT_ONCE)


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
    batches = on_device(images.with_copies(augmentation, copies, seed), device)
    columns = level_columns(trunk, keep_image)
    return to_views(images.cached(recipe, lambda: computed(batches, columns)))


@torch.no_grad()
def anomalous_views(
    trunk: AnyTrunk,
    images: TrainingImages,
    copies: int,
    depth_sigma: float | None,
    request: FitRequest,
    *,
    keep_image: bool = True,
) -> tuple[Views, Tensor]:
    """`copies` views of every image with a synthetic anomaly each, and their masks (n, 1, h, w) at
    the color working size.

    depth_sigma: noise of the height in meters, by which anomalies in depth are scaled; None: none
    in depth.
    """
    textures = Textures(request.textures)
    masks: list[Tensor] = []

    def anomalous() -> Iterator[Prepared]:
        for number in range(images.count):
            image = images.load(number)
            for copy in range(copies):
                view, mask = corrupted(
                    image, textures, depth_sigma, request.seed, number * copies + copy
                )
                masks.append(mask)
                yield view

    def compute() -> dict[str, Tensor]:
        batches = on_device(anomalous(), request.device)
        tensors = computed(batches, level_columns(trunk, keep_image))
        return {**tensors, "marks": torch.cat(masks)}

    drawing = f"{copies} {request.seed} {textures.digest} {depth_sigma}"
    recipe = f"anomalies 4 {trunk.spec} {drawing} {keep_image} {weights_digest(trunk)}"
    tensors = images.cached(recipe, compute)
    return to_views(tensors), tensors["marks"]


Columns = Callable[[Prepared], Mapping[str, Tensor | None]]  # what to keep of a batch, by name


def on_device(batches: Iterable[Prepared], device: str) -> Iterator[Prepared]:
    """The same batches there, one at a time."""
    return (moved_to(batch, device) for batch in batches)


def computed(batches: Iterable[Prepared], columns: Columns) -> dict[str, Tensor]:
    """What `columns` keeps of every batch, joined by name, on the CPU; a column that is None is
    left out.
    """
    kept: dict[str, list[Tensor]] = {}
    for batch in batches:
        for name, tensor in columns(batch).items():
            if tensor is not None:
                kept.setdefault(name, []).append(tensor.cpu())
    return {name: torch.cat(tensors) for name, tensors in kept.items()}


def level_columns(trunk: AnyTrunk, keep_image: bool) -> Columns:
    """Columns of `Views` with the trunk's raw levels, float16."""

    def columns(batch: Prepared) -> dict[str, Tensor | None]:
        levels = {
            f"level_{number}": level.half() for number, level in enumerate(trunk(batch.color))
        }
        return depth_columns(batch) | {"image": batch.color.half() if keep_image else None} | levels

    return columns


def depth_columns(batch: Prepared) -> dict[str, Tensor | None]:
    """Columns of `Views` that follow from the depth image."""
    return {
        "foreground": batch.foreground.to(torch.uint8),
        "height": batch.height,
        "intrinsics": batch.intrinsics,
        "plane": batch.plane,
    }


def to_views(tensors: Mapping[str, Tensor]) -> Views:
    """Views from their columns by name."""
    levels = [tensors[name] for name in sorted(tensors) if name.startswith("level_")]
    geometry = (tensors.get(name) for name in ("intrinsics", "plane"))
    return Views(
        tensors.get("image"), tensors.get("height"), tensors["foreground"], levels, *geometry
    )
