"""What a report is made from: results, and functions that return the pictures it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import OperatingPoint
from trainer.metrics import Metrics
from trainer.train.outliers import Outlier
from trainer.train.suspects import Suspect

State = Literal["ran on the target", "ran on a stand-in", "compiled only", "never executed"]


@dataclass(frozen=True)
class Claim:
    """One line of the table that says what was really executed.

    Attributes:
        what: the claim, for instance "float32 scores of this page".
        state: one of the four states a claim can have.
        note: where, on what, with what limits.
    """

    what: str
    state: State
    note: str = ""


@dataclass(frozen=True)
class KnownDefect:
    """What is known of the defect of a synthetic product.

    Attributes:
        name: the image's name, as in `ReportedImage.name`.
        group: "relief", "color", "both", "material" or "logical".
        kind: the defect's type.
        area_share: share of the part it covers, 0..1.
        height_sigma: height in standard deviations of the depth noise there; None or 0 for one
        without height.
    """

    name: str
    group: str
    kind: str
    area_share: float
    height_sigma: float | None = None


@dataclass(frozen=True)
class Judgment:
    """What one of several judgments finds.

    Attributes:
        name: "detector", or one that judges beside it: "outline", "heights".
        found: defective images, really or synthetically, that are NG for this reason.
        alone: those of them that are NG for no other reason.
        refused: good images that are NG for this reason.
    """

    name: str
    found: int
    alone: int
    refused: int


@dataclass(frozen=True)
class Choice:
    """What the threshold was chosen from.

    Attributes:
        guarantee: what it promises, in a sentence.
        points: the operating points, by rising rank.
        rank: of the chosen one.
        suggestion: what the real defects would choose, if that differs; they never move the
            threshold.
        outliers: normal validation parts whose score stands apart, the highest first, each with a
            picture, uint8 RGB (H, W, 3), or None where its file is gone.
    """

    guarantee: str
    points: Sequence[OperatingPoint]
    rank: int
    suggestion: str | None = None
    outliers: Sequence[tuple[Outlier, NDArray[np.uint8] | None]] = ()


@dataclass(frozen=True)
class Occasion:
    """Which run judged which folder, when, by which command.

    Attributes:
        run: the run folder, absolute.
        data: the folder that was judged, absolute.
        own: whether the run was trained on that folder.
        date: UTC, ISO 8601.
        command: as it was typed.
    """

    run: str
    data: str
    own: bool
    date: str
    command: str


@dataclass(frozen=True, eq=False)
class ReportedImage:
    """One judged image.

    Attributes:
        name: unique.
        defect: its type, "good" for a normal one.
        is_defective: really or synthetically.
        score: raw.
        map: raw anomaly map (h, w) float32.
        truth: mask (H, W) bool; all False for a normal image, None where the defect is not
            outlined.
        color: returns the image, uint8 RGB (H, W, 3), of its truth's size; called only for the few
            images that are shown.
        height: returns the height over the background, float32 meters, of any size with the image's
            aspect, 0 or less outside the part; None without depth.
        reasons: names of the judgments that make it NG.
    """

    name: str
    defect: str
    is_defective: bool
    score: float
    map: NDArray[np.float32]
    truth: NDArray[np.bool_] | None
    color: Callable[[], NDArray[np.uint8]]
    height: Callable[[], NDArray[np.float32]] | None = None
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """Everything the page shows.

    Attributes:
        product, system, preset: names, as typed at training.
        images: that were judged.
        threshold: a score above it is NG.
        rows: metrics per defect type, the row of all images last; NaN where nothing is compared.
        is_synthetic: whether the defective images are synthetic, because no part was defective:
            then nothing is compared.
        groups: metrics per group of defects (relief, color, both, material, logical), where known.
        curves: training loss per epoch, by the name of what was trained.
        known: what is known of the defects of a synthetic product.
        parameters: what the run was made with, as text.
        claims: what was executed where.
        choice: what the threshold was chosen from; None where it is not known.
        occasion: which run judged what; None where it is not known.
        notes: sentences that the reader needs first.
        suspects: normal images of the training that do not look like the others, each with a
            picture, uint8 RGB (H, W, 3), or None where its file is gone.
        judgments: what each of them finds; empty where the detector judges alone.
    """

    product: str
    system: str
    preset: str
    images: Sequence[ReportedImage]
    threshold: float
    rows: Sequence[Metrics]
    is_synthetic: bool = False
    groups: Sequence[Metrics] = ()
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    known: Sequence[KnownDefect] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    claims: Sequence[Claim] = ()
    choice: Choice | None = None
    occasion: Occasion | None = None
    notes: Sequence[str] = ()
    suspects: Sequence[tuple[Suspect, NDArray[np.uint8] | None]] = ()
    judgments: Sequence[Judgment] = ()

    @property
    def labels(self) -> NDArray[np.bool_]:
        """(n,) True = defective."""
        return np.array([image.is_defective for image in self.images], bool)

    @property
    def scores(self) -> NDArray[np.float32]:
        """(n,) raw."""
        return np.array([image.score for image in self.images], np.float32)

    @property
    def is_comparison(self) -> bool:
        """Whether good and really defective parts are there: only then is there
        something to compare.
        """
        return len({image.is_defective for image in self.images}) == 2 and not self.is_synthetic

    def is_rejected(self, image: ReportedImage) -> bool:
        """Whether the threshold calls it NG, compared in float32 as the device does."""
        return bool(np.float32(image.score) > np.float32(self.threshold))
