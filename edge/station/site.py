"""Site state: what was calibrated at this station for one product.

Two files with two lifetimes (docs/station.md):

    site/geometry.json       per camera serial: plane, place of the crop, region of interest,
                             expected silhouette. Survives a new bundle.
    site/model-DIGEST.json   per precision and runtime: threshold, site inputs. Belongs to one
                             bundle and is never applied to another.

Both carry a version that only grows; the state each version replaced is in the audit table.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from edge.errors import ConfigError
from edge.files import is_there, make_folder, read_bytes, write_atomically
from edge.schema import Name, Precision, Sha256, Strict, canonical_json, parse_json
from edge.types import Geometry

if TYPE_CHECKING:  # the page's process reads who calibrated, and needs no arrays
    import numpy as np
    from numpy.typing import NDArray

FILE_LIMIT = 64 << 20  # bytes
TENSOR_LIMIT = 16 << 20  # elements

StateModel = TypeVar("StateModel", bound=BaseModel)


class PackedMask(Strict):
    """A mask of the crop, such as the region of interest: rows of bits, deflated, base64."""

    width: int = Field(ge=1, le=16384)
    height: int = Field(ge=1, le=16384)
    bits: str

    @classmethod
    def pack(cls, mask: NDArray[np.uint8]) -> PackedMask:
        """mask: (h, w), 0 = outside."""
        import numpy as np

        height, width = mask.shape
        bits = zlib.compress(np.packbits(mask > 0).tobytes(), 9)
        return cls(width=width, height=height, bits=base64.b64encode(bits).decode())

    def unpack(self, what: str) -> NDArray[np.uint8]:
        """(h, w) uint8, 0 = outside, 255 = inside.

        what: the mask, as an error names it.
        Raises: ValueError if the bits are damaged or of another size.
        """
        import numpy as np

        expected = -(-self.width * self.height // 8)
        decoder = zlib.decompressobj()
        try:
            raw = decoder.decompress(base64.b64decode(self.bits, validate=True), expected)
        except (zlib.error, binascii.Error) as error:
            raise ValueError(f"the {what} is damaged ({error})") from error
        if len(raw) != expected or decoder.unconsumed_tail:
            raise ValueError(f"the {what} is not of the size that it states")
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=self.width * self.height)
        return np.where(bits.reshape(self.height, self.width), 255, 0).astype(np.uint8)


class ExpectedState(Strict):
    """Where every part of a fixed pose has material, as `edge calibrate expected` found it.

    parts: normal parts it was made from. margin_px: how far it stays inside their common outline.
    share: of the area that one part alone would keep.
    """

    mask: PackedMask
    parts: int = Field(ge=2)
    margin_px: float = Field(ge=0)
    share: float = Field(ge=0, le=1)
    who: str
    when: str  # UTC, ISO 8601


class CameraGeometry(Strict):
    """Geometry of one product under one camera.

    plane: meters, in pixels of the crop at crop_x, crop_y.
    """

    version: int = Field(ge=1)
    plane: tuple[float, float, float, float] | None
    crop_x: int = Field(ge=0)
    crop_y: int = Field(ge=0)
    region: PackedMask | None = None
    expected: ExpectedState | None = None
    # fx, fy, cx, cy of the whole stream when this was made
    intrinsics: tuple[float, float, float, float]
    stream_width: int = Field(ge=1)
    stream_height: int = Field(ge=1)
    frames: int = Field(ge=0)  # how many the plane was fitted on
    residual_m: float | None = None  # of the fit, root mean square
    # of the table in the camera's memory, with which it made these frames
    calibration: Sha256 | None = None
    who: str
    when: str  # UTC, ISO 8601

    def as_geometry(self) -> Geometry:
        """What the runtime needs of it. Raises: ValueError if one of the masks is damaged."""
        region, expected = self.region, self.expected
        return Geometry(
            self.plane,
            self.crop_x,
            self.crop_y,
            None if region is None else region.unpack("region of interest"),
            None if expected is None else expected.mask.unpack("expected silhouette"),
        )


class GeometryFile(Strict):
    """site/geometry.json: by camera serial."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    cameras: dict[str, CameraGeometry] = Field(default_factory=dict)

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class PackedTensor(Strict):
    """The values of a float32 site input: shape and little endian bytes, base64."""

    shape: tuple[int, ...]
    data: str

    @classmethod
    def pack(cls, tensor: NDArray[np.float32]) -> PackedTensor:
        """tensor: any shape, float32."""
        import numpy as np

        return cls(
            shape=tensor.shape,
            data=base64.b64encode(np.ascontiguousarray(tensor, "<f4").tobytes()).decode(),
        )

    def unpack(self) -> NDArray[np.float32]:
        """The tensor, finite.

        Raises: ValueError if its bytes are damaged, not finite or of another size.
        """
        import numpy as np

        try:
            flat = np.frombuffer(base64.b64decode(self.data, validate=True), "<f4")
        except binascii.Error as error:
            raise ValueError(f"the values of a site input are damaged ({error})") from error
        if flat.size > TENSOR_LIMIT or not np.isfinite(flat).all():
            raise ValueError("the values of a site input are not finite, or too many")
        return flat.reshape(self.shape).astype(np.float32)


