"""Sensor bytes to tensors, inside the exported graph: the only preprocessing there is, in training
and on the device.

Every resize is an exact area average, two products with constant matrices (TensorRT has no
antialiased Resize). Foreground is decided at the depth working resolution, not per pixel: a cell
averages the readings of its n pixels, which divides the sensor's noise by sqrt(n) before the
comparison with `lift`. area and valid stay fractions of pixels, because all cells cover the same
number of pixels and each carries the exact share of its pixels that is in the region or was read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn

from edge.errors import ConfigError
from trainer.graph.place import Place
from trainer.graph.pose import NormalPose
from trainer.graph.prepared import Prepared

# 3x3 averages, so holes up to 8 cells across are closed: 30 px of a 480 px crop at 128 cells
HOLE_PASSES = 4
# "at least half of the pixels", a hair below 0.5: a tie must not depend on the order of a sum
HALF = 0.4999
ANY = 1e-4  # "any pixel": above the rounding of a zero share
# a cell stands alone if little around it is foreground: within so many cells to every side
ALONE_CELLS = 16
# where so many cells around were not read, or are not of the region, no outline is trusted
BLIND_CELLS = 14
RAMP = 2.0  # the silhouette rises from 0 at the table to 1 at so many times `lift`


def working_size(
    height_px: int, width_px: int, long_side: int = 256, multiple: int = 32
) -> tuple[int, int]:
    """(h, w) of the working image: long side `long_side`, aspect kept, both rounded to a multiple
    of `multiple`.
    """
    scale = long_side / max(height_px, width_px)
    return (
        max(multiple, round(height_px * scale / multiple) * multiple),
        max(multiple, round(width_px * scale / multiple) * multiple),
    )


def area_matrix(size_in: int, size_out: int) -> Tensor:
    """(size_out, size_in) float32, rows summing to 1: the share that each input pixel has in each
    output cell.
    """
    cell = Fraction(size_in, size_out)
    rows = [
        [
            max(Fraction(0), min(cell * (o + 1), Fraction(i + 1)) - max(cell * o, Fraction(i)))
            / cell
            for i in range(size_in)
        ]
        for o in range(size_out)
    ]
    return torch.tensor([[float(share) for share in row] for row in rows], dtype=torch.float32)


class AreaResize(nn.Module):
    """Exact area average of (N, H, W, C) to (N, C, h, w).

    With g = gcd(in, out) the area matrix of an axis is block diagonal, g equal blocks of (out/g,
    in/g). Rows are reduced first, while the channels still lie side by side: the transposition to
    (N, C, h, W) then moves the fewest numbers.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size_in: tuple[int, int], size_out: tuple[int, int]) -> None:
        super().__init__()
        self.size_in, self.size_out = size_in, size_out
        self.blocks = (math.gcd(size_in[0], size_out[0]), math.gcd(size_in[1], size_out[1]))
        rows, columns = (
            area_matrix(i // g, o // g)
            for i, o, g in zip(size_in, size_out, self.blocks, strict=True)
        )
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns.T.contiguous(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Average (N, H, W, C) float32 over the cells of (h, w); the result is (N, C, h, w)."""
        n, channels, h, width = image.shape[0], image.shape[3], self.size_out[0], self.size_in[1]
        reduced = self.reduce_rows(image.reshape(n, self.size_in[0], -1), self.rows).reshape(
            n, h, width, channels
        )
        return self.reduce_columns(
            reduced.permute(0, 3, 1, 2) if channels > 1 else reduced.reshape(n, 1, h, width)
        )

    def reduce_rows(self, image: Tensor, rows: Tensor) -> Tensor:
        """(N, H, M) to (N g, R, M): every block of H/g rows times rows (R, H/g)."""
        return torch.matmul(
            rows, image.reshape(-1, self.size_in[0] // self.blocks[0], image.shape[2])
        )

    def reduce_columns(self, image: Tensor) -> Tensor:
        """(N, C, h, W) to (N, C, h, w)."""
        cells = torch.matmul(image.reshape(-1, self.size_in[1] // self.blocks[1]), self.columns)
        return cells.reshape(*image.shape[:3], self.size_out[1])


class Preprocess(nn.Module):
    """Bytes of an aligned, cropped frame to what a detector sees.

    height_px, width_px: size of the crop. working: (h, w) of the color image. depth_working: (hd,
    wd) of the height image, None for a color-only graph, whose foreground is the region.
    speck: share of the square of ALONE_CELLS around a cell that must stand above `lift` as well, or
    the cell is a crumb on the table and no foreground; 0 keeps every cell. pose: turns every image
    into the normal pose for the detector; None: it sees them as they are. Raises: ConfigError for a
    size below 1.
    """

    u: Tensor
    v: Tensor
    decode: Tensor
    moments: Tensor
    near_rows: Tensor
    near_columns: Tensor

    def __init__(
        self,
        height_px: int,
        width_px: int,
        working: tuple[int, int],
        depth_working: tuple[int, int] | None,
        speck: float = 0.0,
    ) -> None:
        super().__init__()
        if min(height_px, width_px, *working, *(depth_working or working)) < 1:
            raise ConfigError(
                f"a crop of {width_px}x{height_px} px cannot be resized to {working} and "
                f"{depth_working}: every size must be at least 1"
            )
        self.size, self.working, self.depth_working = (height_px, width_px), working, depth_working
        self.color_resize = AreaResize(self.size, working)
        self.cell_resize = AreaResize(self.size, depth_working or working)
        self.place = Place(self.size, depth_working or working)
        self.register_plane_buffers(height_px, width_px)
        self.speck = speck
        self.pose: NormalPose | None = None
        rows, columns = (_near_matrix(cells) for cells in depth_working or working)
        self.register_buffer("near_rows", rows, persistent=False)
        self.register_buffer("near_columns", columns, persistent=False)

    def add_pose(self) -> NormalPose:
        """Give every image in the normal pose from now on; the silhouette is still to be fitted.

        Raises: ConfigError without depth, which has no silhouette.
        """
        if self.depth_working is None:
            raise ConfigError("without depth there is no silhouette to find a pose by")
        self.pose = NormalPose(self.depth_working, self.working, self.size).eval()
        return self.pose

    def register_plane_buffers(self, height_px: int, width_px: int) -> None:
        """Constants of average_height. u: (W,) pixel centers. v: (g, 1, 1) first row of each of the
        g blocks of rows.

        moments: (2 h/g, H/g) area matrix of a block's rows, and the same times the row number
        inside the block.
        decode: (2 k, k) bytes of k pixels to their counts; one product is faster than taking the
        bytes apart.
        """
        rows, blocks = self.cell_resize.rows, self.cell_resize.blocks[0]
        inside = torch.arange(height_px // blocks, dtype=torch.float32)
        pixels = math.gcd(width_px, 16)
        decode = torch.einsum("ij,b->ibj", torch.eye(pixels), torch.tensor([1.0, 256.0])).reshape(
            2 * pixels, pixels
        )
        self.register_buffer("u", torch.arange(width_px, dtype=torch.float32), persistent=False)
        self.register_buffer(
            "v", torch.arange(blocks).reshape(-1, 1, 1) * float(len(inside)), persistent=False
        )
        self.register_buffer("moments", torch.cat([rows, rows * inside]), persistent=False)
        self.register_buffer("decode", decode, persistent=False)

    def forward(
        self,
        color: Tensor,
        depth: Tensor | None,
        region: Tensor,
        unit: Tensor | None = None,
        intrinsics: Tensor | None = None,
        plane: Tensor | None = None,
        lift: Tensor | None = None,
        expected: Tensor | None = None,
    ) -> Prepared:
        """Prepare a batch, every part where the camera sees it.

        Args:
            color: (N, H, W, 3) uint8 RGB. depth: (N, H, W, 2) uint8, little-endian counts, None for
                a color-only graph.
            region: (N, H, W, 1) uint8, 0 = ignore. unit: (N,) meters per count. intrinsics: (N, 4).
            plane: (N, 4) alpha, beta, gamma, delta. lift: (N,) meters. expected: (N, H, W, 1)
                uint8, where material should be; None: nowhere.
        """
        small = self.color_resize(color.to(torch.float32))  # (N, 3, h, w)
        inside = self.cell_resize(region.to(torch.float32).clamp(max=1.0))  # (N, 1, hd, wd), share
        in_region = (inside > HALF).to(torch.float32)
        if depth is None or unit is None or intrinsics is None or plane is None or lift is None:
            share = inside.mean(dim=(1, 2, 3))  # (N,)
            place = self.place(in_region * inside)
            return Prepared(
                small, None, in_region, None, share, torch.ones_like(share), place=place
            )
        average, read = self.average_height(depth, unit, plane)
        filled, known = fill_holes(average, read)
        threshold = lift.reshape(-1, 1, 1, 1)
        foreground = self.without_specks((filled > threshold).to(torch.float32) * known * in_region)
        pixels = foreground.sum(dim=(1, 2, 3))  # (N,) cells
        covered = foreground * inside
        area = covered.sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp(min=1.0)
        valid = (foreground * read).sum(dim=(1, 2, 3)) / pixels.clamp(min=1.0)
        known_cells = (read > HALF).to(torch.float32)
        place = self.place(covered)
        return Prepared(
            small,
            filled * foreground,
            foreground,
            known_cells,
            area,
            valid,
            intrinsics,
            plane,
            place,
            (filled / (RAMP * threshold).clamp(min=1e-6)).clamp(0.0, 1.0) * _in_company(foreground),
            _seen(read, in_region),
            self._absent(expected, foreground, known_cells * in_region),
        )

    def prepared(self, named: Mapping[str, Tensor]) -> Prepared:
        """What the detector sees of graph inputs by name: in the normal pose, if there is one."""
        shown = self.as_shown(named)
        return shown if self.pose is None else cast(Prepared, self.pose(shown, named["color"]))

    def as_shown(self, named: Mapping[str, Tensor]) -> Prepared:
        """As `forward`, of graph inputs by name; plane and intrinsics (4,) become one row."""
        if self.depth_working is None:
            return cast(Prepared, self(named["color"], None, named["region"]))
        rows = {name: named[name].reshape(-1, 4) for name in ("intrinsics", "plane")}
        return cast(
            Prepared,
            self(
                named["color"],
                named["depth"],
                named["region"],
                named["unit"],
                rows["intrinsics"],
                rows["plane"],
                named["lift"],
                named.get("expected"),
            ),
        )

    def without_specks(self, raised: Tensor) -> Tensor:
        """(N, 1, hd, wd), 0 or 1, without the cells that stand alone: crumbs far from the part."""
        if not self.speck:
            return raised
        around = self.near_rows @ raised @ self.near_columns  # (N, 1, hd, wd), share
        kept: Tensor = raised * (around > self.speck).to(torch.float32)
        return kept

    def _absent(self, expected: Tensor | None, foreground: Tensor, known: Tensor) -> Tensor:
        """Cells that should hold material, are known, and hold none, (N, 1, hd, wd), 0 or 1."""
        if expected is None:
            return torch.zeros_like(foreground)
        share = self.cell_resize(expected.to(torch.float32).clamp(max=1.0))  # (N, 1, hd, wd)
        wanted: Tensor = (share > HALF).to(torch.float32)
        return wanted * known * (1.0 - foreground)

    def average_height(self, depth: Tensor, unit: Tensor, plane: Tensor) -> tuple[Tensor, Tensor]:
        """(height, read): masked area average of delta - z (alpha u + beta v + gamma), and the
        share of pixels read.

        Height is linear in z, so the average of z (alpha u + beta v + gamma) is taken, and delta
        enters once per cell. A pixel without a reading has count 0 and adds nothing to that sum nor
        to the share which divides it: masked, it never gets height delta. v = first row of the
        block + row inside, so rows are reduced before the plane is applied. Both (N, 1, hd, wd);
        height is 0 where nothing was read.
        """
        n, (height_px, width_px), cells = depth.shape[0], self.size, self.cell_resize.size_out[0]
        count = torch.matmul(depth.to(torch.float32).reshape(-1, len(self.decode)), self.decode)
        count = count.reshape(n, height_px, width_px)
        read = self.cell_resize(count.clamp(max=1.0).unsqueeze(3))  # (N, 1, hd, wd), share
        sums = self.cell_resize.reduce_rows(count, self.moments).reshape(
            n, len(self.v), -1, width_px
        )
        plain, by_row = sums.chunk(2, dim=2)  # (N, g, hd/g, W) each
        alpha, beta, gamma, delta = (plane[:, i].reshape(-1, 1, 1, 1) for i in range(4))
        along = (
            plain * (alpha * self.u + (beta * self.v + gamma)) + beta * by_row
        )  # counts along the normal
        along = self.cell_resize.reduce_columns(
            along.reshape(n, 1, cells, width_px)
        )  # (N, 1, hd, wd)
        known = (read > ANY).to(torch.float32)
        return known * (delta - unit.reshape(-1, 1, 1, 1) * along / read.clamp(min=ANY)), read


def _near_matrix(cells: int) -> Tensor:
    """(cells, cells) float32, symmetric: its product averages over ALONE_CELLS to either side."""
    place = torch.arange(cells)
    near = (place[:, None] - place[None, :]).abs() <= ALONE_CELLS
    return near.to(torch.float32) / (2 * ALONE_CELLS + 1)


def _in_company(foreground: Tensor) -> Tensor:
    """(N, 1, hd, wd), 0 or 1, without cells that at most one other touches: dust and noise have an
    outline, but none of the part's.
    """
    around = nn.functional.avg_pool2d(foreground, 3, stride=1, padding=1)  # share of 9 cells
    return foreground * (around > 2.5 / 9).to(torch.float32)


def _seen(read: Tensor, in_region: Tensor) -> Tensor:
    """(N, 1, hd, wd), 0 within BLIND_CELLS of a hole of 3x3 cells or more, or of what the region
    leaves out: a loss of readings must not look like a loss of material.
    """
    some = grown((read > ANY).to(torch.float32), 1)
    return 1.0 - grown(1.0 - some * in_region, BLIND_CELLS)


def grown(image: Tensor, cells: int) -> Tensor:
    """(N, 1, h, w) >= 0, every cell the largest value within `cells` rows and columns of it; one
    axis after the other, which reads fewer cells.
    """
    size = 2 * cells + 1
    column = nn.functional.max_pool2d(image, (size, 1), stride=1, padding=(cells, 0))
    return nn.functional.max_pool2d(column, (1, size), stride=1, padding=(0, cells))


def fill_holes(height: Tensor, read: Tensor, passes: int = HOLE_PASSES) -> tuple[Tensor, Tensor]:
    """Close cells without any reading by a fixed number of masked 3x3 averages, from the rim of
    each hole inwards.

    height, read: (N, 1, hd, wd). Returns (filled height, 1 where known after filling); what stays
    unknown is 0.
    """
    known = (read > ANY).to(torch.float32)
    height = height * known
    for _ in range(passes):
        near = nn.functional.avg_pool2d(known, 3, stride=1, padding=1)  # share of known neighbors
        mean = nn.functional.avg_pool2d(height, 3, stride=1, padding=1) / near.clamp(
            min=0.1
        )  # 0.1: below 1 of 9
        height = height + mean * (1.0 - known)
        known = (near * 16.0).clamp(max=1.0)  # 1 with any known neighbor
    return height, known
