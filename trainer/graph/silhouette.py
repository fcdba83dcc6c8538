"""Does the part have the product's silhouette, whatever pose it lies in?

The mean silhouette of normal parts is laid over every part: a correlation with turned copies of it
finds the pose roughly, Gauss-Newton steps then refine turn and place, first on blurred silhouettes
(Lucas and Kanade, IJCAI 1981; Baker and Matthews, IJCV 56, 2004). Differences are weighted by
Geman and McClure's function, so that a piece that is absent does not pull the rest out of place.
What still differs, in deviations of normal parts, is absent or extra. Products whose parts differ
much from each other, and soft ones, have deviations so large that nothing is told.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

ANGLES = 120  # of the turned copies
COARSE = 4  # cells of a side in one cell of the coarse search
STARTS = 16  # the best places of the coarse search are refined, all together
SHIFTS = 3  # coarse cells that a copy is shifted by at most, to every side of the centroid
COARSE_SIGMA = 2.5  # cells
# sigma in cells of each Gauss-Newton step: of all starts, on every other cell; then of the best one
STEPS, LAST_STEPS = (3.0, 1.5), (0.7, 0.7)
TELLING = 0.15  # a difference of the silhouettes that counts a quarter in the steps
STRIDE = 2  # of the cells that have a say while there are many starts
DAMPING = 1e-2  # added to the diagonal: what turns without a change stays where it is
LONGEST_STEP = 2.0  # cells
FLOOR = 0.1  # added to every deviation of the silhouette
CUT_SIGMAS = 3.0


class NormalSilhouette(nn.Module):
    """The mean silhouette of a product, (S, S) around its centroid, and its deviation.

    limit: the largest difference, in deviations, that a normal part shows; infinite until it is
    fitted (trainer.train.silhouette).

    Args:
        cells: (hd, wd) of the images it is laid over; S is the longer side.
    """

    mean: Tensor
    deviation: Tensor
    slopes: Tensor
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
        # for every step the mean blurred, and how it falls along x and along y
        self.register_buffer("slopes", torch.zeros(len(STEPS + LAST_STEPS), 3, side, side))
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

    def forward(self, silhouette: Tensor, seen: Tensor) -> Tensor:
        """Difference of silhouettes (N, 1, hd, wd), 0 to 1, from the normal one in their pose, in
        deviations, averaged over 3x3 cells, (N, 1, hd, wd); 0 where it was not seen.
        """
        own = self.own(self.pose(silhouette, seen))
        normal, deviation = self._laid(torch.cat([self.mean, self.deviation], 1), own).chunk(2, 1)
        unusual = (silhouette - normal).abs() / (deviation + FLOOR) * seen
        return functional.avg_pool2d(unusual, 3, stride=1, padding=1)

    def pose(self, silhouette: Tensor, seen: Tensor) -> Tensor:
        """Turn in radians and center x, y in cells of every part, (N, 3)."""
        poses = self._searched(silhouette).reshape(-1, 3)  # (N STARTS, 3)
        told, among = _each_start(seen), self.slopes[: len(STEPS), None]
        for sigma, slopes in zip(STEPS, among, strict=True):
            blurred = _each_start(smooth(silhouette, sigma))
            poses = poses + self._step(blurred, told, poses, slopes, STRIDE)
        left = (_each_start(silhouette) - self._laid(self.mean, self.own(poses, STRIDE))).square()
        cost = (told * left / (left + TELLING**2)).sum(dim=(1, 2, 3)).reshape(-1, STARTS)
        best = cost.argmin(dim=1).reshape(-1, 1, 1).expand(-1, 1, 3)
        pose = poses.reshape(-1, STARTS, 3).gather(1, best)[:, 0]
        for sigma, slopes in zip(LAST_STEPS, self.slopes[len(STEPS) :, None], strict=True):
            pose = pose + self._step(smooth(silhouette, sigma), seen, pose, slopes, 1)
        return pose

    def own(self, pose: Tensor, stride: int = 1) -> tuple[Tensor, Tensor]:
        """Cells from the center of the normal silhouette along its own axes, x and y (N, hd, wd),
        for poses (N, 3); with a stride every so many cells.
        """
        angle, x, y = pose[:, :, None].chunk(3, dim=1)  # (N, 1, 1) each
        dx, dy = self.x[:, ::stride, ::stride] - x, self.y[:, ::stride, ::stride] - y
        cos, sin = angle.cos(), angle.sin()
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

    def _step(
        self, blurred: Tensor, seen: Tensor, pose: Tensor, slopes: Tensor, stride: int
    ) -> Tensor:
        """One Gauss-Newton step, (n, 3), from poses (n, 3) and the cells of n images that a stride
        leaves. slopes: (1, 3, S, S), see there.
        """
        x, y = own = self.own(pose, stride)
        laid = self._laid(slopes, own)  # (N, 3, hd, wd)
        normal, along_x, along_y = laid.chunk(3, dim=1)
        arm = self.side / 4  # a turn counts by its arc on that arm
        turn = (x[:, None] * along_y - y[:, None] * along_x) / arm
        moved = torch.cat([turn, along_x, along_y], dim=1).flatten(2)  # (N, 3, hd wd)
        missing = (blurred - normal).flatten(2)  # (N, 1, hd wd)
        weight = seen.flatten(2) / (1 + (missing / TELLING).square()).square()
        weighted = moved * weight
        both = weighted @ torch.cat([moved, missing], dim=1).transpose(1, 2)  # (N, 3, 4)
        step = self._solved(both[:, :, :3], both[:, :, 3:]).clamp(-LONGEST_STEP, LONGEST_STEP)
        by, right, down = step.chunk(3, dim=1)  # (N, 1) each, along the silhouette's own axes
        cos, sin = pose[:, :1].cos(), pose[:, :1].sin()
        return torch.cat([by / arm, cos * right - sin * down, sin * right + cos * down], dim=1)

    def _solved(self, matrix: Tensor, right: Tensor) -> Tensor:
        """x (N, 3) with (matrix + DAMPING I) x = right, (N, 3, 3), symmetric, and (N, 3, 1)."""
        damped = matrix + self.damping
        one, other = damped[:, self.next], damped[:, self.after]
        adjugate = (  # its rows are the cross products of the other two rows
            one[:, :, self.next] * other[:, :, self.after]
            - one[:, :, self.after] * other[:, :, self.next]
        )
        determinant = (damped[:, 0] * adjugate[:, 0]).sum(dim=1, keepdim=True)
        return (adjugate * right).sum(dim=1) / determinant

    @torch.no_grad()
    def take(self, mean: Tensor, deviation: Tensor, turns: int = 1) -> None:
        """Lay this over parts from now on: (1, 1, S, S) each. turns: how often the silhouette comes
        to lie on itself in a full turn; only the first of these turns is searched.
        """
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        for slopes, sigma in zip(self.slopes, STEPS + LAST_STEPS, strict=True):
            blurred = smooth(mean, sigma)
            wide = functional.pad(blurred, (1, 1, 1, 1))
            along_x = (wide[:, :, 1:-1, :-2] - wide[:, :, 1:-1, 2:]) / 2
            along_y = (wide[:, :, :-2, 1:-1] - wide[:, :, 2:, 1:-1]) / 2
            slopes.copy_(torch.cat([blurred, along_x, along_y], dim=1)[0])
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


def _each_start(image: Tensor) -> Tensor:
    """Every other cell of images (N, 1, h, w), once for every start, (N STARTS, 1, h/2, w/2)."""
    few = image[:, :, ::STRIDE, ::STRIDE]
    return few.expand(-1, STARTS, -1, -1).reshape(-1, 1, *few.shape[2:])


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
