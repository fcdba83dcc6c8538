"""Masks of any labeling tool: which pixels are the defect, or why that is ambiguous.

A mask is a label map (flat regions: 0 is normal, any other value a defect, as in VisA and MVTec
3D-AD) or a drawing with soft edges or noise (the upper half of the values is the defect), in gray,
by a palette or in the alpha channel. JPEG and lossy WebP do not preserve labels, so that such masks
are drawings. A photo is refused.
"""

from __future__ import annotations

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.images import (
    BACK,
    DAMAGE,
    Header,
    read_bytes,
    read_header,
    read_stored_color,
    read_tiff,
    turned,
)

MOST_LABELS = 16  # up to this many distinct small values are labels, however thin their regions
SMALL = 128  # a largest value below it is a label, not white
# this share of a label map lies in squares of one value; 0.4 of noise, less of soft edges
FLAT = 0.6
MOST_BETWEEN = 0.2  # at most this share of a drawing is neither black nor white; most of a photo is
MOST_COVERED = 0.8  # of the image: a larger mask locates nothing
BORDER_MARKED = 0.9  # of the outermost pixels: only an inverted mask marks nearly all

Mask = NDArray[np.bool_]


def read_mask(path: Path) -> tuple[Mask, int]:
    """(H, W) bool as stored, True on the defect, and the mask's own EXIF orientation.

    Raises: DataError if the file is damaged, marks nothing, nearly everything, looks inverted, or
    is a picture.
    """
    header = read_header(path)
    readings = _readings(path, header)
    plausible = [mask for mask in readings if not _covers(mask)]
    if not plausible:
        share = float(readings[0].mean())
        raise DataError(
            f"{path} marks {share:.0%} of the image as defect: it looks inverted, or has a white"
            " background; white on black is expected"
        )
    mask = plausible[0]
    if any(not np.array_equal(mask, other) for other in plausible[1:]):
        raise DataError(
            f"{path} can be read in two ways, by its colors and by its palette or alpha channel:"
            " save it white on black"
        )
    if not mask.any():
        raise DataError(
            f"{path} marks nothing, though its image is called defective: draw it or move the image"
        )
    return mask, header.turn


def _readings(path: Path, header: Header) -> list[Mask]:
    """The possible masks of the file, as stored: one, or two for palettes and alpha channels."""
    from PIL import Image

    form = header.format
    if form in ("JPEG", "MPO"):
        return [_lossy(path, "JPEG", read_stored_color(path)[0].max(axis=2))]
    data = read_bytes(path)
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
            turn = header.turn if form == "TIFF" else 1  # Pillow has already turned a TIFF
            back = partial(turned, turn=BACK.get(turn, turn))
            if header.mode == "P":
                by_index, color = (
                    back(np.asarray(image)) > 0,
                    back(np.asarray(image.convert("RGB"))),
                )
                brightest = color.max(axis=2)
                drawn = np.array_equal(brightest, color.min(axis=2)) and not _is_label_map(
                    brightest
                )
                return [_marked(path, brightest)] if drawn else [by_index, _marked(path, brightest)]
            if image.has_transparency_data:
                layers = back(np.asarray(image.convert("RGBA")))
                return _by_alpha(path, layers[..., 3], layers[..., :3].max(axis=2))
    except DAMAGE as error:
        raise DataError(f"{path} is not a mask that can be decoded: {error}") from error
    gray = _gray(path, form)
    return [
        (
            _lossy(path, "lossy WebP", gray)
            if form == "WEBP" and _is_lossy(data)
            else _marked(path, gray)
        )
    ]


def _by_alpha(path: Path, alpha: NDArray[np.uint8], color: NDArray[np.uint8]) -> list[Mask]:
    """The alpha channel unless it is uniform, and the color unless it is uniform within the opaque
    pixels.
    """
    if (alpha == alpha.flat[0]).all():
        return [_marked(path, color)]
    opaque = _marked(path, alpha)
    if (color[opaque] == color[opaque].flat[0]).all() if opaque.any() else True:
        return [opaque]
    return [opaque, _marked(path, color)]


