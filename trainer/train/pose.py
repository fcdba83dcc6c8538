"""Fit the normal pose (trainer.graph.pose) to normal parts, where it makes them alike."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainer.data.augment import Augmentation
from trainer.data.normal import prepare
from trainer.graph.pose import NormalPose
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.train.silhouette import fit_silhouette
from trainer.train.turns import lie_turned

Feeds = Mapping[str, NDArray[np.generic]]

LEAST_PARTS = 4
LEAST_WHOLE = 0.9  # of the parts lie whole in the view
TURNS = 24  # in which the normal silhouette is tried, so that it fits into the image
FITS = 0.998  # of the normal silhouette lies in the image
# Moved, or turned as well, the parts differ from their mean by less than this share of what they
# differ without, in squares; or nothing is gained by it.
ALIKE = 0.7
AS_THEY_LIE = "looked at as they lie"


@dataclass(frozen=True)
class Found:
    """The pose that was fitted, if any. how: the parts are ..., for the user. turned: the detector
    sees them at any angle.
    """

    pose: NormalPose | None
    how: str
    turned: bool = False

    def digest(self) -> str:
        """Of all that the pose consists of: what was prepared in another one is not the same."""
        told = hashlib.sha256()
        for name, tensor in ({} if self.pose is None else self.pose.state_dict()).items():
            told.update(name.encode() + tensor.numpy().tobytes())
        return told.hexdigest()

    def augmentation(self, asked: Augmentation) -> Augmentation:
        """What becomes of a preset's augmentation for parts in this pose."""
        return asked if self.pose is None else asked.in_pose(turns=bool(self.pose.turns))


@torch.no_grad()
def fit_pose(preprocess: Preprocess, parts: Iterable[Feeds]) -> Found:
    """The normal pose of normal parts, given their graph inputs; preprocess has none yet."""
    if preprocess.depth_working is None:
        any_angle = lie_turned([prepare(preprocess, feeds).color for feeds in parts])
        angle = "and they lie at any angle" if any_angle else "all at about one angle"
        how = f"{AS_THEY_LIE}: without depth no silhouette is seen, {angle}"
        return Found(None, how, any_angle)
    views, colors = [], []
    for feeds in parts:
        views.append(prepare(preprocess, feeds))
        colors.append(torch.from_numpy(np.ascontiguousarray(feeds["color"])))
    whole = [(view, color) for view, color in zip(views, colors, strict=True) if _is_whole(view)]
    if len(whole) < max(LEAST_PARTS, LEAST_WHOLE * len(views)):
        return Found(None, f"{AS_THEY_LIE}: they fill the view or are cut by its border")
    pose = NormalPose(preprocess.depth_working, preprocess.working, preprocess.size).eval()
    pose.squares.take_scale([view for view, _ in whole])
    squared = [pose.squares(view) for view, _ in whole]
    silhouettes, seen = (torch.cat(images) for images in zip(*squared, strict=True))
    fit_silhouette(pose.normal, silhouettes, seen)
    turns = [2 * math.pi * number / TURNS for number in range(TURNS)]
    fitting = [_inside(pose, turn) for turn in turns]
    best = next((turn for turn, share in zip(turns, fitting, strict=True) if share >= FITS), None)
    if best is None:
        return Found(None, f"{AS_THEY_LIE}: turned, they are larger than the view")
    pose.turn.fill_(best)
    lying = _differences([view for view, _ in whole])
    turned = _differences([pose(*one) for one in whole])
    pose.turns.fill_(0.0)
    moved = _differences([pose(*one) for one in whole])
    if turned < ALIKE * min(moved, lying):
        pose.turns.fill_(1.0)
        return Found(pose, "turned and moved into one pose, in which they are more alike")
    if moved < ALIKE * lying:
        return Found(pose, "moved into one place, where they are more alike")
    return Found(None, f"{AS_THEY_LIE}: they are hardly more alike in one pose")


def _is_whole(view: Prepared) -> bool:
    """It shows foreground, none of it on the border of the view."""
    assert view.place is not None  # of every image that is not made up
    return float(view.area) > 0 and float(view.place[0, 5]) == 0


def _inside(pose: NormalPose, turn: float) -> float:
    """Share of the normal silhouette that lies in the image if it is turned back by so many
    radians.
    """
    height, width = pose.squares.even
    centered = torch.tensor([[-turn, (width - 1) / 2, (height - 1) / 2]])
    return float(pose.normal.laid(centered).sum() / pose.normal.mean.sum().clamp(min=1.0))


def _differences(posed: list[Prepared]) -> float:
    """Mean squared difference of the parts from their mean, color and height each in units of what
    differs between the cells of all of them.
    """
    return sum(_variance(images) for images in (_colors(posed), _heights(posed)))


def _colors(posed: list[Prepared]) -> Tensor:
    """(n, 3, h, w), black beside the part: no table is any part's."""
    size = posed[0].color.shape[2:]
    masks = [functional.interpolate(view.foreground, tuple(size), mode="nearest") for view in posed]
    return torch.cat([view.color * mask for view, mask in zip(posed, masks, strict=True)])


def _heights(posed: list[Prepared]) -> Tensor:
    return torch.cat([view.height for view in posed if view.height is not None])


def _variance(images: Tensor) -> float:
    """Of every cell over the images, relative to that of all cells together; of averages over 3x3
    cells, for interpolation between cells alone takes noise away.
    """
    smooth = functional.avg_pool2d(images, 3, stride=1)
    return float(smooth.var(dim=0).mean() / smooth.var().clamp(min=1e-12))
