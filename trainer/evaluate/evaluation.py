"""Judge images with a trained run, through the same deployed graph as the device's, one image at a
time.

Where no image is defective, synthetic defects on good parts stand in: they are shown and counted,
never called an AUROC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.choose import spread
from trainer.evaluate.images import JudgedImage, Runner, ShownImage, judge
from trainer.evaluate.judged import Judged
from trainer.evaluate.judgments import judgments_of, reasons_of
from trainer.evaluate.known_defects import known_defects
from trainer.evaluate.report.model import Judgment
from trainer.evaluate.rows import ALL, compared_rows, counted, counted_rows, group_rows
from trainer.metrics import Metrics
from trainer.progress import progress
from trainer.train.defect_scores import DRAWN_PARTS, STRENGTHS
from trainer.train.trained_run import TrainedRun

NO_DEFECT = "no defective part was given: "
SYNTHETIC_ONES = (
    "{} synthetic defects on good parts, from faint to strong, stand in; how many of them are found"
    " does not tell how your own defects are found"
)
NONE_PASSES = "as every good part is rejected, no synthetic defect was put on one in their place"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a run says of n images.

    images: n, the synthetic ones last. threshold: of the run. rows: metrics per defect type, all
    NaN unless good and really defective parts are there; "all" last where defects are real.
    groups: per group of a synthetic product's defects. notes: sentences for the reader of the
    result. usual: the median score of the run's normal validation parts.
    """

    images: list[JudgedImage]
    threshold: float
    rows: list[Metrics]
    groups: list[Metrics]
    notes: tuple[str, ...] = ()
    usual: float = float("nan")

    def reasons(self, image: JudgedImage) -> tuple[str, ...]:
        """Which judgments make an image NG (trainer.evaluate.judgments)."""
        return reasons_of(image, self.threshold, self.usual)

    @property
    def judgments(self) -> list[Judgment]:
        """What each of several judgments finds; empty where there is the detector's alone."""
        return judgments_of(self.images, self.threshold, self.usual)

    @property
    def names(self) -> list[str]:
        """Of the n images."""
        return [image.name for image in self.images]

    @property
    def defects(self) -> list[str]:
        """Types of the n images."""
        return [image.defect for image in self.images]

    @property
    def labels(self) -> NDArray[np.bool_]:
        """(n,) True = defective, really or synthetically."""
        return np.array([image.is_defective for image in self.images], bool)

    @property
    def scores(self) -> NDArray[np.float32]:
        """(n,) raw."""
        return np.array([image.score for image in self.images], np.float32)

    @property
    def maps(self) -> NDArray[np.float32]:
        """(n, h, w) raw."""
        return np.stack([image.map for image in self.images])

    @property
    def rejected(self) -> NDArray[np.bool_]:
        """(n,) which images the threshold calls NG."""
        return np.array([image.is_rejected(self.threshold) for image in self.images], bool)

    @property
    def is_good_only(self) -> bool:
        """Whether no part is really defective: what defects there are, are synthetic."""
        return not any(image.shown.sample.is_defective for image in self.images)

    @property
    def is_comparison(self) -> bool:
        """Whether good and really defective parts are there: only then is there
        something to compare.
        """
        return not self.is_good_only and not self.labels.all()

    @property
    def overall(self) -> Metrics:
        """The row of all images; NaN where nothing is compared."""
        return self.rows[-1] if self.is_comparison else counted(ALL, self.images)


def evaluate_run(run: TrainedRun, judged: Judged, runner: Runner | None = None) -> Evaluation:
    """Judge every image, and where none is defective, synthetic defects on up to DRAWN_PARTS good
    parts.

    runner: None is float32 torch. Raises: DataError if an image cannot be read or does not fit the
    run.
    """
    threshold = run.info.threshold.value

    def answers(shown: Sequence[ShownImage], what: str) -> list[JudgedImage]:
        return [judge(run, runner, image) for image in progress(shown, what)]

    images = answers([ShownImage(sample) for sample in judged.samples], "judging images")
    notes = judged.notes
    if not judged.defective:
        synthetic = answers(_synthetic(images, threshold), "judging synthetic defects")
        stand_in = SYNTHETIC_ONES.format(len(synthetic)) if synthetic else NONE_PASSES
        notes = (*notes, NO_DEFECT + stand_in)
        images += synthetic
    rows, groups = counted_rows(images, bool(judged.defective)), []
    if judged.good and judged.defective:
        of_product = known_defects(judged.dataset.root)
        rows = compared_rows(images)
        groups = group_rows(images, {defect.name: defect.group for defect in of_product})
    usual = float(np.median(run.info.normal_scores))
    return Evaluation(images, threshold, rows, groups, notes, usual)


def _synthetic(images: Sequence[JudgedImage], threshold: float) -> list[ShownImage]:
    """A defect of every strength on parts that pass: on a part that is rejected without one it
    would count as found.
    """
    passed = [image for image in images if not image.is_rejected(threshold)]
    chosen = spread(passed, DRAWN_PARTS)
    return [
        ShownImage(image.shown.sample, strength, seed)
        for strength in STRENGTHS
        for seed, image in enumerate(chosen)
    ]


def last_line(evaluation: Evaluation, guarantee: str) -> str:
    """The line that ends `trainer evaluate`, in percent.

    guarantee: of the run's threshold, in a sentence.
    """
    at = f"Threshold {evaluation.threshold:.4g}"
    if evaluation.is_good_only:
        good = evaluation.rejected[~evaluation.labels]
        return f"Good parts only: {int(good.sum())} of {len(good)} rejected. {at}. {guarantee}"
    if not evaluation.is_comparison:
        return (
            f"Defective parts only: {int(evaluation.rejected.sum())} of {len(evaluation.images)}"
            f" found. {at}"
        )
    overall = evaluation.overall
    values = (overall.image_auroc, overall.pixel_auroc, overall.aupro_30)
    image, pixel, region = ("-" if np.isnan(value) else f"{100 * value:.1f}" for value in values)
    return f"mean I-AUROC {image} P-AUROC {pixel} AUPRO {region}"
