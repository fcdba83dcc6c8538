"""Image files as arrays. Every failure is a DataError that names the file; nothing is guessed.

Each format is decoded by the library that is strictest about it: simplejpeg refuses a JPEG that is
damaged inside, where others fill in gray; Pillow refuses a PNG with a wrong checksum. OpenCV and
tifffile deliver 16-bit values, which Pillow would cut to 8 bits; OpenCV and Pillow decode the TIFF
compressions for which tifffile has no codec.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge import files
from edge.errors import DataError
from edge.frames.reading import AS_IS, Reading

if TYPE_CHECKING:
    from PIL import Image as PillowImage

ORIENTATION = 0x0112  # EXIF 2.32, section 4.6.4 A: orientation of the stored pixels
IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE = 0x0100, 0x0101, 0x0102  # TIFF 6.0, section 8
# PhotometricInterpretation; PlanarConfiguration, channel after channel
MIN_IS_WHITE, SEPARATE = (0, 2)
# in tifffile's messages about missing codecs: new and old versions
NO_CODEC = ("imagecodecs", "not supported")
BACK = {6: 8, 8: 6}  # the inverse of each orientation; the others are their own inverse
# bars of a letterboxed image: ImageNet's mean, which is 0 for a backbone
FILL = (124, 116, 104)
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Header:
    """The header of an image file.

    height, width: of the stored pixels. turn: EXIF orientation, 1 to 8. bits: of a value. pages:
    images in the file.
    """

    format: str
    mode: str
    height: int
    width: int
    turn: int
    bits: int
    pages: int

    def upright(self) -> tuple[int, int]:
        """Height and width in pixels as a viewer shows the image."""
        return (self.width, self.height) if self.turn > 4 else (self.height, self.width)


def read_header(path: Path) -> Header:
    """Format, size, orientation and bits per value, without the pixels. Raises: DataError."""
    data = read_bytes(path)
    with _opened(path, data) as image:
        return _header(path, image, data)


def read_color(path: Path, reading: Reading = AS_IS) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, upright by its EXIF orientation; gray images have three equal channels.

    Raises: DataError for a damaged file, transparency, CMYK, several pages, or 16-bit values if it
        is unknown how many bits count.
    """
    pixels, header = read_stored_color(path, reading)
    return np.asarray(turned(pixels, header.turn), np.uint8)


def read_stored_color(path: Path, reading: Reading = AS_IS) -> tuple[NDArray[np.uint8], Header]:
    """As `read_color`, but with the pixels as stored, and the header with their orientation."""
    data = read_bytes(path)
    with _opened(path, data) as image:
        header = _header(path, image, data)
        # a phone's JPEG may hold a preview as a second image
        if header.pages > 1 and header.format not in ("JPEG", "MPO"):
            raise DataError(f"{path} holds {header.pages} images: save each in a file of its own")
        if header.format in ("JPEG", "MPO"):
            return _decoded_jpeg(path, data, header), header
        if header.bits > 8:
            return _eight_bits(path, _wide_values(path, data, header), reading.color_bits), header
        pixels = _decoded_by_pillow(path, image)
        # Pillow's TIFF
        turned_already = header.turn != 1 and int(image.getexif().get(ORIENTATION, 1) or 1) == 1
        return (
            turned(pixels, BACK.get(header.turn, header.turn)) if turned_already else pixels
        ), header


def largest_value(path: Path) -> int:
    """The largest value of a 16-bit color image; 0 for an 8-bit image. Raises: DataError."""
    data = read_bytes(path)
    with _opened(path, data) as image:
        header = _header(path, image, data)
    return int(_wide_values(path, data, header).max()) if header.bits > 8 else 0


def read_depth(path: Path) -> NDArray[np.uint16]:
    """(H, W) uint16 counts, 0 = no reading. Raises: DataError."""
    data = read_bytes(path)
    with _opened(path, data) as image:
        header = _header(path, image, data)
        if header.bits != 16 or header.mode.startswith(("RGB", "LA", "CMYK")):
            raise DataError(
                f"{path} has {header.bits}-bit {header.mode} values, depth is one channel of uint16"
                " counts (0 = no reading): record the z16 stream itself, not a picture of it"
            )
    counts = _wide_values(path, data, header)
    if counts.ndim != 2:
        raise DataError(
            f"{path} has {counts.shape[2]} channels, depth is one channel of uint16 counts"
        )
    return counts


