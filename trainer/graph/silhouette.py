"""Does the part have the product's silhouette, whatever pose it lies in?

The mean silhouette of normal parts is laid over every part: a correlation with turned copies of it
finds the best starts, Gauss-Newton steps at points of its outlines refine all of them, first on
blurred silhouettes (Lucas and Kanade, IJCAI 1981; the slopes are the template's, Baker and
Matthews, IJCV 56, 2004), and the one that leaves the fewest differences wins. Differences are
weighted by Geman and McClure's function, so that what is absent does not pull the rest away.
What still differs, in deviations of normal parts, is absent or extra. Products whose parts differ
much from each other, and soft ones, have deviations so large that nothing is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.graph.prepared import Prepared

ANGLES = 120  # of the turned copies
COARSE = 4  # cells of a side in one cell of the coarse search
SHIFTS = 3  # coarse cells that a copy is shifted by at most, to every side of the centroid
COARSE_SIGMA = 2.5  # cells
STARTS = 16  # the best places of the coarse search are refined, all together
STEPS = (3.0, 1.5, 0.7, 0.7)  # sigma in cells of each Gauss-Newton step
POINTS = 1024  # along the outlines of the normal silhouette, where it says something of the pose
ARM = 4  # a turn counts by its arc at so many parts of the silhouette's side
STEEP = 0.1  # of the steepest slope: flatter places say little
TELLING = 0.4  # a difference of the silhouettes that counts a quarter in the steps
DAMPING = 1e-2  # added to the diagonal: what turns without a change stays where it is
LONGEST_STEP = 2.0  # cells
FLOOR = 0.1  # added to every deviation of the silhouette
CUT_SIGMAS = 3.0
EVEN = 2  # square cells of both sides are a multiple of it: the outline is described at every other
ALL = 0.999  # of a square cell was seen: between two cells, interpolation rounds
NONE = 1e-3  # a silhouette that is lower is none: it is what interpolation rounds
LEAST_ZOOM, MOST_ZOOM = 0.5, 2.0


class SquareCells(nn.Module):
    """Silhouettes in square cells of one size on the table, an even number of them along both
    sides. Where the cells of the height image are not square, or their number is odd, turns would
    change a silhouette's shape; a camera at another distance, or with another lens, would change
    its size. How large a pixel is on the table follows from plane and intrinsics.

    scale: meters on the table that one pixel covers in the middle of the view, to which all views
    are brought; 0 until it is taken, and in runs of before: every view stays as it is.

    Args:
        cells: (hd, wd) of the height image. size: (H, W) of the crop in pixels.
    """

    scale: Tensor
    whole: Tensor
    whole_cells: Tensor

    def __init__(self, cells: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        along = max(cells) / max(size)
        h, w = (max(round(side * along / EVEN), 1) * EVEN for side in size)
        self.cells, self.even, self.size = cells, (h, w), size
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("whole", _whole_view(self.even), persistent=False)
        self.register_buffer("whole_cells", _whole_view(cells), persistent=False)

    def forward(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """Silhouette and seen of prepared images in square cells, (N, 1, h, w) each."""
        silhouette, seen = cast(Tensor, prepared.silhouette), cast(Tensor, prepared.seen)
        both = self._resized(torch.cat([silhouette, seen], dim=1), self.even)
        zoomed = _at(both, self.whole * self.zoom(prepared))
        silhouette, seen = zoomed.chunk(2, dim=1)
        there = (silhouette > NONE).to(torch.float32)
        return silhouette * there, (seen > ALL).to(torch.float32)

    def back(self, image: Tensor, zoom: Tensor) -> Tensor:
        """(N, 1, h, w) in square cells -> in those of the height image, (N, 1, hd, wd)."""
        return _at(image, self.whole_cells / zoom)

    def zoom(self, prepared: Prepared) -> Tensor:
        """How far from the middle of the view a place lies of which the normal scale says 1, (N, 1,
        1, 1).
        """
        known = (self.scale > 0).to(torch.float32)
        zoom = self.scale / meters_per_pixel(prepared, self.size).clamp(min=1e-9)
        return (known * zoom.clamp(LEAST_ZOOM, MOST_ZOOM) + 1 - known).reshape(-1, 1, 1, 1)

    @torch.no_grad()
    def take_scale(self, views: Sequence[Prepared]) -> None:
        """Bring all views to the median scale of these."""
        scales = torch.cat([meters_per_pixel(view, self.size) for view in views])
        self.scale.copy_(scales.median())

    def _resized(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, C, h, w) of the one kind of cells in the other; itself where both are the same."""
        if self.cells == self.even:
            return image
        return functional.interpolate(image, size, mode="bilinear", align_corners=False)


