"""What is known about the camera that took a set of images: camera.json, intrinsics.json, or what the images tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError

from edge.errors import DataError
from edge.types import Intrinsics

DEFAULT_UNIT_M = 0.0001     # metres per count where the files hold metres: fine enough for any RealSense, up to 6.5 m

Model = TypeVar("Model", bound=BaseModel)


class CameraInfo(BaseModel, extra="forbid", frozen=True):
    """camera.json at the root of a product. None: not known.

    unit: metres per depth count. intrinsics: fx, fy, cx, cy in pixels. exposure_us: microseconds.
    fixed: camera and table did not move, so that one plane serves every image.
    crop: x, y, width, height of the recommended window. empty, belt: folders (folder layout) relative to the product.
    """

    model: str = "unknown"
    serial: str | None = None
    width: PositiveInt
    height: PositiveInt
    fps: PositiveFloat | None = None
    unit: PositiveFloat | None = None
    intrinsics: tuple[PositiveFloat, PositiveFloat, float, float] | None = None
    fixed: bool = False
    exposure_us: PositiveFloat | None = None
    gain: float | None = None
    white_balance: float | None = None
    laser: float | None = None
    filters: list[str] | None = None
    crop: tuple[int, int, PositiveInt, PositiveInt] | None = None
    empty: str | None = None
    belt: str | None = None

    def pinhole(self) -> Intrinsics:
        """The pinhole model; where none is known, one of a 53 degree lens, which only color-only sources may use."""
        if self.intrinsics is not None:
            return Intrinsics(self.width, self.height, *self.intrinsics)
        focal = float(max(self.width, self.height))
        return Intrinsics(self.width, self.height, focal, focal, (self.width - 1) / 2, (self.height - 1) / 2)


class IntrinsicsFile(BaseModel, extra="ignore", frozen=True):
    """intrinsics.json of the folder layout. Other keys are allowed: capture tools add their own."""

    width: PositiveInt
    height: PositiveInt
    depth_unit_m: PositiveFloat = Field(0.001)
    fx: PositiveFloat
    fy: PositiveFloat
    cx: float
    cy: float


def read_model(path: Path, model: type[Model]) -> Model:
    """A JSON file as `model`.

    Raises: DataError naming the file and the first key that is wrong.
    """
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        return model.model_validate(value)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path}: {key}: {first['msg']}") from error
    except ValueError as error:      # not JSON, or not UTF-8
        raise DataError(f"{path} is not valid JSON: {error}") from error


def find_camera_info(folder: Path) -> CameraInfo | None:
    """camera.json of a product or frame folder, None where there is none."""
    path = folder / "camera.json"
    return read_model(path, CameraInfo) if path.is_file() else None