def turned(pixels: NDArray[Any], turn: int) -> Any:
    """(H, W, ...) pixels as a viewer shows them.

    turn: EXIF orientation; 1 changes nothing (EXIF 2.32, section 4.6.4 A).
    """
    if turn in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def letterboxed(color: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image (H, W, 3) scaled to fit size = (width, height) in its proportions, with bars of
    FILL.
    """
    import cv2

    left, top, width, height = letterbox_window(color.shape[:2], size)
    shrinks = width < color.shape[1]
    inside = cv2.resize(
        color, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    whole = np.empty((size[1], size[0], 3), np.uint8)
    whole[:] = FILL
    whole[top : top + height, left : left + width] = inside
    return whole


def letterbox_window(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of an image of `shape` (H, W) letterboxed to size =
    (width, height).
    """
    scale = min(size[0] / shape[1], size[1] / shape[0])
    width, height = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
    return (size[0] - width) // 2, (size[1] - height) // 2, width, height


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises: DataError if it cannot be read or is empty."""
    data = files.read_bytes(path, DataError)
    if not data:
        raise DataError(f"{path} is empty: copy it again")
    return data


def _opened(path: Path, data: bytes) -> PillowImage.Image:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about damaged EXIF and other tags: the pixels are intact
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise DataError(
            f"{path} has more than {most:.3g} million pixels, the most that is read: reduce or"
            " crop it"
        ) from error
    except DAMAGE as error:
        raise _damaged(path, _why_not(data)) from error


def _why_not(data: bytes) -> str:
    """The error of the decoder that belongs to the first bytes; Pillow itself hides it."""
    from PIL import Image

    for factory, accepts in list(Image.OPEN.values()):
        if accepts is None or accepts(data[:16]) is not True:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                factory(BytesIO(data), "")
        except DAMAGE as error:
            return str(error) or type(error).__name__
    return "its first bytes belong to no supported format"


def _header(path: Path, image: PillowImage.Image, data: bytes) -> Header:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF
            return _told_by(image, data)
    except DAMAGE as error:
        raise _damaged(path, str(error)) from error


def _told_by(image: PillowImage.Image, data: bytes) -> Header:
    form = str(image.format)
    bits = 16 if image.mode.startswith(("I", "F")) else 8
    width, height = image.size
    if form == "PNG":
        # IHDR (PNG 3, section 11.2.1): Pillow hides it in RGB images
        bits = 16 if data[24] == 16 else 8
    elif form == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        told = tags.get(BITS_PER_SAMPLE, (8,))
        bits = max(told if isinstance(told, tuple) else (told,))
        # Pillow reports them after turning
        width, height = (tags.get(IMAGE_WIDTH, width), tags.get(IMAGE_LENGTH, height))
    # Pillow decodes a PNG to find out that it has no EXIF
    tagged = form != "PNG" or b"eXIf" in data
    turn = int(image.getexif().get(ORIENTATION, 1) or 1) if tagged else 1
    pages = int(getattr(image, "n_frames", 1))
    return Header(form, image.mode, height, width, turn if 1 <= turn <= 8 else 1, bits, pages)


def _decoded_jpeg(path: Path, data: bytes, header: Header) -> NDArray[np.uint8]:
    import simplejpeg

    if header.mode == "CMYK":
        raise DataError(f"{path} is CMYK, made for print: save it as RGB")
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True), np.uint8)
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _decoded_by_pillow(path: Path, image: PillowImage.Image) -> NDArray[np.uint8]:
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise DataError(f"{path} has {image.mode} values: save it as RGB or gray")
    try:
        image.load()
        if image.has_transparency_data:
            color = np.asarray(image.convert("RGBA"))
            if (color[..., 3] < 255).any():
                raise DataError(
                    f"{path} has transparent pixels, which show nothing: save it without an alpha"
                    " channel"
                )
            return np.ascontiguousarray(color[..., :3])
        return np.array(image.convert("RGB"))
    except DAMAGE as error:
        raise _damaged(path, str(error)) from error


def _wide_values(path: Path, data: bytes, header: Header) -> NDArray[np.uint16]:
    """(H, W) or (H, W, 3) uint16 of a 16-bit file, as stored.

    Raises: DataError for any other kind of values.
    """
    if header.format == "TIFF":
        values = read_tiff(path)
    elif header.format == "PNG":
        values = _decoded_by_opencv(path, data)
    else:
        raise DataError(
            f"{path} is a {header.format} with {header.mode} values: save it as PNG or TIFF"
        )
    if values.dtype != np.uint16 or values.ndim not in (2, 3):
        raise DataError(
            f"{path} holds {values.dtype} {values.shape}: expected whole numbers of 8 or 16 bits"
        )
    if values.ndim == 3 and values.shape[2] in (2, 4):
        if (values[..., -1] < 65535).any():
            raise DataError(
                f"{path} has transparent pixels, which show nothing: save it without an alpha"
                " channel"
            )
        values = values[..., :-1]
    return np.ascontiguousarray(
        values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    )


def _decoded_by_opencv(path: Path, data: bytes) -> NDArray[Any]:
    """A 16-bit PNG, channels in RGB order; Pillow has checked its checksums, which OpenCV
    ignores.
    """
    import cv2
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
    except DAMAGE as error:
        raise _damaged(path, str(error)) from error
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise _damaged(path, "OpenCV cannot decode it")
    if values.ndim == 3:
        values = values[..., [2, 1, 0, *range(3, values.shape[2])]]
    return np.asarray(values)


def _eight_bits(path: Path, values: NDArray[np.uint16], bits: int | None) -> NDArray[np.uint8]:
    largest = int(values.max())
    if bits is None:
        raise DataError(
            f"{path} is 16-bit color (largest value {largest}), and how many of the bits count (10,"
            ' 12, 14 or 16) is not known here: say "color_bits" in camera.json, or save 8-bit'
            " images"
        )
    if largest >= 1 << bits:
        raise DataError(
            f"{path} has a value of {largest}, more than the {bits} bits that the product's images"
            " have"
        )
    scaled = np.rint(values.astype(np.float32) * np.float32(255 / ((1 << bits) - 1))).astype(
        np.uint8
    )
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2)


def read_tiff(path: Path) -> NDArray[Any]:
    """The only image of a TIFF, of any type: (H, W) or (H, W, C); in whole numbers 0 is black.

    Raises: DataError.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if not file.series:
                raise _damaged(path, "it holds no image")
            if len(file.series) != 1:
                raise DataError(
                    f"{path} holds {len(file.series)} images: save each in a file of its own"
                )
            page: Any = file.pages[0]
            try:
                values = np.asarray(file.asarray())
            except ValueError as error:
                if not any(word in str(error) for word in NO_CODEC):
                    raise
                tag = page.tags.get(ORIENTATION)
                turn = int(tag.value) if tag is not None else 1
                values = np.asarray(turned(_compressed_tiff(path, page), BACK.get(turn, turn)))
                if values.itemsize == 1:
                    return values  # Pillow has turned it
            if file.series[0].axes == "SYX" and values.ndim == 3 and page.planarconfig == SEPARATE:
                values = np.moveaxis(values, 0, 2)
            if page.photometric != MIN_IS_WHITE:
                return values
            if values.dtype == np.bool_:
                # tifffile writes MIN_IS_WHITE for every bool array, also where 1 is white
                return values if page.software.startswith("tifffile") else ~values
            return (
                np.asarray(np.iinfo(values.dtype).max - values)
                if values.dtype.kind == "u"
                else values
            )
    except (tifffile.TiffFileError, KeyError, RuntimeError, ZeroDivisionError, *DAMAGE) as error:
        raise _damaged(path, str(error)) from error


def _compressed_tiff(path: Path, page: Any) -> NDArray[Any]:
    """LZW, CCITT and other compressions that tifffile leaves to another package; upright, and with
    0 as black up to 8 bits.
    """
    import cv2
    from PIL import Image

    data = read_bytes(path)
    if page.bitspersample <= 8:
        with Image.open(BytesIO(data)) as image:
            image.load()
            if image.mode not in ("L", "LA", "P", "RGB", "RGBA"):
                return np.asarray(image.convert("L" if image.mode == "1" else "RGB"))
            return np.asarray(image)
    if page.planarconfig == SEPARATE and page.samplesperpixel > 1:
        raise DataError(
            f"{path} holds compressed planes of {page.bitspersample} bits: save it without"
            " compression"
        )
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _damaged(path, str(error.err)) from error
    if values is None or (values.dtype.kind, values.itemsize) != (
        page.dtype.kind,
        page.dtype.itemsize,
    ):
        raise _damaged(path, f"its {page.compression.name} compressed pixels cannot be unpacked")
    return np.asarray(
        values if values.ndim == 2 else values[..., [2, 1, 0, *range(3, values.shape[2])]]
    )


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is not an image that can be decoded: it is damaged, cut off or of another format"
        f" ({why})"
    )
