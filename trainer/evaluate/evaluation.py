"""Judge images with a trained run, through the same deployed graph as the device's, one image at a
time.

Where no image is defective, synthetic defects on good parts stand in: shown and counted, never
called an AUROC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import OperatingPoint
from edge.errors import DataError
from edge.frames.dataset import Sample
from trainer.data.choose import spread
from trainer.evaluate.judged import Judged
from trainer.evaluate.report import KnownDefect
from trainer.metrics import Figures, figures
from trainer.synthetic.on_frames import draw_defect, part_of
from trainer.synthetic.scene_defects import Group
from trainer.train.defect_scores import DRAWN_PARTS, REAL, STRENGTHS, DefectScores
from trainer.train.operating_points import suggestion
from trainer.train.run_info import RunInfo
from trainer.train.trained_run import TrainedRun

Feeds = Mapping[str, NDArray[Any]]
Runner = Callable[[Feeds], Mapping[str, NDArray[np.float32]]]
"""Graph inputs by name -> outputs by name: torch's deployed graph, or an engine."""

GROUPS: tuple[str, ...] = get_args(Group)
SYNTHETIC = "synthetic "  # and the strength: the defect type of an image that a defect was drawn on
NO_DEFECT = "no defective part was given: "
SYNTHETIC_ONES = (
    "{} synthetic defects, drawn on good parts from faint to strong, stand in; how many of them are"
    " found does not tell how your own defects are found"
)
NONE_PASSES = "as every good part is rejected, no synthetic defect was drawn in their place"


@dataclass(frozen=True)
class JudgedImage:
    """One image to judge: a sample as it is, or with a synthetic defect on it.

    strength: of the synthetic defect, a name of STRENGTHS; None without one. seed: of the drawing.
    """

    sample: Sample
    strength: str | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """Unique."""
        return (
            self.sample.name if self.strength is None else f"{self.sample.name} + {self.strength}"
        )

    @property
    def defect(self) -> str:
        """Its type, or "good"."""
        return (
            SYNTHETIC + self.strength if self.strength is not None else self.sample.defect or "good"
        )

    def shown(self, run: TrainedRun) -> tuple[Feeds, NDArray[np.bool_] | None]:
        """Graph inputs, and the mask (H, W) of the crop: all False for a good part, None where
        nobody drew one.

        Raises: DataError if a file cannot be read or does not fit the run.
        """
        feeds = run.feeds(self.sample)
        if self.strength is not None:
            drawn = draw_defect(
                feeds, part_of(run.deployed, feeds), STRENGTHS[self.strength], self.seed
            )
            return drawn.feeds, drawn.mask
        x, y, width, height = run.info.crop
        if self.defect == "good":
            return feeds, np.zeros((height, width), np.bool_)
        mask = self.sample.load_mask()
        return feeds, None if mask is None else mask[y : y + height, x : x + width]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a run says of n images.

    labels: (n,) True = defective, really or synthetically. scores: (n,) float32 raw. maps: (n, h,
    w) float32 raw.
    truths: as JudgedImage.shown gives them. threshold: of the run. rows: figures per defect type,
    all NaN unless good and really defective parts are there; "all" last where defects are real.
    groups: per group of a synthetic product's defects. notes: sentences for whoever reads the
    result.
    """

    images: list[JudgedImage]
    labels: NDArray[np.bool_]
    scores: NDArray[np.float32]
    maps: NDArray[np.float32]
    truths: list[NDArray[np.bool_] | None]
    threshold: float
    rows: list[Figures]
    groups: list[Figures]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of the n images."""
        return [image.name for image in self.images]

    @property
    def defects(self) -> list[str]:
        """Types of the n images."""
        return [image.defect for image in self.images]

    @property
    def rejected(self) -> NDArray[np.bool_]:
        """(n,) which images the threshold calls NG, compared as the device does it: in float32."""
        return np.asarray(self.scores > np.float32(self.threshold))

    @property
    def is_good_only(self) -> bool:
        """Whether no part is defective: what defects there are, are synthetic."""
        return not any(image.sample.is_defective for image in self.images)

    @property
    def is_comparison(self) -> bool:
        """Whether good and really defective parts are there: only then figures of separation mean
        something.
        """
        return not self.is_good_only and not self.labels.all()

    @property
    def overall(self) -> Figures:
        """The row of all images; NaN where nothing is compared."""
        return self.rows[-1] if self.is_comparison else _uncompared("all", self.labels)


