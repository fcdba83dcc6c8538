"""One image of a data set: where its frame and its truth come from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.camera_info import DEFAULT_UNIT_M, CameraInfo
from edge.frames.clouds import Cloud, counts_of, intrinsics_of, read_cloud
from edge.frames.images import (
    Header,
    letterbox_window,
    letterboxed,
    read_depth,
    read_header,
    read_stored_color,
    read_tiff,
    turned,
)
from edge.frames.masks import read_mask
from edge.frames.reading import AS_IS, Reading
from edge.types import Frame, Intrinsics

NO_READING = 65535  # what some drivers write instead of 0
OTHER_LENS = 0.05
# files carry no clock: frame i counts as captured i / 30 s after the first
FRAME_INTERVAL_NS = 33_333_333

Split = Literal["train", "validation", "test", ""]
Truth = Path | Literal["clean", "unknown"]  # a mask's file; no defect; a defect without a mask


class FrameSource(Protocol):
    """A source of one frame, which can be loaded any number of times."""

    def load(self) -> Frame:
        """Read the frame. Raises: DataError naming the file."""
        ...

    def size(self) -> tuple[int, int]:
        """Height and width of the color image in pixels."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """A frame kept as a color image and, with depth, z16 counts (PNG, TIFF) or a point cloud (TIFF
    of floats).
    """

    color: Path
    depth: Path | None
    camera: CameraInfo
    number: int
    reading: Reading = AS_IS

    def load(self) -> Frame:
        """Read both files.

        Raises: DataError if one is unreadable, or if their sizes or orientations differ.
        """
        pixels, header = read_stored_color(self.color, self._effective())
        depth, pinhole = self._read_depth()
        color = turned(pixels, self._turn(header, None if depth is None else depth.shape))
        if depth is not None and depth.shape != color.shape[:2]:
            raise DataError(
                f"{self.depth} is {depth.shape[1]}x{depth.shape[0]} pixels, its color image"
                f" {self.color} is {color.shape[1]}x{color.shape[0]}: depth has to be aligned to"
                " color"
            )
        if self.reading.size is not None:
            color = letterboxed(color, self.reading.size)
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

    def load_mask(self, path: Path) -> NDArray[np.bool_]:
        """(H, W) of the frame: the mask turned and letterboxed as the color image is.

        Raises: DataError if the mask cannot be used, has another size, or has an ambiguous
            orientation.
        """
        mask, own_turn = read_mask(path)
        header = read_header(self.color)
        turn = header.turn if self.depth is None else 1
        mask = turned(mask, own_turn)
        if own_turn == 1 and turn != 1:
            mask = turned(mask, self._mask_turn(path, mask.shape, header))
        height, width = self.size() if self.reading.size is None else header.upright()
        if mask.shape != (height, width):
            raise DataError(
                f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels, its image {self.color} is"
                f" {width}x{height}"
            )
        return mask if self.reading.size is None else _letterboxed_mask(mask, self.reading.size)

    def size(self) -> tuple[int, int]:
        """Height and width of the color image in pixels."""
        return self.camera.height, self.camera.width

    def _effective(self) -> Reading:
        bits = self.reading.color_bits or self.camera.color_bits
        return replace(self.reading, color_bits=bits)

    def _turn(self, header: Header, depth: tuple[int, ...] | None) -> int:
        """The EXIF orientation to apply to the stored color pixels, so that they match the depth's.

        Raises: DataError if it is ambiguous.
        """
        if depth is None or header.turn == 1:
            return header.turn
        if header.turn > 4 and header.width != header.height:
            return header.turn if depth == header.upright() else 1
        raise DataError(
            f"{self.color} says by its EXIF orientation ({header.turn}) that it has to be turned,"
            " its depth has no orientation: save the color image without the tag, the same way"
            " round as the depth"
        )

    def _mask_turn(self, mask: Path, shape: tuple[int, ...], header: Header) -> int:
        """The EXIF orientation to apply to a mask without a tag: it was drawn either on the stored
        pixels or on the upright image.

        Raises: DataError if it is ambiguous.
        """
        if header.turn > 4 and header.width != header.height:
            return 1 if shape == header.upright() else header.turn
        raise DataError(
            f"{self.color} says by its EXIF orientation ({header.turn}) that it has to be turned,"
            f" its mask {mask} has no orientation, so that it may be upright or not: save the image"
            " upright without the tag"
        )

    def _read_depth(self) -> tuple[NDArray[np.uint16] | None, Intrinsics]:
        pinhole = self.camera.pinhole()
        if self.depth is None:
            return None, pinhole
        if (
            self.depth.suffix.lower() not in (".tiff", ".tif")
            or read_tiff(self.depth).dtype == np.uint16
        ):
            return self._read_counts(self.depth), pinhole
        cloud = read_cloud(self.depth)
        if self.camera.intrinsics is None:
            fitted = intrinsics_of(cloud)
            if fitted is None:
                raise DataError(
                    f"{self.depth} does not contain the focal length (x and y are missing, or too"
                    " few readings): add a camera.json with unit and intrinsics to the product"
                )
            pinhole = Intrinsics(cloud.z.shape[1], cloud.z.shape[0], *fitted)
        elif self.number == 0:
            self._compare_lens(self.depth, cloud, self.camera.intrinsics)
        return counts_of(cloud.z, self.camera.unit or DEFAULT_UNIT_M), pinhole

    def _read_counts(self, path: Path) -> NDArray[np.uint16]:
        missing = [name for name in ("unit", "intrinsics") if getattr(self.camera, name) is None]
        if missing:
            raise DataError(
                f"{path} holds counts of an unknown unit or lens: add {' and '.join(missing)} to"
                " camera.json"
            )
        counts = read_depth(path)
        counts[counts == NO_READING] = 0
        return counts

    def _compare_lens(
        self, path: Path, cloud: Cloud, lens: tuple[float, float, float, float]
    ) -> None:
        """Raises: DataError if the cloud has another focal length than the camera's file."""
        fitted = intrinsics_of(cloud)
        if fitted is not None and abs(fitted[0] / lens[0] - 1) > OTHER_LENS:
            raise DataError(
                f"{path} has a focal length of {fitted[0]:.0f} pixels, the camera's file says"
                f" {lens[0]:.0f}: correct it, or remove it: the clouds contain it"
            )

    def _check_size(self, size: tuple[int, ...]) -> None:
        expected = (self.camera.height, self.camera.width)
        if size == expected:
            return
        told = (
            f"{self.color} is {size[1]}x{size[0]} pixels, the others are"
            f" {expected[1]}x{expected[0]}"
        )
        if size == expected[::-1]:
            raise DataError(
                f"{told}: it was taken with the camera turned; turn it, leave it out, or train with"
                f" --size {expected[1]}x{expected[0]}"
            )
        raise DataError(
            f"{told}: train with --size {expected[1]}x{expected[0]} to letterbox every image to one"
            " size"
        )


