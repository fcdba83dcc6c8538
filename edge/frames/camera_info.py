"""The camera that took a set of images: from camera.json, an intrinsics file, or the images."""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from edge.errors import DataError
from edge.files import read_text
from edge.types import Intrinsics

# meters per count where the files hold meters: fine enough for any RealSense, up to 6.5 m
DEFAULT_UNIT_M = 0.0001
LEAST_UNIT_M, LARGEST_UNIT_M = 1e-6, 0.01  # meters per count: 65535 counts reach 6.5 cm to 655 m
# Open3D's depth_scale divides counts, RealSense's multiplies them: 1000 or 0.001
LEAST_COUNTS_PER_M = 50
SAME_UNIT = 1e-3
NARROWEST_DEG, WIDEST_DEG = 0.5, 160.0  # of any view; 2 degrees is a small crop of a long lens
MOST_UNLIKE = 2.0  # fx / fy
ROS_UNIT_M = 0.001  # 16UC1 depth images are in millimeters (REP 118)
OPEN3D_UNIT_M = 0.001  # depth_scale's default of 1000 counts per meter

PLAIN_NAME = re.compile(r"[ -~]{1,58}")
UNNAMED = "files:"  # how the serial begins that stands for a camera which no file names

Model = TypeVar("Model", bound=BaseModel)


def unnamed_serial(name: str) -> str:
    """What stands for the serial of images that name no camera: printable ASCII, short enough for a
    station. name: of their folder or file.
    """
    if not PLAIN_NAME.fullmatch(name):
        ascii_alone = "".join(letter if " " <= letter <= "~" else "_" for letter in name)
        name = f"{ascii_alone[:40]}-{zlib.crc32(name.encode(errors='surrogateescape')):08x}"
    return f"{UNNAMED}{name}"


def names_no_camera(serial: str) -> bool:
    """Whether this serial stands for a camera that no file names."""
    return serial.startswith(UNNAMED)


def find_implausible(
    width: int, height: int, lens: tuple[float, float, float, float]
) -> str | None:
    """Why no camera can have this lens; None if it is plausible. lens: fx, fy, cx, cy in pixels."""
    fx, fy, cx, cy = lens
    narrow, wide = (
        2 * math.degrees(math.atan(size / 2 / max(fx, fy))) for size in sorted((width, height))
    )
    if narrow < NARROWEST_DEG or wide > WIDEST_DEG:
        return (
            f"a focal length of {fx:g} pixels is a view of {wide:.3g} degrees over"
            f" {max(width, height)} pixels"
        )
    if not 1 / MOST_UNLIKE <= fx / fy <= MOST_UNLIKE:
        return f"fx {fx:g} and fy {fy:g} belong to no camera with square pixels"
    if not -2 * width <= cx <= 3 * width or not -2 * height <= cy <= 3 * height:
        return f"the optical center {cx:g}, {cy:g} lies far outside {width}x{height} pixels"
    return None