def evaluate_run(run: TrainedRun, judged: Judged, runner: Runner | None = None) -> Evaluation:
    """Judge every image, and where none is defective, synthetic defects on up to DRAWN_PARTS good
    parts.

    runner: None is float32 torch. Raises: DataError if an image cannot be read or does not fit the
    run.
    """
    run_graph = runner or run.deployed.run
    images = [JudgedImage(sample) for sample in judged.samples]
    answers = [_answer(run, run_graph, image) for image in images]
    notes = judged.notes
    if not judged.defective:
        drawn = _synthetic(images, answers, run.info.threshold.value)
        notes = (*notes, NO_DEFECT + (SYNTHETIC_ONES.format(len(drawn)) if drawn else NONE_PASSES))
        answers += [_answer(run, run_graph, image) for image in drawn]
        images += drawn
    return _evaluation(run, judged, images, answers, notes)


@dataclass(frozen=True, eq=False)
class _Answer:
    score: float
    map: NDArray[np.float32]
    truth: NDArray[np.bool_] | None


def _answer(run: TrainedRun, run_graph: Runner, image: JudgedImage) -> _Answer:
    feeds, truth = image.shown(run)
    out = run_graph(feeds)
    return _Answer(float(out["score"].reshape(-1)[0]), out["map"][0, 0], truth)


def _synthetic(
    images: Sequence[JudgedImage], answers: Sequence[_Answer], threshold: float
) -> list[JudgedImage]:
    """A defect of every strength on parts that pass; on one that is rejected anyway it would count
    as found.
    """
    passed = [
        image for image, answer in zip(images, answers, strict=True)
        if np.float32(answer.score) <= np.float32(threshold)
    ]  # fmt: skip
    chosen = spread(passed, DRAWN_PARTS)
    return [
        JudgedImage(image.sample, strength, seed)
        for strength in STRENGTHS
        for seed, image in enumerate(chosen)
    ]


def _evaluation(
    run: TrainedRun,
    judged: Judged,
    images: list[JudgedImage],
    answers: Sequence[_Answer],
    notes: tuple[str, ...],
) -> Evaluation:
    defects = [image.defect for image in images]
    labels = np.array([defect != "good" for defect in defects], bool)
    scores = np.array([answer.score for answer in answers], np.float32)
    maps = np.stack([answer.map for answer in answers]).astype(np.float32)
    truths = [answer.truth for answer in answers]
    rows, groups = _uncompared_rows(images, labels), []
    if judged.good and judged.defective:
        group_of = {drawn.name: drawn.group for drawn in known_defects(judged.dataset.root)}
        rows = _rows(defects, labels, scores, maps, truths)
        groups = _groups(
            [group_of.get(image.name, "") for image in images], labels, scores, maps, truths
        )
    return Evaluation(
        images, labels, scores, maps, truths, run.info.threshold.value, rows, groups, notes
    )


def operating_points_of(
    info: RunInfo, judged: Judged, evaluation: Evaluation
) -> tuple[list[OperatingPoint], str | None]:
    """The run's operating points with the defects of this evaluation, and what real ones would
    suggest.
    """
    points = info.operating_points(_defect_scores(evaluation) if evaluation.labels.any() else None)
    good = evaluation.scores[~evaluation.labels]
    estimates = len(good) > 0 and not judged.stand_in
    return points, suggestion(points, info.threshold.rank, good if estimates else None)