def _gray(path: Path, form: str) -> NDArray[Any]:
    """(H, W), the brightest channel; 16-bit values as they are."""
    import cv2

    if form == "TIFF":
        values = read_tiff(path)
    else:
        decoded = cv2.imdecode(np.frombuffer(read_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise DataError(
                f"{path} is not a mask that can be decoded: it is damaged, cut off or of another"
                " format"
            )
        values = np.asarray(decoded)
    return values if values.ndim == 2 else values[..., :3].max(axis=-1)


def _is_lossy(webp: bytes) -> bool:
    """Whether any image chunk is "VP8 " (WebP container specification); "VP8L" is lossless."""
    at = 12
    while at + 8 <= len(webp):
        if webp[at : at + 4] in (b"VP8 ", b"VP8L"):
            return webp[at : at + 4] == b"VP8 "
        at += 8 + int.from_bytes(webp[at + 4 : at + 8], "little")
        at += at % 2
    return False


def _lossy(path: Path, form: str, gray: NDArray[np.uint8]) -> Mask:
    """The upper half of the values.

    Raises: DataError if the file seems to hold labels, which its compression does not preserve.
    """
    import cv2

    if gray.max() < SMALL:
        raise DataError(
            f"{path} is a {form} of small numbers, which {form} does not keep: save the mask as PNG"
        )
    _refuse_picture(path, gray)
    square = np.ones((5, 5), np.uint8)
    calm = cv2.dilate(gray, square).astype(np.int16) - cv2.erode(gray, square) <= 8
    between = calm & (gray > 25) & (gray < 230)
    if between.sum() > max(16.0, 0.02 * float((gray > 25).sum())):
        raise DataError(
            f"{path} is a {form} with regions that are neither black nor white (around"
            f" {np.median(gray[between]):.0f}), and {form} does not keep class numbers: save the"
            " mask as PNG"
        )
    return np.asarray(gray > 127)


def _marked(path: Path, values: NDArray[Any]) -> Mask:
    """Any value but 0 in a label map; the upper half of the values in a drawing.

    Raises: DataError for a picture.
    """
    if _is_label_map(values):
        return np.asarray(values, np.bool_)
    _refuse_picture(path, values)
    if values.max() <= _white(values) / 2:
        raise DataError(
            f"{path} is a drawing whose brightest value is {values.max()}, less than half of white:"
            " draw the defect white on black"
        )
    return np.asarray(values.astype(np.float64) > _white(values) / 2)


def _white(values: NDArray[Any]) -> float:
    return 255.0 if values.dtype == np.uint8 else float(values.max())


def _refuse_picture(path: Path, values: NDArray[Any]) -> None:
    shares = values.astype(np.float64) / _white(values)
    between = float(((shares > 0.1) & (shares < 0.9)).mean())
    if between > MOST_BETWEEN:
        raise DataError(
            f"{path} is a picture, not a mask ({between:.0%} of its pixels are neither black nor"
            " white): save the mask alone, white on black"
        )


def _is_label_map(values: NDArray[Any]) -> bool:
    """Whether the values are labels: the pixels below half of the largest value are flat, and not a
    soft edge of the others.
    """
    import cv2

    count = len(np.unique(values))
    if values.dtype == np.bool_ or count <= 2:
        return True
    largest = values.max()
    low, high = (values > 0) & (values <= largest / 2), values > largest / 2
    if not low.any():
        return bool((values == 0).any())
    flat = float(_in_squares(values)[low].mean())
    if largest < SMALL and count <= MOST_LABELS:
        return flat >= FLAT or float(low.mean()) < 0.1  # thin regions, but no noise
    parts = cv2.connectedComponents((values > 0).astype(np.uint8), connectivity=8)[1]
    alone = low & ~np.isin(parts, np.unique(parts[high]))
    if flat < FLAT:
        thin = count <= MOST_LABELS and float(low.mean()) < 0.05
        return thin and _in_strokes(np.where(alone, values, 0)) > 0.5 * float(low.sum())
    if alone.sum() > 0.05 * low.sum():
        return True
    if (
        len(np.unique(values[low])) == 1
        and cv2.erode(low.astype(np.uint8), np.ones((5, 5))).sum() > 0.2 * low.sum()
    ):
        return True  # one value, and broader than a soft edge
    near_zero, near_low = (_beside(high, one) for one in (values == 0, low))
    # in a drawing a soft edge of lower values separates the rest from 0
    return near_zero > 0.2 * (near_zero + near_low)


def _in_strokes(values: NDArray[Any]) -> int:
    """The number of pixels in connected regions of one value and at least 8 pixels, which noise
    does not form.
    """
    import cv2

    found = 0
    for value in np.unique(values[values > 0]):
        sizes = cv2.connectedComponentsWithStats(
            (values == value).astype(np.uint8), connectivity=8
        )[2][1:, -1]
        found += int(sizes[sizes >= 8].sum())
    return found


def _in_squares(values: NDArray[Any]) -> Mask:
    """Pixels of a 2x2 square of one value."""
    corner = values[:-1, :-1]
    same = (corner == values[1:, :-1]) & (corner == values[:-1, 1:]) & (corner == values[1:, 1:])
    found = np.zeros(values.shape, np.bool_)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            found[rows, columns] |= same
    return found


def _beside(one: Mask, other: Mask) -> int:
    """The number of neighboring pixel pairs with one pixel in each mask."""
    across = (one[:, 1:] & other[:, :-1]).sum() + (one[:, :-1] & other[:, 1:]).sum()
    return int(across + (one[1:] & other[:-1]).sum() + (one[:-1] & other[1:]).sum())


def _covers(mask: Mask) -> bool:
    """Whether the mask marks nearly everything, or nearly the whole border."""
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(mask.mean()) > MOST_COVERED or float(border.mean()) > BORDER_MARKED