def meters_per_pixel(prepared: Prepared, size: tuple[int, int]) -> Tensor:
    """What one pixel covers on the table in the middle of views of (H, W) pixels, (N,), meters."""
    plane, intrinsics = cast(Tensor, prepared.plane), cast(Tensor, prepared.intrinsics)
    alpha, beta, gamma, delta = plane.unbind(dim=1)
    along = alpha * ((size[1] - 1) / 2) + beta * ((size[0] - 1) / 2) + gamma
    return delta / (along * intrinsics[:, 0]).clamp(min=1e-9)


def _whole_view(cells: tuple[int, int]) -> Tensor:
    """Where every cell of an image lies, -1 to 1 from edge to edge, (1, h, w, 2)."""
    rows, columns = ((2 * torch.arange(count) + 1) / count - 1 for count in cells)
    y, x = torch.meshgrid(rows.float(), columns.float(), indexing="ij")
    return torch.stack([x, y], dim=-1)[None]


class NormalSilhouette(nn.Module):
    """The mean silhouette of a product, (S, S) around its centroid, and its deviation.

    limit: the largest difference, in deviations, that a normal part shows; infinite until it is
    fitted (trainer.train.outline).

    Args:
        cells: (hd, wd) of the images it is laid over; S is the longer side.
    """

    mean: Tensor
    deviation: Tensor
    points: Tensor
    copies: Tensor
    offsets: Tensor
    poses: Tensor
    limit: Tensor
    x: Tensor
    y: Tensor
    damping: Tensor
    next: Tensor
    after: Tensor

    def __init__(self, cells: tuple[int, int]) -> None:
        super().__init__()
        side, shifts = max(cells), 2 * SHIFTS + 1
        self.side, self.coarse = side, side // COARSE
        self.register_buffer("mean", torch.zeros(1, 1, side, side))
        self.register_buffer("deviation", torch.zeros(1, 1, side, side))
        # for every step, of points of the mean: x, y from its center; value; how it changes by a
        # turn and by shifts along x and y; the products of these three changes (9)
        self.register_buffer("points", torch.zeros(len(STEPS), POINTS, 15))
        self.register_buffer("copies", torch.zeros(ANGLES, 1, self.coarse, self.coarse))
        self.register_buffer("offsets", torch.zeros(1, ANGLES, 1, 1))
        # turn in radians and shift in cells that belong to every place of the correlation
        self.register_buffer("poses", torch.zeros(ANGLES * shifts * shifts, 3))
        self.register_buffer("limit", torch.full((), torch.inf))
        x, y = _places(cells)
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", y, persistent=False)
        self.register_buffer("damping", DAMPING * torch.eye(3), persistent=False)
        self.register_buffer("next", torch.tensor([1, 2, 0]), persistent=False)
        self.register_buffer("after", torch.tensor([2, 0, 1]), persistent=False)

    def forward(
        self, silhouette: Tensor, seen: Tensor, pose: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Difference of silhouettes (N, 1, hd, wd), 0 to 1, from the normal one in their pose, in
        deviations, averaged over 3x3 cells, 0 where it was not seen; and the normal one in that
        pose. (N, 1, hd, wd) each. pose: (N, 3), where it is known already.
        """
        own = self.own(self.pose(silhouette, seen) if pose is None else pose)
        normal, deviation = self._laid(torch.cat([self.mean, self.deviation], 1), own).chunk(2, 1)
        unusual = (silhouette - normal).abs() / (deviation + FLOOR) * seen
        return functional.avg_pool2d(unusual, 3, stride=1, padding=1), normal

    def pose(self, silhouette: Tensor, seen: Tensor) -> Tensor:
        """Turn in radians and center x, y in cells of every part, (N, 3)."""
        poses, costs = self._searched(silhouette), []  # (N, STARTS, 3), then (N, STARTS) each
        for sigma, points in zip(STEPS, self.points, strict=True):
            image = torch.cat([smooth(silhouette, sigma), seen], dim=1)
            step, cost = self._step(image, poses, points)
            poses = poses + step
            costs.append(cost)
        best = costs[-1].argmin(dim=1).reshape(-1, 1, 1).expand(-1, 1, 3)
        return poses.gather(1, best)[:, 0]

    def laid(self, pose: Tensor) -> Tensor:
        """The normal silhouette in poses (N, 3), (N, 1, hd, wd)."""
        return self._laid(self.mean, self.own(pose))

    def own(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Every cell from the center of the normal silhouette along its own axes, x and y (N, hd,
        wd), for poses (N, 3).
        """
        angle, x, y = pose[:, :, None].chunk(3, dim=1)  # (N, 1, 1) each
        cos, sin, dx, dy = angle.cos(), angle.sin(), self.x - x, self.y - y
        return cos * dx + sin * dy, cos * dy - sin * dx

    def _laid(self, images: Tensor, own: tuple[Tensor, Tensor]) -> Tensor:
        """Images (1, C, S, S) of the normal silhouette over the part, (N, C, hd, wd)."""
        return _at(images, torch.stack(own, dim=-1) * (2 / self.side))

    def _searched(self, silhouette: Tensor) -> Tensor:
        """Poses of the best of the turned and shifted copies, (N, STARTS, 3)."""
        mass = silhouette.sum(dim=(2, 3)).clamp(min=1e-6)  # (N, 1)
        x = (silhouette[:, 0] * self.x).sum(dim=(1, 2))[:, None] / mass  # (N, 1)
        y = (silhouette[:, 0] * self.y).sum(dim=(1, 2))[:, None] / mass
        smoothed = smooth(silhouette, COARSE_SIGMA)
        to_x, to_y = (COARSE * along for along in centered_places(self.coarse))
        around = sampled(smoothed, x[:, :, None] + to_x, y[:, :, None] + to_y)
        match = functional.conv2d(around, self.copies, padding=SHIFTS)  # (N, A, 7, 7)
        best = (2 * match - self.offsets).flatten(1).topk(STARTS, dim=1).indices
        found = self.poses[best]  # (N, STARTS, 3)
        centroid = torch.stack([torch.zeros_like(x), x, y], dim=2)  # (N, 1, 3)
        return found + centroid

    def _step(self, image: Tensor, poses: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """One Gauss-Newton step, (N, STARTS, 3), and what differs before it, (N, STARTS).

        image: (N, 2, hd, wd), silhouette and seen. points: (POINTS, 15), see there.
        """
        x, y, value = points[:, :3].T.chunk(3, dim=0)  # (1, POINTS) each
        changes, products = points[:, 3:6], points[:, 6:]
        angle, to_x, to_y = poses.chunk(3, dim=2)  # (N, STARTS, 1) each
        cos, sin = angle.cos(), angle.sin()
        at_x, at_y = cos * x - sin * y + to_x, sin * x + cos * y + to_y
        found, told = sampled(image, at_x, at_y).unbind(dim=1)  # (N, STARTS, POINTS) each
        missing = found - value
        squared = (missing / TELLING).square()
        cost = (told * squared / (1 + squared)).mean(dim=2)
        weight = told / (1 + squared).square()
        step = self._solved((weight @ products).reshape(-1, 3, 3), (weight * missing) @ changes)
        by, right, down = step.clamp(-LONGEST_STEP, LONGEST_STEP).chunk(3, dim=2)
        return torch.cat(
            [by * (ARM / self.side), cos * right - sin * down, sin * right + cos * down], 2
        ), cost

    def _solved(self, matrix: Tensor, right: Tensor) -> Tensor:
        """x (N, K, 3) with (matrix + DAMPING I) x = right: (N K, 3, 3), symmetric, (N, K, 3)."""
        damped = matrix + self.damping
        one, other = damped[:, self.next], damped[:, self.after]
        adjugate = (  # its rows are the cross products of the other two rows
            one[:, :, self.next] * other[:, :, self.after]
            - one[:, :, self.after] * other[:, :, self.next]
        )
        determinant = (damped[:, 0] * adjugate[:, 0]).sum(dim=1, keepdim=True)
        solved = (adjugate * right.reshape(-1, 3, 1)).sum(dim=1) / determinant
        return solved.reshape(right.shape)

    @torch.no_grad()
    def take(self, mean: Tensor, deviation: Tensor, turns: int = 1) -> None:
        """Lay this over parts from now on: (1, 1, S, S) each. turns: how often the silhouette comes
        to lie on itself in a full turn; only the first of these turns is searched.
        """
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        for points, sigma in zip(self.points, STEPS, strict=True):
            points.copy_(_steep_points(smooth(mean, sigma)))
        searched = torch.arange(ANGLES) % (ANGLES // turns)  # what is left repeats them
        angles = 2 * math.pi * searched / ANGLES
        to_x, to_y = (COARSE * along for along in centered_places(self.coarse))
        smoothed = smooth(mean, COARSE_SIGMA)
        self.copies.copy_(torch.cat([turned(smoothed, float(a), to_x, to_y) for a in angles]))
        self.offsets.copy_(self.copies.square().sum(dim=(1, 2, 3)).reshape(1, -1, 1, 1))
        shift = COARSE * torch.arange(-SHIFTS, SHIFTS + 1, dtype=torch.float32)
        self.poses.copy_(
            torch.stack(torch.meshgrid(angles, shift, shift, indexing="ij"), dim=-1)
            .reshape(-1, 3)
            .index_select(1, torch.tensor([0, 2, 1]))
        )


def sampled(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(N or 1, C, h, w) at x, y in cells, (N, rows, columns) each, between cells linearly; 0 beyond
    the image. The result is (N, C, rows, columns).
    """
    h, w = image.shape[2:]
    return _at(image, torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1))


def _at(image: Tensor, grid: Tensor) -> Tensor:
    """As `sampled`, at places (N, rows, columns, 2) of -1 to 1 from edge to edge."""
    images = image.expand(grid.shape[0], -1, -1, -1)
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def turned(image: Tensor, angle: float, to_x: Tensor, to_y: Tensor) -> Tensor:
    """A centered image (1, C, S, S) turned by an angle, at places to_x, to_y from its center."""
    center, cos, sin = (image.shape[-1] - 1) / 2, math.cos(angle), math.sin(angle)
    return sampled(image, cos * to_x + sin * to_y + center, cos * to_y - sin * to_x + center)


def _steep_points(mean: Tensor) -> Tensor:
    """(POINTS, 15) of a blurred mean, evenly taken from its steep places."""
    wide = functional.pad(mean, (1, 1, 1, 1))[0, 0]
    along_x = (wide[1:-1, :-2] - wide[1:-1, 2:]).flatten() / 2
    along_y = (wide[:-2, 1:-1] - wide[2:, 1:-1]).flatten() / 2
    slope = torch.hypot(along_x, along_y)
    steep = (slope >= STEEP * slope.max()).nonzero()[:, 0]
    kept = steep[(torch.arange(POINTS) * len(steep)) // POINTS]
    x, y, along_x, along_y = (
        image.flatten()[kept] for image in (*centered_places(mean.shape[-1]), along_x, along_y)
    )
    turn = (x * along_y - y * along_x) / (mean.shape[-1] / ARM)
    changes = torch.stack([turn, along_x, along_y], dim=1)
    products = (changes[:, :, None] * changes[:, None]).flatten(1)
    return torch.cat([torch.stack([x, y, mean.flatten()[kept]], 1), changes, products], dim=1)


def smooth(image: Tensor, sigma: float) -> Tensor:
    """(N, 1, h, w) under a Gaussian of sigma cells; beyond the image all is 0."""
    reach = math.ceil(CUT_SIGMAS * sigma)
    t = torch.arange(-reach, reach + 1, dtype=torch.float32) / sigma
    bell = torch.exp(-0.5 * t * t)
    bell = (bell / bell.sum()).reshape(1, 1, -1, 1)
    rows = functional.conv2d(image, bell, padding=(reach, 0))
    return functional.conv2d(rows, bell.transpose(2, 3), padding=(0, reach))


def centered_places(side: int) -> tuple[Tensor, Tensor]:
    """x and y of the cells of a square image from its center, (1, side, side) each."""
    x, y = _places((side, side))
    return x - (side - 1) / 2, y - (side - 1) / 2


def _places(cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """x and y of every cell, (1, h, w) each."""
    y, x = torch.meshgrid(
        torch.arange(cells[0], dtype=torch.float32),
        torch.arange(cells[1], dtype=torch.float32),
        indexing="ij",
    )
    return x[None], y[None]