def _defect_scores(evaluation: Evaluation) -> DefectScores:
    found: dict[str, list[float]] = {}
    for image, label, score in zip(
        evaluation.images, evaluation.labels, evaluation.scores, strict=True
    ):
        if label:
            found.setdefault(image.strength or REAL, []).append(float(score))
    groups = {name: tuple(scores) for name, scores in found.items()}
    return DefectScores(kind="synthetic" if evaluation.is_good_only else "real", groups=groups)


# --- rows
# --------------------------------------------------------------------------------------------------


def _uncompared(name: str, chosen: NDArray[np.bool_]) -> Figures:
    """A row that only counts. chosen: which of the images are of it."""
    nan = float("nan")
    return Figures(name, 0, int(chosen.sum()), nan, nan, nan, nan, nan)


def _uncompared_rows(images: Sequence[JudgedImage], labels: NDArray[np.bool_]) -> list[Figures]:
    """A row per defect type, and where parts are really defective "all"."""
    kinds = np.array([image.defect for image in images])
    types = list(dict.fromkeys(kinds[labels].tolist()))
    rows = [_uncompared(kind, kinds == kind) for kind in types]
    really = any(image.sample.is_defective for image in images)
    return [*rows, _uncompared("all", labels)] if really else rows


def _subset(
    name: str,
    chosen: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    scores: NDArray[np.float32],
    maps: NDArray[np.float32],
    truths: Sequence[NDArray[np.bool_] | None],
) -> Figures:
    numbers = np.flatnonzero(chosen).tolist()
    return figures(
        name,
        labels[numbers],
        scores[numbers],
        [maps[i] for i in numbers],
        [truths[i] for i in numbers],
    )


def _rows(
    defects: Sequence[str],
    labels: NDArray[np.bool_],
    scores: NDArray[np.float32],
    maps: NDArray[np.float32],
    truths: Sequence[NDArray[np.bool_] | None],
) -> list[Figures]:
    """One row per defect type, each with all good parts, and "all"."""
    kinds = np.array(defects)
    types = sorted({kind for kind, label in zip(defects, labels, strict=True) if label})
    rows = [
        _subset(kind, (kinds == kind) | ~labels, labels, scores, maps, truths) for kind in types
    ]
    return [*rows, _subset("all", np.ones(len(labels), bool), labels, scores, maps, truths)]


def _groups(
    groups: Sequence[str],
    labels: NDArray[np.bool_],
    scores: NDArray[np.float32],
    maps: NDArray[np.float32],
    truths: Sequence[NDArray[np.bool_] | None],
) -> list[Figures]:
    """One row per group of drawn defects that occurs."""
    named = np.array(groups)
    return [
        _subset(group, (named == group) | ~labels, labels, scores, maps, truths)
        for group in GROUPS
        if (named[labels] == group).any()
    ]


def known_defects(root: Path) -> list[KnownDefect]:
    """defects.json of a synthetic product; empty elsewhere. Raises: DataError if it is damaged."""
    path = root / "defects.json"
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [
            KnownDefect(
                entry["name"],
                entry["group"],
                entry["defect"],
                entry["area_share"],
                entry.get("height_sigma"),
            )
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not what `trainer synthesize` writes ({error}): make the product again"
        ) from error


def last_line(evaluation: Evaluation, guarantee: str) -> str:
    """The line that ends `trainer evaluate`, in percent.

    guarantee: of the run's threshold, in a sentence.
    """
    at = f"threshold {evaluation.threshold:.6g}"
    if evaluation.is_good_only:
        good = evaluation.rejected[~evaluation.labels]
        return f"good parts only: {int(good.sum())} of {len(good)} rejected; {at}: {guarantee}"
    if not evaluation.is_comparison:
        return (
            f"defective parts only: {int(evaluation.rejected.sum())} of {len(evaluation.images)}"
            f" found; {at}"
        )
    overall = evaluation.overall
    values = (overall.image_auroc, overall.pixel_auroc, overall.aupro_30)
    image, pixel, region = ("-" if np.isnan(value) else f"{100 * value:.1f}" for value in values)
    return f"mean I-AUROC {image} P-AUROC {pixel} AUPRO {region}"
