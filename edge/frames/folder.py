"""The folder layout: NNNN_color.png, NNNN_depth.png, intrinsics.json; optionally camera.json and truth.json."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, RootModel

from edge.errors import DataError
from edge.frames.camera_info import CameraInfo, IntrinsicsFile, find_camera_info, read_model
from edge.frames.images import read_color
from edge.frames.sample import ImageFiles, Sample


class BeltPart(BaseModel, extra="forbid", frozen=True):
    """One part of a recorded belt. defect: "good" or the type. frames: first and last frame that show it, inclusive."""

    part: int
    defect: str
    group: str | None
    frames: tuple[int, int]


class BeltTruth(RootModel[list[BeltPart]], frozen=True):
    """truth.json beside the frames of a belt."""


def is_folder(root: Path) -> bool:
    """Whether there are intrinsics.json or NNNN_color.png files."""
    return (root / "intrinsics.json").is_file() or next(root.glob("*_color.png"), None) is not None


def read_folder(root: Path) -> tuple[list[Sample], CameraInfo, bool]:
    """Every frame by number, the camera, and whether there is depth.

    Raises: DataError if there is no frame, a frame lacks its color or depth, or depth has no intrinsics.json.
    """
    colors = {path.name.removesuffix("_color.png"): path for path in sorted(root.glob("*_color.png"))}
    depths = {path.name.removesuffix("_depth.png"): path for path in sorted(root.glob("*_depth.png"))}
    if not colors and not depths:
        raise DataError(f"{root} holds no frames: expected files such as {root / '0000_color.png'}")
    for number, path in depths.items():
        if number not in colors:
            raise DataError(f"{path} has no color image: expected {root / number}_color.png")
    for number, path in colors.items():
        if depths and number not in depths:
            raise DataError(f"{path} has no depth image: expected {root / number}_depth.png")
    camera = _camera(root, next(iter(colors.values())), bool(depths))
    truth = read_truth(root)
    samples = [
        _sample(path, ImageFiles(path, depths.get(number), camera, index), truth)
        for index, (number, path) in enumerate(colors.items())
    ]
    return samples, camera, bool(depths)


def read_truth(root: Path) -> list[BeltPart] | None:
    """The parts of a belt, None where nobody wrote down what the frames show."""
    path = root / "truth.json"
    return read_model(path, BeltTruth).root if path.is_file() else None


def _sample(color: Path, source: ImageFiles, truth: list[BeltPart] | None) -> Sample:
    shown = (part.defect for part in truth or [] if part.frames[0] <= source.number <= part.frames[1])
    defect = next(shown, "")
    name = color.name.removesuffix("_color.png")
    return Sample(name, "", defect, source, "clean" if defect == "good" else "unknown", color)


def _product_camera(root: Path) -> CameraInfo | None:
    """The camera of the product whose camera.json names this folder as its empty table or belt: they share a serial."""
    folder = root.resolve()
    for product in folder.parents[:2]:
        info = find_camera_info(product)
        if info is not None and folder in [(product / name).resolve() for name in (info.empty, info.belt) if name]:
            return info
    return None


def _camera(root: Path, color: Path, has_depth: bool) -> CameraInfo:
    serial = f"files:{root.name}"
    written = find_camera_info(root) or _product_camera(root)
    path = root / "intrinsics.json"
    if not path.is_file():
        if has_depth and (written is None or written.intrinsics is None or written.unit is None):
            raise DataError(f"{path} is missing: depth needs width, height, depth_unit_m, fx, fy, cx and cy")
        if written is None:
            height, width = read_color(color).shape[:2]
            return CameraInfo(serial=serial, width=width, height=height)
        return written
    i = read_model(path, IntrinsicsFile)
    update = {"width": i.width, "height": i.height, "unit": i.depth_unit_m, "intrinsics": (i.fx, i.fy, i.cx, i.cy)}
    base = written or CameraInfo(serial=serial, width=i.width, height=i.height)
    return base.model_copy(update=update | {"serial": base.serial or serial})