class ShownParts(Strict):
    """The normal parts of `edge calibrate parts` behind a threshold: another rate of false rejects
    needs no part to be shown again.

    scores: one for each part, in the order shown, none of them under site inputs that the part has
    fitted itself. is_proven: they fitted nothing, so that the bound of their threshold is proven.
    left_out: parts that were shown and are not among them, because somebody declared them not to be
    normal.
    """

    scores: tuple[float, ...] = Field(min_length=1)
    is_proven: bool
    left_out: int = Field(default=0, ge=0)
    serial: str
    who: str
    when: str  # UTC, ISO 8601


class ModelState(Strict):
    """What was calibrated for one bundle, precision and runtime.

    threshold None: the bundle's default.
    """

    version: int = Field(ge=1)
    digest: Sha256  # of the bundle
    precision: Precision
    runtime: str = Field(min_length=1, max_length=64)
    threshold: float | None = None  # a float32, exactly
    # of the threshold among the parts' scores, where it is one of them
    rank: int | None = Field(default=None, ge=1)
    guarantee: str = ""  # what the threshold promises, in one sentence
    tensors: dict[Name, PackedTensor] = Field(default_factory=dict)  # site inputs by graph input
    parts: int = Field(ge=0)  # normal parts it was calibrated on
    shown: ShownParts | None = None  # on this site; None: the bundle's own parts set the threshold
    who: str
    when: str

    @model_serializer(mode="wrap")
    def _without_what_is_unknown(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `shown` where there are none: so the digest of a state stays what it was before
        parts could be shown.
        """
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if name != "shown" or value}

    @property
    def is_set(self) -> bool:
        """Whether it changes anything about the bundle; not so after `edge calibrate undo` of the
        first calibration.
        """
        return self.parts > 0 or self.threshold is not None or bool(self.tensors)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The values of the site inputs by name. Raises: ValueError if one is damaged."""
        return {name: tensor.unpack() for name, tensor in self.tensors.items()}


class Replaced(Strict):
    """What the state of this version replaced, which can be brought back.

    state None: there was none, the bundle alone judged.
    """

    version: int = Field(ge=1)
    precision: Precision
    runtime: str = Field(min_length=1, max_length=64)
    state: ModelState | None = None


class ModelStateFile(Strict):
    """site/model-DIGEST.json: all states of one bundle, at most one per precision and runtime, the
    latest last; and what each of them replaced, unless it was brought back.
    """

    schema_: Literal[1] = Field(alias="schema", default=1)
    digest: Sha256
    states: tuple[ModelState, ...] = ()
    replaced: tuple[Replaced, ...] = ()

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


def read_state(path: Path, model: type[StateModel]) -> StateModel | None:
    """A state file, or None where there is none.

    Raises: ConfigError if it is damaged: a file is used as a whole or not at all.
    """
    if not is_there(path):
        return None
    try:
        return model.model_validate(parse_json(read_bytes(path, limit=FILE_LIMIT)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        what = f"{where}: {first['msg']}"
        raise ConfigError(f"{path}: {what}: move the file away and calibrate again") from error
    except ValueError as error:
        what = f"the file is not JSON ({error})"
        raise ConfigError(f"{path}: {what}: move the file away and calibrate again") from error


def write_state(path: Path, file: BaseModel) -> None:
    """Replace a state file, atomically. Raises: OSError."""
    make_folder(path.parent)
    write_atomically(path, canonical_json(file.model_dump(by_alias=True, mode="json")))
