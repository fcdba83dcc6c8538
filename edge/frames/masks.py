"""Masks as labelling tools write them: which pixels are the defect, or one sentence why that cannot be told.

Label maps (few values: 0 is normal, any other a defect, as in VisA and MVTec 3D-AD), drawings with soft edges or JPEG's
noise (many values: the upper half is the defect), palettes, and drawings in the alpha channel.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.images import DAMAGE, read_bytes, read_header, read_tiff

MOST_LABELS = 16        # distinct values of a label map; a smooth or compressed drawing has more
MOST_COVERED = 0.8      # of the image: a mask beyond it marks no place
BORDER_MARKED = 0.9     # of the outermost pixels: an inverted mask marks them, a defect does not

Mask = NDArray[np.bool_]


def read_mask(path: Path) -> tuple[Mask, int]:
    """(H, W) bool as stored, True on the defect, and the mask's own EXIF orientation.

    Raises: DataError if the file is damaged, marks nothing, nearly everything, or looks inverted.
    """
    header = read_header(path)
    if header.format in ("JPEG", "MPO") and _grey(path).max() < 128:
        raise DataError(f"{path} is a JPEG of small numbers, which JPEG does not keep: save the mask as PNG")
    readings = _readings(path, header.format, header.mode)
    plausible = [mask for mask in readings if not _covers(mask)]
    if not plausible:
        share = float(readings[0].mean())
        raise DataError(
            f"{path} marks {share:.0%} of the image as defect: it looks inverted, or has a white background; white on "
            "black is expected"
        )
    mask = plausible[0]
    if any(not np.array_equal(mask, other) for other in plausible[1:]):
        raise DataError(
            f"{path} can be read in two ways, by its colors and by its palette or alpha channel: save it white on black"
        )
    if not mask.any():
        raise DataError(f"{path} marks nothing, though its image is called defective: draw it or move the image")
    return mask, header.turn


def _readings(path: Path, form: str, mode: str) -> list[Mask]:
    """What the file may mean: one mask, or for palettes and alpha channels two."""
    from PIL import Image

    data = read_bytes(path)
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
            if mode == "P":
                by_index = np.asarray(image) > 0
                return [by_index, _marked(np.asarray(image.convert("RGB")).max(axis=2))]
            if image.has_transparency_data:
                layers = np.asarray(image.convert("RGBA"))
                return _by_alpha(layers[..., 3], layers[..., :3].max(axis=2))
    except DAMAGE as error:
        raise DataError(f"{path} is not a mask that can be decoded: {error}") from error
    grey = _grey(path)
    return [grey > 127] if form in ("JPEG", "MPO") else [_marked(grey)]


def _by_alpha(alpha: NDArray[np.uint8], color: NDArray[np.uint8]) -> list[Mask]:
    """The alpha channel where it says anything, and the color where that says anything among what is opaque."""
    if (alpha == alpha.flat[0]).all():
        return [_marked(color)]
    opaque = _marked(alpha)
    if (color[opaque] == color[opaque].flat[0]).all() if opaque.any() else True:
        return [opaque]
    return [opaque, _marked(color)]


def _grey(path: Path) -> NDArray[Any]:
    """(H, W), the brightest channel; 16-bit values as they are."""
    import cv2

    if path.suffix.lower() in (".tif", ".tiff"):
        values = read_tiff(path)
    else:
        decoded = cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise DataError(f"{path} is not a mask that can be decoded: it is damaged, cut off or of another format")
        values = np.asarray(decoded)
    return values if values.ndim == 2 else values[..., :3].max(axis=-1)


def _marked(values: NDArray[Any]) -> Mask:
    """Any value but 0 in a label map; the upper half of the values in a drawing."""
    if values.dtype == np.bool_ or len(np.unique(values)) <= MOST_LABELS:
        return np.asarray(values, np.bool_)
    full = 255 if values.dtype == np.uint8 else values.max()
    return np.asarray(values.astype(np.float64) > full / 2)


def _covers(mask: Mask) -> bool:
    """Whether it marks nearly everything, or more than half with nearly the whole border."""
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    share = float(mask.mean())
    return share > MOST_COVERED or (share > 0.5 and float(border.mean()) > BORDER_MARKED)
