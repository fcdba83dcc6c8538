"""Calibration with a few normal parts: from what a station sees of them to a threshold, site inputs
and their evidence.

Parts are shown one after the other (`PartsSession.show`), each once; what they prove is found when
all have been shown (`PartsSession.finish`), and again at once if some of them are left out. Nothing
is saved here but the picture of a part that is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from calibration.adapt import Adaptable, PartFeatures, Tensors, features_of, find_adaptable
from calibration.pictures import picture_of
from calibration.plausible import Implausible, find_defective, find_implausible
from calibration.repeated import Look, find_same, look_of
from calibration.shown_parts import (
    PartRefused,
    Sight,
    best_sight,
    find_obstacle,
    judged_of,
    next_of,
    remedy_of,
)
from calibration.site_threshold import SiteThreshold, TrainerScores, site_threshold
from calibration.station import CalibrationStation
from edge.bundle.manifest import Manifest
from edge.decide.aggregate import COMBINE
from edge.errors import CalibrationError
from edge.runtime.pipeline import SiteState
from edge.types import Frame

LEAST_PARTS = 3
FRAMES_OF_A_PART = 15  # kept of each part, so that many parts fit in memory


@dataclass(frozen=True, eq=False)
class ShownPart:
    """One part that was shown.

    number: in the order shown, from 1. windows: cropped frames that its score is measured on.
    sight: the frame that shows it best. picture: JPEG of it. features: where the bundle can be
    adapted.
    """

    number: int
    windows: tuple[Frame, ...]
    sight: Sight
    picture: bytes
    look: Look | None
    features: PartFeatures | None = None


@dataclass(frozen=True, eq=False)
class Asked:
    """What the technician asked for.

    count: parts to show. false_rejects: 0..1. split: half of the parts fit, the other half prove.
    left_out: numbers of parts that are not normal. kept: of parts that are, although their score
    stands apart.
    """

    count: int
    false_rejects: float
    split: bool = False
    left_out: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class PartsResult:
    """What the parts prove.

    tensors: site inputs by graph input; empty where the threshold alone is calibrated. scored:
    numbers of the parts whose scores set the threshold, scores: (k,) float32 of them. fitted:
    numbers of the parts that fitted the site inputs.
    """

    threshold: SiteThreshold
    tensors: Tensors
    scored: tuple[int, ...]
    scores: NDArray[np.float32]
    fitted: tuple[int, ...]
    adaptable: Adaptable | None

    @property
    def is_proven(self) -> bool:
        """Whether the parts that set the threshold fitted nothing."""
        return not set(self.scored) & set(self.fitted)

    @property
    def channels(self) -> int:
        """How many were adapted by shift and scale; 0: the threshold alone is calibrated."""
        return 0 if self.adaptable is None else self.adaptable.channels

    @property
    def spare_rows(self) -> int:
        """How many rows the memory banks were given."""
        valid = self.tensors.get("spare_valid")
        return 0 if valid is None else int(valid.sum())


class PartsSession:
    """One calibration with parts. Used from one thread."""

    def __init__(
        self,
        station: CalibrationStation,
        manifest: Manifest,
        site: SiteState,
        aggregate: str,
        asked: Asked,
        keep_refused: Callable[[bytes], Path],
    ) -> None:
        """
        Args:
            manifest: of the bundle that is calibrated. site: of the station's camera, for pictures.
            aggregate: how the scores of a part's frames become one, as in station.toml.
            keep_refused: keeps the JPEG of a part that is refused and returns where.
        """
        self._station, self._site, self._asked = station, site, asked
        self._combine, self._keep_refused = COMBINE[aggregate], keep_refused
        self._adaptable = find_adaptable(manifest)
        self.trainer = TrainerScores.of(manifest.normal_scores[station.precision])
        self.shown: list[ShownPart] = []
        self.kept = asked.kept  # numbers of parts whose scores may stand apart
        require_possible(asked)

    @property
    def judged_by(self) -> float:
        """The threshold that judged the parts while they were shown; NaN before the first."""
        threshold = self.shown[0].sight.judgment.threshold if self.shown else None
        return math.nan if threshold is None else float(threshold)

    def show(self) -> ShownPart:
        """Wait for the next part, and take it in.

        Raises: CalibrationError if none comes; PartRefused if it is not seen as one whole part with
            enough depth, or was shown before; CameraError, EngineError.
        """
        part = next_of(self._station, len(self.shown), self._asked.count)
        number = len(self.shown) + 1
        is_used = number not in self._asked.left_out
        obstacle = find_obstacle(part) if is_used else None
        if obstacle is not None:
            middle = part.frames[len(part.frames) // 2]
            self._refuse(middle, [number], obstacle.value, f"{remedy_of(obstacle)}, and repeat")
        sights = judged_of(part) or [part.frames[0]]
        best = best_sight(part) if judged_of(part) else sights[0]
        look = look_of(sights) if is_used else None
        same = find_same(look, [one.look for one in self.shown])
        if same is not None:
            self._refuse(
                best,
                [number, same + 1],
                "repeated",
                f"it is part {same + 1} again, the same picture at the same place: take each part"
                " away before the next, show each once, and repeat",
            )
        kept = thinned(sights)
        features = self._features(kept) if is_used else None
        picture = picture_of(best, self._site, f"part {number}")
        self.shown.append(ShownPart(number, kept, best, picture, look, features))
        return self.shown[-1]

    def finish(self, left_out: Collection[int] = (), kept: Collection[int] = ()) -> PartsResult:
        """What the parts that were shown prove.

        left_out, kept: numbers of parts, besides those that were asked for.
        Raises: CalibrationError if too few are left; PartRefused if some look defective, or none
            look like this product; EngineError.
        """
        out = {*self._asked.left_out, *left_out}
        self.kept = tuple(sorted({*self._asked.kept, *kept}))
        normal = [part for part in self.shown if part.number not in out]
        least = least_parts(self._asked.split)
        if len(normal) < least:
            raise CalibrationError(
                f"{len(normal)} normal parts are left, at least {least} are needed: show more"
            )
        fit, scored = self._roles(normal)
        tensors = {} if self._adaptable is None else self._adaptable.fit(_features_of(fit))
        if scored is fit:
            scores = self._left_out_scores(fit)
            self._require_normal(fit, scores)
        else:
            scores = self._scores(scored, [tensors] * len(scored))
            of_fit = self._left_out_scores(fit) if fit else np.zeros(0, np.float32)
            self._require_normal([*scored, *fit], np.concatenate([scores, of_fit]))
        own = site_threshold(scores, self.trainer, self._asked.false_rejects)
        return PartsResult(
            own,
            tensors,
            tuple(part.number for part in scored),
            scores,
            tuple(part.number for part in fit),
            self._adaptable,
        )

    def _roles(
        self, normal: Sequence[ShownPart]
    ) -> tuple[Sequence[ShownPart], Sequence[ShownPart]]:
        """(parts that fit the site inputs, parts whose scores set the threshold)."""
        if self._adaptable is None:
            return [], normal
        return (normal[::2], normal[1::2]) if self._asked.split else (normal, normal)

    def _left_out_scores(self, fit: Sequence[ShownPart]) -> NDArray[np.float32]:
        """(k,) the score of each part under what the others alone would have fitted."""
        assert self._adaptable is not None  # else nothing is fitted
        return self._scores(fit, list(self._adaptable.left_out(_features_of(fit))))

    def _scores(
        self, parts: Sequence[ShownPart], tensors: Sequence[Tensors]
    ) -> NDArray[np.float32]:
        """(k,) the score of each part under its own site inputs, as production combines its
        frames.
        """
        scores = []
        for part, inputs in zip(parts, tensors, strict=True):
            answers = self._station.score(part.windows, inputs, ("score",))
            each = np.array([np.float32(one["score"].item()) for one in answers], np.float32)
            scores.append(self._combine(each)[1])
        return np.array(scores, np.float32)

    def _features(self, windows: Sequence[Frame]) -> PartFeatures | None:
        if self._adaptable is None:
            return None
        with_rows = self._adaptable.spare > 0
        wanted = ("moments", "features", "map") if with_rows else ("moments",)
        return features_of(self._station.score(windows, {}, wanted), with_rows)

    def _require_normal(self, scored: Sequence[ShownPart], scores: NDArray[np.float32]) -> None:
        """Raises: PartRefused, with the picture, for parts that are not normal parts of this
        product.
        """
        defective = [
            scored[index]
            for index in find_defective(scores, self.trainer)
            if scored[index].number not in self.kept
        ]
        if defective:
            self._refuse_defective(defective, scored, scores)
        usual = np.flatnonzero([part.number not in self.kept for part in scored])
        implausible = find_implausible(scores[usual], self.trainer) if len(usual) else None
        if implausible is not None:
            middle = scored[int(usual[np.argsort(scores[usual])[len(usual) // 2]])]
            why = self._why_implausible(implausible)
            self._refuse(middle.sight, [middle.number], "implausible", why)

    def _refuse_defective(
        self,
        defective: Sequence[ShownPart],
        scored: Sequence[ShownPart],
        scores: NDArray[np.float32],
    ) -> NoReturn:
        of = {part.number: float(score) for part, score in zip(scored, scores, strict=True)}
        numbers = [part.number for part in defective]
        others = [score for number, score in of.items() if number not in numbers]
        also = f" (so does {_listed(numbers[1:])})" if len(numbers) > 1 else ""
        out = " ".join(f"--leave-out {number}" for number in sorted(numbers))
        self._refuse(
            defective[0].sight,
            numbers,
            "defective",
            f"it looks defective{also}, its score is {of[numbers[0]]:.4g}, the others have at most"
            f" {max(others):.4g}: take it out and repeat, or show the same parts again with {out};"
            f" if it is normal, with --keep {numbers[0]}",
        )

    def _why_implausible(self, found: Implausible) -> str:
        adapted = (
            "also after the features were brought back to where they were in training"
            if self._adaptable is not None
            else "and this bundle has no statistics of its channels to adapt it by: export it again"
        )
        what = (
            f"these parts score {found.ratio:.1f} times as high as normal parts in training"
            if found.too_high
            else f"their scores vary {found.ratio:.1f} times as much as those of normal parts in"
            " training"
        )
        return (
            f"{what}, {adapted}. Another product, or light, exposure or distance that this cannot"
            " correct: compare the picture with the training images, set it right and repeat, or"
            " train with images of this site"
        )

    def _refuse(self, sight: Sight, numbers: Sequence[int], why: str, sentence: str) -> NoReturn:
        picture = picture_of(sight, self._site, f"part {numbers[0]}, refused")
        path = self._keep_refused(picture)
        raise PartRefused(
            f"part {numbers[0]}: {sentence}. Its picture: {path}", why, numbers, picture
        )


def least_parts(split: bool) -> int:
    """How many parts a calibration needs: with `split` two to fit and two to prove."""
    return 4 if split else LEAST_PARTS


def require_possible(asked: Asked) -> None:
    """Raises: CalibrationError for numbers that no part will have, or too few parts."""
    beyond = [number for number in (*asked.left_out, *asked.kept) if number > asked.count]
    if beyond:
        raise CalibrationError(
            f"there is no part {beyond[0]} of {asked.count}: name the number that the refusal named"
        )
    if asked.count - len(set(asked.left_out)) < least_parts(asked.split):
        raise CalibrationError(
            f"{asked.count} parts with {len(set(asked.left_out))} left out are too few, at least"
            f" {least_parts(asked.split)} are needed: ask for a larger --count"
        )


def thinned(sights: Sequence[Sight]) -> tuple[Frame, ...]:
    """The crops of at most FRAMES_OF_A_PART frames, oldest first: with scores evenly spread from
    the lowest to the highest, so that median and highest stay what they are.
    """
    if len(sights) <= FRAMES_OF_A_PART:
        return tuple(one.window for one in sights)
    order = np.argsort([float(one.judgment.score or 0.0) for one in sights], kind="stable")
    taken = np.linspace(0, len(sights) - 1, FRAMES_OF_A_PART).round().astype(int)
    return tuple(sights[number].window for number in sorted(order[taken]))


def _features_of(parts: Sequence[ShownPart]) -> list[PartFeatures]:
    return [part.features for part in parts if part.features is not None]


def _listed(numbers: Sequence[int]) -> str:
    *first, last = (f"part {number}" for number in numbers)
    return f"{', '.join(first)} and {last}" if first else last
