"""The images that patch descriptors are distilled on: files, in windows of one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.errors import DataError
from edge.frames.dataset import find_products, open_dataset
from edge.frames.images import read_color
from edge.frames.listing import IMAGE_SUFFIXES, files_in

SIDE = 256  # px, of a window
LARGEST = 1.3  # of a window's side, the image's short side is scaled up to it at random
KEPT = 1024  # images, a few hundred MB


def normal_images(folders: Sequence[Path]) -> list[Path]:
    """Color images of the folders, sorted: of a product those of its normal training parts, of any
    other folder all.

    Raises: DataError for a folder that does not exist or contains no image.
    """
    found: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: name folders of images, or of products")
        products = find_products(folder)
        samples = [
            sample for product in products for sample in open_dataset(product).split("train")
        ]
        images = [sample.path for sample in samples if not sample.is_defective]
        if not products:
            images = [path for path in files_in(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise DataError(
                f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}): name a folder that does"
            )
        found.update(images)
    return sorted(found)


class ImageFiles:
    """Image files as windows of SIDE x SIDE.

    The first KEPT of them stay in memory, reduced to little more than a window.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.kept: dict[Path, NDArray[np.uint8]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of a window, px."""
        return SIDE, SIDE

    def numbers(self, samples: int) -> int:
        """How many image numbers an epoch draws from: every image equally often, at least once, and
        enough for `samples`.
        """
        return len(self.paths) * -(-samples // len(self.paths))  # rounded up

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """A random window of every image number, (B, 3, SIDE, SIDE) float32 0..255."""
        paths = [self.paths[int(number) % len(self.paths)] for number in batch]
        return torch.stack([self._window(path, generator) for path in paths])

    def _window(self, path: Path, generator: torch.Generator) -> Tensor:
        image = self._reduced(path)
        draws = torch.rand(3, generator=generator).tolist()
        resized = _resized(image, round(SIDE * (1 + (LARGEST - 1) * draws[0])))
        top, left = (
            int(share * (side - SIDE + 1))
            for share, side in zip(draws[1:], resized.shape[:2], strict=True)
        )
        window = np.ascontiguousarray(resized[top : top + SIDE, left : left + SIDE])
        return torch.from_numpy(window).permute(2, 0, 1).to(torch.float32)  # (3, SIDE, SIDE)

    def _reduced(self, path: Path) -> NDArray[np.uint8]:
        if path in self.kept:
            return self.kept[path]
        image = _resized(read_color(path), round(SIDE * LARGEST))
        if len(self.kept) < KEPT:
            self.kept[path] = image
        return image


def _resized(image: NDArray[np.uint8], short: int) -> NDArray[np.uint8]:
    """The image with its short side `short` px long, averaged over areas where that is smaller."""
    factor = short / min(image.shape[:2])
    height, width = (max(short, round(factor * side)) for side in image.shape[:2])
    resized = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    return cast(NDArray[np.uint8], resized)