def _letterboxed_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The letterboxed mask. A pixel is marked if any defect pixel falls into it, so that thin
    scratches do not vanish.
    """
    import cv2

    left, top, width, height = letterbox_window(mask.shape, size)
    whole = np.zeros((size[1], size[0]), np.bool_)
    inside = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    whole[top : top + height, left : left + width] = inside > 0
    return whole


@dataclass(frozen=True)
class Sample:
    """One image.

    name: unique path inside the set, without suffix ("test/dent/003"). defect: "good", a type, or
    "" if unknown. truth: where the mask comes from. path: the color image, for messages.
    """

    name: str
    split: Split
    defect: str
    source: FrameSource = field(repr=False)
    truth: Truth = "unknown"
    path: Path = field(default=Path(), repr=False)

    @property
    def is_defective(self) -> bool:
        """Whether the data set labels this part as defective."""
        return self.defect not in ("good", "")

    def load(self) -> Frame:
        """Read the frame.

        Raises: DataError naming the file that is missing, unreadable or of another size.
        """
        return self.source.load()

    def load_mask(self) -> NDArray[np.bool_] | None:
        """(H, W) bool, True on the defect; all False for good parts; None if the pixels are
        unknown.

        Raises: DataError if the mask is unreadable or has another size than the image.
        """
        if self.truth == "unknown":
            return None
        if self.truth == "clean":
            return np.zeros(self.source.size(), np.bool_)
        assert isinstance(self.source, ImageFiles)  # a recording has no masks
        return self.source.load_mask(self.truth)


Read = tuple[list[Sample], CameraInfo, bool, tuple[str, ...]]
"""A reader's result: samples in order, camera, whether all have depth, notes for the user."""
