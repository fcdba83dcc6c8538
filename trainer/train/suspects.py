"""Normal images that do not look like the others: perhaps defects, which would teach the detector
to accept them.

No detector is asked, and nothing that is trained changes. Every image is cut into patches of 8
working pixels. A patch is described by frozen ImageNet features of the color and, by itself, by the
shape of the height around it. It is unusual if few of the other images have anything like it:

- Its distance is the m-th smallest of its distances to the nearest patch of each other image, m a
  third of them. So three images with the same scratch do not vouch for each other, and what a third
  of the images show is normal. Where in the image the nearest patch lies does not matter: parts may
  lie anywhere and turn.
- It counts relative to the distances of the patches that it is nearest to (the local outlier factor
  of Breunig et al., SIGMOD 2000): edges and print differ from image to image more than a plain face
  does.
- An image scores the mean of its TOP_SHARE most unusual patches. Scores that are too high for the
  others are found by the generalized ESD test (Rosner, Technometrics 1983) on their logarithms,
  once for color and once for height.

The test alarms by chance on at most ALARMS of all clean sets for each of the two, if the logarithms
of the scores are normally distributed. They have longer tails: tests/benchmarks/suspects.py
measures how often it does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch.nn import functional

from edge.frames.dataset import Sample
from edge.schema import Strict
from trainer.data.choose import spread
from trainer.data.normal import prepare
from trainer.data.scene import Scene
from trainer.graph.preprocess import Prepared, Preprocess, working_size
from trainer.layers.backbone import LITE0, build_trunk

PICTURES = "suspects"  # folder in the run
LEAST_IMAGES = 6  # of fewer, no image can be told from the others
MOST_SHARE = 1 / 3  # of the images: more that look alike are a kind of normal part
MOST_OTHERS, LEAST_OTHERS = 48, 12  # images that every image is compared with
MOST_PAIRS = 5000  # of images compared: more images are compared with fewer others each
ALARMS = 5e-4  # rate of clean sets with an alarm, for each of color and height
GAP = 0.3  # to the next score, as a share of the next score's own distance from the median
TOP_SHARE = 0.01  # of the patches, the most unusual ones, make the score
CHANNELS = 48  # principal components of the color features that are compared
CELLS = 4  # depth cells along a patch: the height image has half the color image's sides
FOREGROUND = 0.3  # share of a patch that must be foreground
LEAST_LOCAL = 0.25  # local distances below this share of the median count as this share
SCALES = (
    1.0,
    2.0,
    4.0,
    8.0,
)  # standard deviations of the averages that describe heights, in depth cells

WHAT_TO_DO = (
    "A defect among them teaches the detector to accept it: look, and move it to a defect folder,"
    " then train again"
)

Modality = Literal["color", "height"]


class Suspect(Strict):
    """A normal image that does not look like the others.

    differs: in what. score: how unusual its most unusual patches are; 1 is as unusual as the
    patches like them.
    next_score: the highest score of an image that is not suspect.
    """

    name: str
    differs: Modality
    score: float
    next_score: float

    @property
    def picture(self) -> Path:
        """Of the image and where it differs, relative to the run folder."""
        return Path(PICTURES) / f"{self.name.replace('/', '-')}.png"

    def sentence(self) -> str:
        """Which image, in what, and how far it is from the others."""
        return (
            f"{self.name} differs from the others in {self.differs}: score {self.score:.3g}, the"
            f" next image {self.next_score:.3g}"
        )


@dataclass(frozen=True, eq=False)
class Search:
    """What was found among n images.

    suspects: the highest score first, those that differ in color before those that differ in height
    only.
    maps: of each modality, by image: (h, w) how unusual each patch is, 0 where nothing is compared.
    """

    images: int
    suspects: list[Suspect]
    maps: dict[Modality, dict[str, NDArray[np.float32]]]


Describe = Callable[[Prepared], Tensor]


def find_suspects(scene: Scene, samples: Sequence[Sample]) -> Search:
    """Compare every image with others, in constant memory and about 0.1 s an image on one core.

    Args:
        samples: all normal images, those that train and those that validate.
    Raises: DataError for an image that cannot be read.
    """
    if len(samples) < LEAST_IMAGES:
        return Search(len(samples), [], {})
    height, width = scene.crop[3], scene.crop[2]
    color = working_size(height, width)
    depth = (color[0] // 2, color[1] // 2) if scene.with_depth else None
    preprocess = Preprocess(height, width, color, depth)
    with torch.random.fork_rng(
        devices=[]
    ):  # a network starts at random values, even if weights replace them
        trunk = build_trunk(LITE0, None)
    described: dict[Modality, Describe] = {
        "color": lambda prepared: color_features(trunk(prepared.color))
    }
    if scene.with_depth:
        described["height"] = height_features
    found = _unusual(_Images(scene, preprocess, samples), described)
    maps = {
        modality: dict(zip((s.name for s in samples), ones, strict=True))
        for modality, ones in found.items()
    }
    suspects: dict[str, Suspect] = {}
    for modality, by_name in maps.items():
        suspects = {suspect.name: suspect for suspect in _suspects(modality, by_name)} | suspects
    order = sorted(
        suspects.values(), key=lambda suspect: (suspect.differs != "color", -suspect.score)
    )
    return Search(len(samples), order, maps)


def suspect_lines(search: Search, folder: Path) -> list[str]:
    """For the terminal: each suspect with its picture, and what to do; empty without any.

    folder: of the run.
    """
    if search.images < LEAST_IMAGES:
        return [
            f"{search.images} normal images are too few to tell whether one of them is a defect: "
            f"at least {LEAST_IMAGES} are compared with each other"
        ]
    if not search.suspects:
        return []
    found = [
        f"suspect among the normal images: {suspect.sentence()} (picture:"
        f" {folder / suspect.picture})"
        for suspect in search.suspects
    ]
    return [
        *found,
        f"{len(found)} of {search.images} normal images do not look like the rest. {WHAT_TO_DO}",
    ]


def reminder_lines(suspects: Sequence[Suspect], folder: Path) -> list[str]:
    """The same in one line, for the end of a training; empty without any. folder: of the run."""
    names = ", ".join(suspect.name for suspect in suspects)
    return (
        [f"suspect among the normal images: {names}: look at {folder / PICTURES}"]
        if suspects
        else []
    )


def stand_apart(scores: NDArray[np.float64]) -> list[int]:
    """Indices of the scores that are too high for the others, highest first.

    The generalized ESD test, upper side, with a chance of ALARMS, on logarithms. Of its answers
    only those stand that a gap of GAP separates from the rest, and at most MOST_SHARE of the
    scores: a long tail is no separate group.

    Args:
        scores: (n,), not negative.
    """
    n = len(scores)
    order = np.argsort(-scores, kind="stable")
    logs = np.log(np.maximum(scores[order], np.finfo(np.float32).tiny))
    found = 0
    for taken in range(int(MOST_SHARE * n) if n >= LEAST_IMAGES else 0):
        rest, below = logs[taken:], logs[taken + 1 :]
        deviation = float(rest.std(ddof=1))
        gap = float(rest[0] - below[0])
        if (
            gap >= GAP * float(below[0] - np.median(below))
            and rest[0] - rest.mean() > _critical(len(rest)) * deviation
        ):
            found = taken + 1
    return [int(index) for index in order[:found]]


def _critical(n: int) -> float:
    """Deviations from the mean that the highest of n normally distributed values exceeds with a
    chance of ALARMS.
    """
    t = float(stats.t.ppf(1 - ALARMS / n, n - 2))
    return (n - 1) * t / math.sqrt((n - 2 + t * t) * n)


def color_features(levels: Sequence[Tensor]) -> Tensor:
    """Features of the frozen backbone at 1/8 and 1/16 of the image -> (N, C, h, w) at 1/8, averaged
    over 3x3.
    """
    fine, coarse = levels
    fine = functional.avg_pool2d(fine, 3, stride=1, padding=1, count_include_pad=False)
    size = (fine.shape[2], fine.shape[3])
    return torch.cat(
        [fine, functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)],
        dim=1,
    )


def height_features(prepared: Prepared) -> Tensor:
    """The height's shape around each patch, the same however the part is turned: (N, 10, h, w).

    Differences between averages of rising scale, the average height, slopes, and how much
    foreground is near.
    """
    assert prepared.height is not None  # only asked for with depth
    foreground = prepared.foreground
    near = [_average(foreground, scale) for scale in SCALES]
    levels = [
        _average(prepared.height, scale) / share.clamp(min=0.05)
        for scale, share in zip(SCALES, near, strict=True)
    ]
    bands = [finer - coarser for finer, coarser in pairwise(levels)]
    slopes = [_slope(level) for level in levels[:3]]
    shape = torch.cat([*bands, levels[1], *slopes, *near[1:]], dim=1) * foreground
    share = functional.avg_pool2d(foreground, CELLS).clamp(min=0.05)
    return functional.avg_pool2d(shape, CELLS) / share


def _average(image: Tensor, scale: float) -> Tensor:
    """(N, 1, h, w) averaged with Gaussian weights of standard deviation `scale`, zeros outside."""
    reach = math.ceil(2.5 * scale)
    weights = torch.exp(
        -(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * scale * scale)
    )
    weights = weights / weights.sum()
    across = functional.conv2d(image, weights.view(1, 1, 1, -1), padding=(0, reach))
    return functional.conv2d(across, weights.view(1, 1, -1, 1), padding=(reach, 0))


def _slope(image: Tensor) -> Tensor:
    """(N, 1, h, w) length of the gradient, 0 at the rim."""
    across = functional.pad(image[..., 2:] - image[..., :-2], (1, 1, 0, 0))
    down = functional.pad(image[:, :, 2:] - image[:, :, :-2], (0, 0, 1, 1))
    return (across * across + down * down).sqrt()


@dataclass(frozen=True, eq=False)
class _Images:
    """The images as the search sees them, read one at a time."""

    scene: Scene
    preprocess: Preprocess
    samples: Sequence[Sample]

    def read(self, number: int) -> Prepared:
        return prepare(self.preprocess, self.scene.feeds_of(self.samples[number]))

    def others(self) -> list[int]:
        """The images that all are compared with, evenly spread."""
        count = len(self.samples)
        most = min(MOST_OTHERS, max(LEAST_OTHERS, MOST_PAIRS // count))
        return spread(range(count), most)


class _Comparison:
    """One modality: images added first are what every image is compared with."""

    def __init__(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        """features: (C, h, w) of each of the M others. masks: (h, w) bool of each."""
        rows = torch.cat([_rows(one, mask) for one, mask in zip(features, masks, strict=True)])
        self.mean, self.deviation = rows.mean(dim=0), rows.std(dim=0).clamp(min=1e-9)
        scaled = (rows - self.mean) / self.deviation
        _, axes = torch.linalg.eigh(scaled.T @ scaled)
        self.axes = axes[:, -CHANNELS:]
        self.banks = [self.project(one, mask) for one, mask in zip(features, masks, strict=True)]
        kept = [self._distances(bank, skip=number) for number, bank in enumerate(self.banks)]
        self.own = [distance for distance, _, _ in kept]
        self.least = max(
            LEAST_LOCAL * float(torch.cat(self.own).median()), float(np.finfo(np.float32).tiny)
        )
        self.known = [self._relative(*one) for one in kept]

    def project(self, features: Tensor, mask: Tensor) -> Tensor:
        """(C, h, w) -> (P, CHANNELS), the patches in the mask."""
        return cast(Tensor, ((_rows(features, mask) - self.mean) / self.deviation) @ self.axes)

    def unusual(self, patches: Tensor) -> Tensor:
        """(P,) how unusual the patches of an image are that is not one of the others."""
        return self._relative(*self._distances(patches))

    def _distances(
        self, patches: Tensor, skip: int | None = None
    ) -> tuple[Tensor, list[int], Tensor]:
        """((P,) distances, the M others compared with, (M, P) the nearest patch of each).

        skip: not this other.
        """
        compared = [number for number in range(len(self.banks)) if number != skip]
        squares = (patches * patches).sum(dim=1)
        nearest = []
        for number in compared:
            bank = self.banks[number]
            partial = torch.addmm(
                (bank * bank).sum(dim=1)[None], patches, bank.T, alpha=-2
            )  # (P, rows of the bank)
            nearest.append(partial.min(dim=1))
        distances = torch.stack([values for values, _ in nearest]) + squares  # (M, P), squared
        m = max(1, math.ceil(MOST_SHARE * len(compared)))
        distance = distances.kthvalue(m, dim=0).values.clamp(min=0).sqrt()
        return distance, compared, torch.stack([rows for _, rows in nearest])

    def _relative(self, distance: Tensor, compared: list[int], nearest: Tensor) -> Tensor:
        """(P,) the distances relative to those of the patches that are nearest, the median over the
        others.
        """
        local = torch.stack(
            [self.own[number][rows] for number, rows in zip(compared, nearest, strict=True)]
        )
        return distance / local.median(dim=0).values.clamp(min=self.least)


@torch.no_grad()
def _unusual(
    images: _Images, described: dict[Modality, Describe]
) -> dict[Modality, list[NDArray[np.float32]]]:
    """Of every modality and image: (h, w) how unusual each patch is, 0 where nothing is
    compared.
    """
    others = images.others()
    first: dict[Modality, list[Tensor]] = {modality: [] for modality in described}
    masks: list[Tensor] = []
    for number in others:
        prepared = images.read(number)
        features = {modality: describe(prepared)[0] for modality, describe in described.items()}
        masks.append(_mask(prepared, next(iter(features.values()))))
        for modality, one in features.items():
            first[modality].append(one)
    comparisons = {modality: _Comparison(features, masks) for modality, features in first.items()}
    maps: dict[Modality, list[NDArray[np.float32]]] = {modality: [] for modality in described}
    place_of = {number: place for place, number in enumerate(others)}
    for number in range(len(images.samples)):
        if number in place_of:
            place = place_of[number]
            for modality, comparison in comparisons.items():
                maps[modality].append(_spread_out(comparison.known[place], masks[place]))
            continue
        prepared = images.read(number)
        features = {modality: describe(prepared)[0] for modality, describe in described.items()}
        mask = _mask(prepared, next(iter(features.values())))
        for modality, comparison in comparisons.items():
            values = comparison.unusual(comparison.project(features[modality], mask))
            maps[modality].append(_spread_out(values, mask))
    return maps


def _mask(prepared: Prepared, features: Tensor) -> Tensor:
    """(h, w) bool: the patches of the part; all of them where no part stands above the
    background.
    """
    size = (features.shape[1], features.shape[2])
    mask = functional.adaptive_avg_pool2d(prepared.foreground, size)[0, 0] > FOREGROUND
    return mask if bool(mask.any()) else torch.ones_like(mask)


def _rows(features: Tensor, mask: Tensor) -> Tensor:
    """(C, h, w) -> (P, C), the patches in the mask."""
    return features.permute(1, 2, 0)[mask]


def _spread_out(values: Tensor, mask: Tensor) -> NDArray[np.float32]:
    """(P,) back to (h, w)."""
    whole = torch.zeros(mask.shape)
    whole[mask] = values
    return np.asarray(whole.numpy(), np.float32)


def _score(unusual: NDArray[np.float32]) -> float:
    """Of one map: the mean of the TOP_SHARE most unusual of its patches."""
    values = np.sort(unusual[unusual > 0])[::-1]
    return float(values[: max(1, round(TOP_SHARE * len(values)))].mean()) if len(values) else 0.0


def _suspects(modality: Modality, maps: Mapping[str, NDArray[np.float32]]) -> list[Suspect]:
    """The images whose maps score too high for the others."""
    names, scores = list(maps), np.array([_score(one) for one in maps.values()])
    found = stand_apart(scores)
    next_score = float(np.delete(scores, found).max())
    return [
        Suspect(
            name=names[index], differs=modality, score=float(scores[index]), next_score=next_score
        )
        for index in found
    ]
