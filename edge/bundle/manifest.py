"""manifest.json of a bundle (schema 1): what a bundle says of itself, checked key by key before anything is used.

Pydantic models that forbid unknown keys: a typo or a newer schema stops the installation and names its key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SCHEMA = 1

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["fp32", "fp16", "int8"]


class Strict(BaseModel):
    """Frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(Strict):
    """Digest and size in bytes of one member."""

    sha256: Sha256
    size: int = Field(ge=0, le=2 << 30)


class TensorSpec(Strict):
    """One graph input or output: batch 1, static shape.

    default: a scalar for every element, or null where the frame or the site must give it.
    """

    name: Name
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, ...]
    default: float | None = None


class CameraContract(Strict):
    """What the product was trained on; null = unknown, said so at install.

    Sizes in pixels, unit in metres per depth count.
    """

    model: str                                   # "D435", "D405", "virtual", "unknown"
    serial: str | None = None                    # of the camera the images came from
    width: int
    height: int
    fps: int | None = None
    intrinsics: tuple[float, float, float, float] | None = None   # fx, fy, cx, cy of the whole stream
    unit: float | None = None
    exposure_us: float | None = None
    gain: float | None = None
    white_balance: float | None = None
    laser: float | None = None
    filters: tuple[str, ...] | None = None
    crop_width: int
    crop_height: int
    crop_x: int                                  # of the training images; afterwards x and y are site state
    crop_y: int
    min_area: float = Field(ge=0, le=1)          # foreground share of the region, from normal validation parts
    max_area: float = Field(ge=0, le=1)
    min_valid: float = Field(ge=0, le=1)
    empty: str | None = None                     # folders that a virtual camera plays: the empty table, the belt
    belt: str | None = None


class Threshold(Strict):
    """The default threshold and the guarantee that n normal parts can give (Wilks: 1 - (1 - rate)^n >= confidence)."""

    value: float                                 # a float32, exactly; score > value is NG
    parts: int = Field(ge=1)
    false_reject_rate: float = Field(ge=0, le=1)
    confidence: float = Field(ge=0, le=1)
    guarantee: str                               # the same in one sentence


class Provenance(Strict):
    """Where data and code came from."""

    created_at: str
    data: str
    data_sha256: Sha256
    train_parts: int
    validation_parts: int
    seed: int
    code: str                                    # version of this package, and commit where known
    packages: dict[str, str]


class Manifest(Strict):
    """The whole of manifest.json."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    product: Name
    version: Name
    system: Name
    preset: Name
    presence: bool                               # the graph measures foreground; without it, parts come by trigger
    camera: CameraContract
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precisions: tuple[Precision, ...]            # in the order tried: int8, fp16, fp32
    normal_scores: tuple[float, ...]             # raw float32 scores of the normal validation parts
    threshold: Threshold
    plane: tuple[float, float, float, float] | None = None   # of the training camera: for reports, never used to judge
    provenance: Provenance
    files: dict[str, FileEntry]                  # every other file of the bundle but signature.json

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)
