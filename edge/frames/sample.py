"""One image of a data set: where its frame and its truth come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.camera_info import DEFAULT_UNIT_M, CameraInfo
from edge.frames.images import counts_from_xyz, intrinsics_from_xyz, read_color, read_depth, read_mask, read_xyz
from edge.types import Frame, Intrinsics

FRAME_INTERVAL_NS = 33_333_333      # files carry no clock: frame i counts as captured i / 30 s after the first

Split = Literal["train", "validation", "test", ""]
Truth = Path | Literal["clean", "unknown"]      # a mask's file; no defect; a defect that nobody drew


class FrameSource(Protocol):
    """Something that can give one frame any number of times."""

    def load(self) -> Frame:
        """Read the frame. Raises: DataError naming the file."""
        ...

    def size(self) -> tuple[int, int]:
        """Height and width of the color image in pixels."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """A frame kept as a color image and, with depth, a z16 image or an organised point cloud (.tiff)."""

    color: Path
    depth: Path | None
    camera: CameraInfo
    number: int

    def load(self) -> Frame:
        """Read both files. Raises: DataError if one is unreadable, or if their sizes differ."""
        color = read_color(self.color)
        depth, pinhole = self._read_depth()
        if depth is not None and depth.shape != color.shape[:2]:
            raise DataError(
                f"{self.depth} is {depth.shape[1]}x{depth.shape[0]} pixels, its color image {self.color} is "
                f"{color.shape[1]}x{color.shape[0]}: depth has to be aligned to color"
            )
        self._check_size(color.shape[:2])
        info = self.camera
        return Frame(
            color=color,
            depth=depth,
            unit=info.unit or DEFAULT_UNIT_M,
            intrinsics=pinhole,
            serial=info.serial or "files",
            frame_number=self.number,
            captured_mono_ns=self.number * FRAME_INTERVAL_NS,
            exposure_us=info.exposure_us,
            gain=info.gain,
        )

    def size(self) -> tuple[int, int]:
        """Height and width of the color image in pixels."""
        height, width = read_color(self.color).shape[:2]
        return height, width

    def _read_depth(self) -> tuple[NDArray[np.uint16] | None, Intrinsics]:
        pinhole = self.camera.pinhole()
        if self.depth is None:
            return None, pinhole
        if self.depth.suffix not in (".tiff", ".tif"):
            return read_depth(self.depth), pinhole
        xyz = read_xyz(self.depth)
        if self.camera.intrinsics is None:
            fitted = intrinsics_from_xyz(xyz)
            if fitted is None:
                raise DataError(
                    f"{self.depth} has too few readings to tell the focal length: add a camera.json to the product"
                )
            pinhole = Intrinsics(xyz.shape[1], xyz.shape[0], *fitted)
        return counts_from_xyz(xyz, self.camera.unit or DEFAULT_UNIT_M), pinhole

    def _check_size(self, size: tuple[int, ...]) -> None:
        if size != (self.camera.height, self.camera.width):
            raise DataError(
                f"{self.color} is {size[1]}x{size[0]} pixels, the others and the camera's file say "
                f"{self.camera.width}x{self.camera.height}"
            )


@dataclass(frozen=True)
class Sample:
    """One image.

    name: unique path inside the set, without suffix ("test/dent/003"). defect: "good", a type, "" if not known.
    truth: where the mask comes from. path: the color image, for messages.
    """

    name: str
    split: Split
    defect: str
    source: FrameSource = field(repr=False)
    truth: Truth = "unknown"
    path: Path = field(default=Path(), repr=False)

    @property
    def is_defective(self) -> bool:
        """Whether the set says that this part has a defect."""
        return self.defect not in ("good", "")

    def load(self) -> Frame:
        """Read the frame. Raises: DataError naming the file that is missing, unreadable or of another size."""
        return self.source.load()

    def load_mask(self) -> NDArray[np.bool_] | None:
        """(H, W) bool, True on the defect; all False for good parts; None where the pixels are not known.

        Raises: DataError if the mask is unreadable or has another size than the image.
        """
        if self.truth == "unknown":
            return None
        height, width = self.source.size()
        if self.truth == "clean":
            return np.zeros((height, width), np.bool_)
        mask = read_mask(self.truth)
        if mask.shape != (height, width):
            raise DataError(
                f"{self.truth} is {mask.shape[1]}x{mask.shape[0]} pixels, its image {self.path} is {width}x{height}"
            )
        return mask
