"""manifest.json of a bundle (schema 2): what a bundle says of itself, checked key by key before
anything is used.

Pydantic models that forbid unknown keys: a typo or a newer schema stops the installation and names
its key.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from edge.camera.contract import CameraContract
from edge.proof.certificate import Verdicts
from edge.proof.compare import Count
from edge.proof.threshold import Threshold
from edge.schema import Name, Precision, Sha256, Strict, TensorSpec

SCHEMA = 2


class FileEntry(Strict):
    """Digest and size in bytes of one member."""

    sha256: Sha256
    size: int = Field(ge=0, le=1 << 30)


class ScoreSpread(Strict):
    """How the normal validation scores of one precision lie, raw units; all n of them.

    median, mean, deviation: location and scale. spread: s, half the distance from the 16th to the
    84th percentile.
    """

    median: float
    mean: float
    deviation: float = Field(ge=0)
    spread: float = Field(ge=0)


class OperatingPoint(Strict):
    """One row of the table that the user chose from, of float32's scores.

    threshold: at this rank. found: defects above it, by what they are: "real", or synthetic ones by
    strength.
    """

    threshold: Threshold
    found: dict[str, Count]


class NormalParts(Strict):
    """The normal validation parts behind the thresholds, of which the bundle carries the frames in
    normal/.

    parts: n. highest: all ranks up to this one are carried. left_out: names of parts that the user
    declared not to be normal. kept: names of outliers that the user declared normal.
    """

    parts: int = Field(ge=1)
    highest: int = Field(ge=1)
    left_out: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class Provenance(Strict):
    """Where data and code came from."""

    created_at: str
    data: str
    data_sha256: Sha256
    train_parts: int
    validation_parts: int
    seed: int
    code: str  # version of this package, and commit where known
    packages: dict[str, str]


class Manifest(Strict):
    """The whole of manifest.json."""

    schema_: Literal[2] = Field(alias="schema", default=2)
    product: Name
    version: Name
    system: Name
    preset: Name
    presence: bool  # the graph measures foreground; without it, parts come by trigger
    camera: CameraContract
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precisions: tuple[Precision, ...]  # in the order tried: int8, fp16, fp32
    normal: NormalParts
    normal_scores: dict[
        Precision, tuple[float, ...]
    ]  # of all n, raw, each list by falling score in float32
    normal_spread: dict[Precision, ScoreSpread]
    thresholds: dict[
        Precision, Threshold
    ]  # of these scores: what to expect of an engine of this precision
    verdicts: dict[
        Precision, Verdicts
    ]  # the certificate's counts, each file judged with its own threshold
    operating_points: tuple[OperatingPoint, ...]
    # of the training camera: for reports, never used to judge
    plane: tuple[float, float, float, float] | None = None
    provenance: Provenance
    files: dict[str, FileEntry]  # every other file of the bundle but signature.json

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    @model_validator(mode="after")
    def _thresholds_are_of_the_scores(self) -> Manifest:
        for name, values in (
            ("normal_scores", self.normal_scores),
            ("normal_spread", self.normal_spread),
            ("thresholds", self.thresholds),
            ("verdicts", self.verdicts),
        ):
            if set(values) != set(self.precisions):
                raise ValueError(
                    f"{name} has {sorted(values)}, the bundle {sorted(self.precisions)}"
                )
        for precision, scores in self.normal_scores.items():
            threshold, parts = self.thresholds[precision], self.normal.parts
            if len(scores) != parts or threshold.parts != parts or threshold.rank > parts:
                raise ValueError(
                    f"{precision} has {len(scores)} normal scores and a threshold of"
                    f" {threshold.parts} parts, the bundle {parts}"
                )
            if threshold.value != sorted(scores, reverse=True)[threshold.rank - 1]:
                raise ValueError(
                    f"the threshold of {precision} is not its normal score of rank {threshold.rank}"
                )
        if (
            len({(threshold.rank, threshold.left_out) for threshold in self.thresholds.values()})
            != 1
        ):
            raise ValueError("the thresholds of the precisions take different ranks")
        exact = self.normal_scores.get("fp32", ())
        if list(exact) != sorted(exact, reverse=True):
            raise ValueError("normal_scores are not ordered by float32's")
        return self
