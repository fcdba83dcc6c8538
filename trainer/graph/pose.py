"""Turn and move the part into the product's normal pose, so that a detector always sees it in the
same place, and what it finds back to where the camera sees it.

A detector of normal parts learns what is normal at a place of the image, or how features that lie
anywhere may look. Where parts lie in any pose, the first is lost and the second has to hold for
every angle: small defects then differ no more from normal parts than those do from each other. The
pose is that of the normal silhouette laid over the part (trainer.graph.silhouette). A silhouette
that comes to lie on itself after a turn leaves so many poses; a round part is only moved. In the
normal pose the part also has the size that it had in training, whatever the distance of the camera.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.graph.prepared import Prepared
from trainer.graph.silhouette import NormalSilhouette, SquareCells

HALF = 0.5  # of a cell is foreground, or was read
FINER = 2  # places along each axis whose average is one cell of the color image


class NormalPose(nn.Module):
    """The way into the normal pose and back, for images that cover the whole crop.

    turn: radians by which the normal silhouette is turned in the image, so that it fits. turns: 1;
    0 where the part is only moved.

    Args:
        cells: (hd, wd) of the height image. working: (h, w) of the color image. size: (H, W) of the
            crop in pixels.
    """

    turn: Tensor
    turns: Tensor

    def __init__(
        self, cells: tuple[int, int], working: tuple[int, int], size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.squares = SquareCells(cells, size)
        self.normal = NormalSilhouette(self.squares.even)
        self.working, self.cells = working, cells
        self.register_buffer("turn", torch.zeros(()))
        self.register_buffer("turns", torch.ones(()))

    def forward(self, prepared: Prepared, color: Tensor) -> Prepared:
        """The same with color, height, foreground and read in the normal pose; `pose` tells it, and
        `shown` is the foreground where the camera sees it. Silhouette, seen, absent, place and the
        shares stay as they were.

        color: (N, H, W, 3) uint8 of the crop: taken from the color image, which is smaller, small
        defects would be blurred twice.
        """
        pose = self.found(prepared)
        height, read = cast(Tensor, prepared.height), cast(Tensor, prepared.read)
        cells = torch.cat([height, prepared.foreground, read], dim=1)
        laid = _at(cells, self._to_view(pose, self.cells), "bicubic", "zeros")
        above, share, known = laid.chunk(3, dim=1)  # (N, 1, hd, wd) each
        foreground = (share > HALF).to(torch.float32)
        fine = (FINER * self.working[0], FINER * self.working[1])
        pixels = color.to(torch.float32).permute(0, 3, 1, 2)  # (N, 3, H, W)
        turned = _at(pixels, self._to_view(pose, fine), "bilinear", "border")
        return prepared._replace(
            color=functional.avg_pool2d(turned, FINER),
            height=foreground * above / share.clamp(min=HALF),  # 0 beside the part does not count
            foreground=foreground,
            read=(known > HALF).to(torch.float32),
            pose=pose,
            shown=prepared.foreground,
        )

    def found(self, prepared: Prepared) -> Tensor:
        """(N, 4) turn in radians, center x, y in square cells and zoom (SquareCells.zoom) of the
        part in every image.
        """
        zoom = self.squares.zoom(prepared).reshape(-1, 1)
        return torch.cat([self.normal.pose(*self.squares(prepared)), zoom], dim=1)

    def back(self, image: Tensor, pose: Tensor) -> Tensor:
        """(N, C, h, w) in the normal pose -> the same size, as the camera sees it; 0 where the
        normal pose has no place for it.
        """
        places = self._to_normal(pose, (image.shape[2], image.shape[3]))
        return _at(image, places, "bilinear", "zeros")

    def _to_view(self, pose: Tensor, size: tuple[int, int]) -> Tensor:
        """Where every cell of an image (h, w) in the normal pose lies in the view, (N, h, w, 2), -1
        to 1.
        """
        cos, sin, to_x, to_y, zoom = self._parts_of(pose)
        x, y = self._centered(size)
        view_x, view_y = cos * x - sin * y + to_x, sin * x + cos * y + to_y
        height, width = self.squares.even
        places = torch.stack([(2 * view_x + 1) / width - 1, (2 * view_y + 1) / height - 1], dim=-1)
        return places * zoom[..., None]

    def _to_normal(self, pose: Tensor, size: tuple[int, int]) -> Tensor:
        """Where every cell of the view (h, w) lies in the image in the normal pose, likewise."""
        cos, sin, to_x, to_y, zoom = self._parts_of(pose)
        height, width = self.squares.even
        x, y = (along / zoom for along in self._centered(size))
        from_x, from_y = x + (width - 1) / 2 - to_x, y + (height - 1) / 2 - to_y
        own_x, own_y = cos * from_x + sin * from_y, cos * from_y - sin * from_x
        return torch.stack([own_x * (2 / width), own_y * (2 / height)], dim=-1)

    def _parts_of(self, pose: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Cosine and sine of the turn from the image in the normal pose, the part's center in the
        view, and the zoom, (N, 1, 1) each.
        """
        angle, to_x, to_y, zoom = (part[:, :, None] for part in pose.chunk(4, dim=1))
        turned = self.turns * angle + self.turn
        return turned.cos(), turned.sin(), to_x, to_y, zoom

    def _centered(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """x and y of the cells of an image (h, w) of the crop, from its center, in square cells,
        (1, h, w) each.
        """
        height, width = self.squares.even
        rows = (torch.arange(size[0], dtype=torch.float32) + 0.5) * (height / size[0]) - height / 2
        columns = (torch.arange(size[1], dtype=torch.float32) + 0.5) * (width / size[1]) - width / 2
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return x[None], y[None]


def _at(image: Tensor, grid: Tensor, between: str, beyond: str) -> Tensor:
    """(N, C, h, w) at places (N, rows, columns, 2) of -1 to 1 from edge to edge."""
    return functional.grid_sample(image, grid, between, beyond, align_corners=False)
