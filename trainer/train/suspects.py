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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from edge.frames.sample import Sample
from edge.schema import Strict
from trainer.data.scene import Scene
from trainer.graph.preprocess import Preprocess, working_size
from trainer.layers.backbone import LITE0, build_trunk
from trainer.train.run_folder import SUSPECTS, picture_of
from trainer.train.suspect_features import color_features, height_features
from trainer.train.unusual import MOST_SHARE, Describe, Images, Modality, unusual_maps

LEAST_IMAGES = 6  # of fewer, no image can be told from the others
ALARMS = 5e-4  # rate of clean sets with an alarm, for each of color and height
GAP = 0.3  # to the next score, as a share of the next score's own distance from the median
TOP_SHARE = 0.01  # of the patches, the most unusual ones, make the score

WHAT_TO_DO = (
    "A defect among them teaches the detector to accept it: look, and move it to a defect folder,"
    " then train again"
)


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
        return picture_of(SUSPECTS, self.name)

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
    preprocess = Preprocess(height, width, color, depth, scene.speck)
    # a network starts at random values, even if weights replace them
    with torch.random.fork_rng(devices=[]):
        trunk = build_trunk(LITE0, None)
    described: dict[Modality, Describe] = {
        "color": lambda prepared: color_features(trunk(prepared.color))
    }
    if scene.with_depth:
        described["height"] = height_features
    found = unusual_maps(Images(scene, preprocess, samples), described)
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
        [f"suspect among the normal images: {names}: look at {folder / SUSPECTS}"]
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
