"""Frames of a camera as a data set that this project's readers take.

NAME/good/rgb/0000.png, NAME/good/depth/0000.png   good parts, depth as 16-bit counts
NAME/scratch/rgb/0000.png, ...                     any other class
NAME/empty/0000_color.png, 0000_depth.png          the empty table, as camera.json says
NAME/camera.json                                   the camera, the same for all of them
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.files import make_folder, sentence_of, write_atomically, write_json
from edge.frames.camera_info import CameraInfo, read_model
from edge.frames.listing import is_good
from edge.frames.mvtec import DEPTH_FOLDERS
from edge.types import Frame

EMPTY = "empty"
CLASS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NUMBER = re.compile(r"[0-9]{1,9}")
SPLITS = ("train", "validation", "val", "valid", "test")
TAKEN = frozenset({EMPTY, "rgb", "gt", "ground_truth", *SPLITS, *DEPTH_FOLDERS})
SAME_LENS_PX = 0.5  # focal lengths and center of one camera, as it tells them at each start


class FrameWriter:
    """Writes frames of one class into a data set, beside what is there already."""

    def __init__(self, root: Path, kind: str, least_free: float = 0.0) -> None:
        """kind: the class of the parts, "good" or any other; "empty" for the empty table.
        least_free: bytes that stay free on the disk, on which a station may keep its records.

        Raises: DataError if the readers would take a folder of this name for something else.
        """
        is_class = CLASS.fullmatch(kind) is not None and kind.lower() not in TAKEN
        if kind != EMPTY and not is_class:
            raise DataError(
                f"{kind!r} cannot be a class of parts: take letters, digits, . _ - (at most 64),"
                " and no word that folders of images have"
            )
        self._root, self.kind = root, "good" if is_good(kind) else kind
        self._folder, self._least_free = root / self.kind, least_free
        self._camera: CameraInfo | None = None
        self._number = 0

    def write(self, frame: Frame, camera: CameraInfo) -> Path:
        """Write one frame; returns its color image. It is there whole or not at all.

        camera: that took it. Raises: DataError if the data set is of another camera, cannot be
        written, or would take what is to stay free.
        """
        try:
            if self._camera is None:
                self._begin(frame, camera)
            self._require_space()
            return self._write(frame)
        except OSError as error:
            raise DataError(f"{self._root}: {sentence_of(error)}") from error

    def _require_space(self) -> None:
        free = shutil.disk_usage(self._root).free
        if free < self._least_free:
            raise DataError(
                f"{self._root}: {free / 1e9:.1f} GB are free, and {self._least_free / 1e9:g} stay"
                " free for the station (min_free_gb): record onto another disk, or free some"
            )

    def _begin(self, frame: Frame, camera: CameraInfo) -> None:
        self._camera = self._settled(_info_of(frame, camera))
        make_folder(self._root)
        write_json(self._root / "camera.json", self._camera.model_dump(exclude_none=True))
        made = [self._folder] if self.kind == EMPTY else [self._folder / "rgb"]
        if self.kind != EMPTY and frame.depth is not None:
            made.append(self._folder / "depth")
        for folder in made:
            make_folder(folder)
        pattern = "*_color.png" if self.kind == EMPTY else "rgb/*.png"
        names = [path.stem.partition("_")[0] for path in self._folder.glob(pattern)]
        self._number = max((int(name) for name in names if NUMBER.fullmatch(name)), default=-1) + 1

    def _settled(self, info: CameraInfo) -> CameraInfo:
        """The camera.json of the data set. Raises: DataError if another camera took what is
        there.
        """
        path = self._root / "camera.json"
        empty = EMPTY if self.kind == EMPTY else None
        if not path.exists():
            return info.model_copy(update={"empty": empty})
        known = read_model(path, CameraInfo)
        if not _is_same(known, info):
            raise DataError(
                f"{self._root} has images of another camera ({known.serial}, {known.width}x"
                f"{known.height}) than {info.serial}, {info.width}x{info.height}, or of another"
                " setting of it: take another folder"
            )
        return known.model_copy(update={"empty": known.empty or empty})

    def _write(self, frame: Frame) -> Path:
        """Depth first: a color image that is there has its depth."""
        has_depth = self._camera is not None and self._camera.unit is not None
        if (frame.depth is not None) != has_depth:
            raise DataError(f"{self._root}: some frames have depth and some have none")
        name, self._number = f"{self._number:04d}", self._number + 1
        color, depth = self._folder / "rgb" / f"{name}.png", self._folder / "depth" / f"{name}.png"
        if self.kind == EMPTY:
            color, depth = (self._folder / f"{name}_{what}.png" for what in ("color", "depth"))
        if frame.depth is not None:
            write_atomically(depth, _png_of(frame.depth))
        write_atomically(color, _png_of(frame.color[:, :, ::-1]))
        return color


def _info_of(frame: Frame, camera: CameraInfo) -> CameraInfo:
    """The camera as the frame and its driver tell it. A station's camera and table do not move."""
    lens = frame.intrinsics
    told: dict[str, Any] = {
        "serial": frame.serial,
        "width": lens.width,
        "height": lens.height,
        "fixed": True,
        "empty": None,
        "belt": None,
        "crop": None,
        "exposure_us": frame.exposure_us or camera.exposure_us,
        "gain": camera.gain if frame.gain is None else frame.gain,
        "unit": None,
        "intrinsics": None,
    }
    if frame.depth is not None:
        told |= {"unit": frame.unit, "intrinsics": (lens.fx, lens.fy, lens.cx, lens.cy)}
    return camera.model_copy(update=told)


def _is_same(known: CameraInfo, info: CameraInfo) -> bool:
    if (known.serial, known.width, known.height) != (info.serial, info.width, info.height):
        return False
    if known.unit != info.unit or (known.intrinsics is None) != (info.intrinsics is None):
        return False
    pairs = zip(known.intrinsics or (), info.intrinsics or (), strict=True)
    return all(abs(one - other) <= SAME_LENS_PX for one, other in pairs)


def _png_of(pixels: NDArray[Any]) -> bytes:
    import cv2

    encoded, data = cv2.imencode(
        ".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not encoded:
        raise OSError("the image cannot be encoded as PNG")
    return bytes(data.tobytes())
