"""manifest.json of a bundle (schema 2): what a bundle says of itself, checked key by key before
any of it is used.

Pydantic models that forbid unknown keys: a typo or a newer schema stops the installation and names
its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from edge.bundle.tar import AGAIN, MEMBER_LIMIT, check_name
from edge.camera.contract import CameraContract
from edge.errors import BundleError
from edge.proof.certificate import Verdicts
from edge.proof.measures import Count
from edge.proof.threshold import Threshold
from edge.schema import Name, Precision, Sha256, Strict, TensorSpec, parse_json

if TYPE_CHECKING:  # the page's process reads manifests, and needs no arrays
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = 2
MANIFEST, SIGNATURE, REPORT = "manifest.json", "signature.json", "report.html"
MANIFEST_LIMIT = 4 << 20  # bytes
PARSED_LIMIT = 64 << 20  # bytes of a member that is no graph and no report: it is read whole
GOLDEN_FRAMES = 8  # reference frames in golden/, at least


class FileEntry(Strict):
    """Digest and size in bytes of one member."""

    sha256: Sha256
    size: int = Field(ge=0, le=MEMBER_LIMIT)


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


class ChannelStatistics(Strict):
    """Where the features of normal parts lie that the site inputs `shift` and `scale` act on.

    mean, deviation: (C,) each, over the foreground, before shift and scale.
    """

    mean: tuple[float, ...] = Field(min_length=1)
    deviation: tuple[Annotated[float, Field(ge=0)], ...]

    @model_validator(mode="after")
    def _are_of_the_same_channels(self) -> ChannelStatistics:
        if len(self.mean) != len(self.deviation):
            raise ValueError(
                f"means of {len(self.mean)} channels, deviations of {len(self.deviation)}"
            )
        return self

    @classmethod
    def of_parts(cls, moments: Sequence[NDArray[np.float32]]) -> ChannelStatistics:
        """Pooled over parts: the mean of the parts' means, and the root of the mean of their
        variances plus the variance of their means.

        moments: (1, 2, C) of every part, as the graph gives them; at least one.
        Raises: pydantic.ValidationError if a moment is not finite.
        """
        import numpy as np

        mean, variance = np.concatenate(list(moments)).astype(np.float64).swapaxes(0, 1)  # (k, C)
        deviation = np.sqrt(variance.mean(axis=0) + mean.var(axis=0))
        return cls(mean=tuple(mean.mean(axis=0).tolist()), deviation=tuple(deviation.tolist()))


class Judge(Strict):
    """What judges a part beside the detector, in the graph, and adds to map and score.

    name: "outline" or "heights". dtype: of all its arithmetic, in every precision; no site input
    acts on it. limit: what normal training parts stay below (outline: distance from the nearest
    normal descriptor, whitened; heights: deviations of the place). most: that it adds to a score,
    raw units.
    """

    name: Name
    dtype: Literal["float32"] = "float32"
    limit: float = Field(gt=0)
    most: float = Field(ge=0)


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
    # raw scores of all n normal parts; every list is ordered by float32's score, highest first
    normal_scores: dict[Precision, tuple[float, ...]]
    normal_spread: dict[Precision, ScoreSpread]
    # of these scores: what to expect of an engine of this precision
    thresholds: dict[Precision, Threshold]
    # the certificate's counts, each file judged with its own threshold
    verdicts: dict[Precision, Verdicts]
    operating_points: tuple[OperatingPoint, ...]
    # of normal training parts, as the float32 graph gives them; none in bundles of before, whose
    # features cannot be calibrated on site
    channels: ChannelStatistics | None = None
    # none: the detector judges alone; null in bundles of before, which do not say
    judges: tuple[Judge, ...] | None = None
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

    @property
    def judged_by(self) -> str:
        """Whose judgments make the score, for people."""
        if self.judges is None:
            return "detector; a bundle of before does not say whether others judge beside it"
        beside = (
            f"{judge.name} ({judge.dtype}, adds at most {judge.most:.4g})" for judge in self.judges
        )
        return ", ".join(["detector", *beside])

    @model_validator(mode="after")
    def _judges_have_depth_and_a_name_each(self) -> Manifest:
        names = [judge.name for judge in self.judges or ()]
        if names and not self.presence:
            raise ValueError(f"judges has {names}, which take depth, and presence is false")
        if len(set(names)) != len(names):
            raise ValueError(f"judges has {names}: each judges once")
        return self

    @model_validator(mode="after")
    def _channels_are_those_of_the_graph(self) -> Manifest:
        if self.channels is None:
            return self
        count = len(self.channels.mean)
        shapes = {spec.name: spec.shape for spec in (*self.inputs, *self.outputs)}
        for name, shape in (("shift", (count,)), ("scale", (count,)), ("moments", (1, 2, count))):
            if shapes.get(name) != shape:
                found = f"has the shape {shapes[name]}" if name in shapes else "is missing"
                raise ValueError(f"channels has {count} channels, but {name} {found}, not {shape}")
        return self


def parse_manifest(data: bytes) -> Manifest:
    """manifest.json, every key known and every value in range.

    Raises: BundleError naming the key; a newer schema is told apart, since the remedy is another
    one.
    """
    try:
        raw = parse_json(data)
    except ValueError as error:
        raise BundleError(
            f"manifest.json is not JSON ({error}): export the bundle again"
        ) from error
    _check_schema(raw)
    try:
        manifest = Manifest.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "manifest.json"
        what = f"manifest.json: {where}: {first['msg']}"
        raise BundleError(
            f"{what}: export the bundle again with this software's version"
        ) from error
    _check_files(manifest)
    return manifest


def _check_schema(raw: Any) -> None:
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        what = f"the bundle has schema {schema}, this software reads up to {SCHEMA}"
        raise BundleError(f"{what}: update the station's software first")
    if isinstance(schema, int) and schema < SCHEMA:
        what = f"the bundle has schema {schema}, in which every engine took float32's threshold"
        raise BundleError(
            f"{what}: export it again with this version: `trainer train`, `evaluate`, `export`"
        )


def _check_files(manifest: Manifest) -> None:
    """The files that every bundle has are listed, under names that a bundle may use."""
    for name, entry in manifest.files.items():
        check_name(name)
        if not name.startswith("model/") and name != REPORT and entry.size > PARSED_LIMIT:
            what = (
                f"manifest.json: files: {name} has {entry.size} bytes, at most {PARSED_LIMIT} are"
                " read"
            )
            raise BundleError(f"{what}: export the bundle again")
    if "fp32" not in manifest.precisions:
        raise BundleError(
            "manifest.json: precisions: fp32 is missing, the fallback of every station: export it"
            " again"
        )
    models = (f"model/{precision}.onnx" for precision in manifest.precisions)
    required = {"parity.json", REPORT, "normal/index.json", *models}
    for name in sorted(required - set(manifest.files)):
        raise BundleError(
            f"manifest.json: files: {name} is missing, which every bundle has: export it again"
        )
    if sum(name.startswith("golden/") for name in manifest.files) < GOLDEN_FRAMES:
        raise BundleError(
            f"manifest.json: files: fewer than {GOLDEN_FRAMES} reference frames: export it again"
        )


def compare_lists(manifest: Manifest, found: dict[str, int]) -> None:
    """The files present are exactly those of the manifest, with their sizes in bytes.

    Raises: BundleError naming the first that is missing, too many or of another size.
    """
    for name in sorted(set(manifest.files) - set(found)):
        raise BundleError(f"{name} is missing: {AGAIN}")
    for name in sorted(set(found) - set(manifest.files)):
        raise BundleError(
            f"{name} is not in the signed manifest: somebody added it, do not use this bundle"
        )
    for name, size in found.items():
        if size != manifest.files[name].size:
            raise BundleError(
                f"{name} has {size} bytes, the signed manifest says {manifest.files[name].size}:"
                f" {AGAIN}"
            )