class CameraInfo(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """camera.json at the root of a product. None: unknown.

    unit: meters per depth count. intrinsics: fx, fy, cx, cy in pixels. exposure_us: microseconds.
    color_bits: number of bits that hold the values of 16-bit color images. fixed: camera and table
    did not move, so that one plane serves every image. crop: x, y, width, height of the recommended
    window. empty, belt: folders (folder layout) relative to the product.
    """

    model: str = "unknown"
    serial: str | None = None
    width: PositiveInt
    height: PositiveInt
    fps: PositiveFloat | None = None
    unit: float | None = Field(default=None, ge=LEAST_UNIT_M, le=LARGEST_UNIT_M)
    intrinsics: tuple[PositiveFloat, PositiveFloat, float, float] | None = None
    color_bits: Literal[10, 12, 14, 16] | None = None
    fixed: bool = False
    exposure_us: PositiveFloat | None = None
    gain: float | None = None
    white_balance: float | None = None
    laser: float | None = None
    filters: list[str] | None = None
    crop: tuple[int, int, PositiveInt, PositiveInt] | None = None
    empty: str | None = None
    belt: str | None = None

    @model_validator(mode="after")
    def _can_be(self) -> CameraInfo:
        wrong = (
            find_implausible(self.width, self.height, self.intrinsics) if self.intrinsics else None
        )
        if wrong is not None:
            raise ValueError(f"intrinsics: {wrong}")
        if self.crop is not None:
            x, y, width, height = self.crop
            if x < 0 or y < 0 or x + width > self.width or y + height > self.height:
                raise ValueError(
                    f"crop {width}x{height} at {x}, {y} leaves the {self.width}x{self.height} image"
                )
        return self

    def pinhole(self) -> Intrinsics:
        """The pinhole model; if none is known, that of a 53 degree lens, which is enough for
        color-only sources.
        """
        if self.intrinsics is not None:
            return Intrinsics(self.width, self.height, *self.intrinsics)
        focal = float(max(self.width, self.height))
        return Intrinsics(
            self.width, self.height, focal, focal, (self.width - 1) / 2, (self.height - 1) / 2
        )

    def letterboxed(self, size: tuple[int, int] | None) -> CameraInfo:
        """The camera of color images letterboxed to size = (width, height); unchanged if None."""
        if size is None:
            return self
        update = {
            "width": size[0],
            "height": size[1],
            "unit": None,
            "intrinsics": None,
            "crop": None,
        }
        return self.model_copy(update=update)


INTRINSICS_FILES = (
    "intrinsics.json",
    "camera_info.yaml",
    "camera_info.yml",
    "camera_info.json",
    "camera_intrinsic.json",
    "camera_intrinsics.json",
)


class Lens(BaseModel, frozen=True, allow_inf_nan=False):
    """The content of an intrinsics file of any tool.

    unit: meters per count. note: a sentence for the user if the unit is a default.
    """

    width: PositiveInt
    height: PositiveInt
    fx: PositiveFloat
    fy: PositiveFloat
    cx: float
    cy: float
    unit: float = Field(ge=LEAST_UNIT_M, le=LARGEST_UNIT_M)
    note: str | None = None

    @model_validator(mode="after")
    def _can_be(self) -> Lens:
        wrong = find_implausible(self.width, self.height, (self.fx, self.fy, self.cx, self.cy))
        if wrong is not None:
            raise ValueError(wrong)
        return self

    def update(self) -> dict[str, Any]:
        """The same as fields of CameraInfo."""
        return {
            "width": self.width,
            "height": self.height,
            "unit": self.unit,
            "intrinsics": (self.fx, self.fy, self.cx, self.cy),
        }


def find_lens(folder: Path) -> tuple[Path, Lens] | None:
    """The intrinsics file of a folder and its content, None without one.

    Raises: DataError for a damaged file, or for two of them.
    """
    found = [folder / name for name in INTRINSICS_FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(
            f"{found[0]} and {found[1].name} both describe the camera: keep the one that is right"
        )
    return (found[0], read_lens(found[0])) if found else None


def lens_notes(folder: Path) -> tuple[str, ...]:
    """Notes for the user about the intrinsics file of a folder."""
    lens = find_lens(folder)
    return (f"{lens[0].name}: {lens[1].note}",) if lens is not None and lens[1].note else ()


def read_lens(path: Path) -> Lens:
    """Read fx, fy, cx, cy (or RealSense's ppx, ppy), Open3D's intrinsic_matrix, or ROS'
    sensor_msgs/CameraInfo.

    The unit is depth_unit_m, RealSense's depth_scale (meters per count, below 1) or Open3D's
    (counts per meter, above 1).

    Raises: DataError naming the file and the value that is missing, impossible or contradictory.
    """
    told = _tree(path)
    matrix = _matrix(path, told)
    fields: dict[str, Any] = {
        "width": _first(told, "width", "image_width"),
        "height": _first(told, "height", "image_height"),
        "fx": _first(told, "fx"),
        "fy": _first(told, "fy"),
        "cx": _first(told, "cx", "ppx"),
        "cy": _first(told, "cy", "ppy"),
        **matrix,
    }
    missing = [name for name, value in fields.items() if value is None]
    if missing:
        lacking = ", ".join(missing)
        raise DataError(
            f"{path} lacks {lacking}: depth needs width, height, fx, fy, cx, cy and depth_unit_m"
        )
    unit, note = _unit(path, told)
    return _validated(path, {**fields, "unit": unit, "note": note}, Lens)


def _unit(path: Path, told: dict[str, Any]) -> tuple[float, str | None]:
    """Meters per count, and a note if it is the default of the tool that wrote the file."""
    given = {
        name: _number(path, name, told[name])
        for name in ("depth_unit_m", "depth_scale")
        if name in told
    }
    scale = given.get("depth_scale")
    if scale is not None and scale >= LEAST_COUNTS_PER_M:
        given["depth_scale"] = 1 / scale
    if not given and path.name.startswith("camera_info"):
        return ROS_UNIT_M, "one depth count is 1 mm, as ROS defines it"
    if not given and "intrinsic_matrix" in told:
        return (
            OPEN3D_UNIT_M,
            "one depth count is 1 mm, Open3D's default: the file names no depth_scale",
        )
    if not given:
        raise DataError(
            f"{path} does not say how many meters one depth count is: add depth_unit_m, 0.001 for a"
            " RealSense D435, 0.0001 for a D405"
        )
    units = list(given.values())
    if max(units) > (1 + SAME_UNIT) * min(units):
        raise DataError(
            f"{path} says depth_unit_m {told['depth_unit_m']:g} and depth_scale"
            f" {told['depth_scale']:g}: keep the one that is right"
        )
    if not LEAST_UNIT_M <= units[0] <= LARGEST_UNIT_M:
        name = next(iter(given))
        raise DataError(
            f"{path}: {name} {told[name]:g} cannot be: one depth count is between {LEAST_UNIT_M:g}"
            f" and {LARGEST_UNIT_M:g} m, 0.001 for millimeters"
        )
    return units[0], None


def _number(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
        raise DataError(f"{path}: {name} is {repr(value)[:20]}, a number above 0 is needed")
    return float(value)


def _matrix(path: Path, told: dict[str, Any]) -> dict[str, float]:
    """fx, fy, cx, cy of a 3x3 matrix, row by row (ROS) or column by column (Open3D); empty without
    a matrix.
    """
    value = _first(told, "intrinsic_matrix", "K", "k", "camera_matrix")
    if isinstance(value, dict):
        value = value.get("data")
    if value is None:
        return {}
    flat = (
        [entry for row in value for entry in (row if isinstance(row, list) else [row])]
        if isinstance(value, list)
        else []
    )
    if len(flat) != 9 or not all(isinstance(entry, (int, float)) for entry in flat):
        raise DataError(f"{path}: the camera matrix needs 3x3 numbers")
    by_rows, by_columns = (flat[2], flat[5]), (flat[6], flat[7])
    if any(by_rows) == any(by_columns):
        raise DataError(
            f"{path}: the camera matrix holds no optical center: expected fx 0 cx, 0 fy cy, 0 0 1"
        )
    cx, cy = by_rows if any(by_rows) else by_columns
    return {"fx": float(flat[0]), "fy": float(flat[4]), "cx": float(cx), "cy": float(cy)}


def _first(told: dict[str, Any], *names: str) -> Any:
    return next((told[name] for name in names if name in told), None)


def _tree(path: Path) -> dict[str, Any]:
    """The file's keys, from JSON or YAML."""
    text = read_text(path, DataError)
    told = _json(path, text) if path.suffix == ".json" else _yaml(path, text)
    if not isinstance(told, dict):
        raise DataError(
            f"{path} holds no keys: expected width, height, fx, fy, cx, cy and depth_unit_m"
        )
    return told


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def _yaml(path: Path, text: str) -> Any:
    """The first document: `rostopic echo` ends each message with ---."""
    import yaml

    try:
        return next(iter(yaml.safe_load_all(text)), None)
    except (yaml.YAMLError, RecursionError) as error:
        why = ", ".join(line.strip() for line in str(error).splitlines())
        raise DataError(f"{path} is not valid YAML: {why}") from error


def read_model(path: Path, model: type[Model]) -> Model:
    """A JSON file as `model`.

    Raises: DataError naming the file and the first key that is wrong.
    """
    return _validated(path, _json(path, read_text(path, DataError)), model)


def _validated(path: Path, value: Any, model: type[Model]) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(level) for level in first["loc"]) or "the file"
        raise DataError(f"{path}: {key}: {first['msg']}") from error


def find_camera_info(folder: Path) -> CameraInfo | None:
    """camera.json of a product or frame folder, completed by an intrinsics file; None without
    both.
    """
    path = folder / "camera.json"
    written = read_model(path, CameraInfo) if path.is_file() else None
    lens = find_lens(folder)
    if lens is None:
        return written
    place, told = lens
    base = written or CameraInfo(width=told.width, height=told.height)
    if base.unit is not None and abs(base.unit / told.unit - 1) > SAME_UNIT:
        raise DataError(
            f"{path} says that one depth count is {base.unit:g} m, {place.name} {told.unit:g} m:"
            " keep the right one"
        )
    return base.model_copy(update=told.update())
