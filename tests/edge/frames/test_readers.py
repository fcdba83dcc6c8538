"""The readers agree with other implementations pixel by pixel, and refuse what they would have to
guess.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edge.errors import DataError
from edge.frames.camera_info import read_lens
from edge.frames.clouds import counts_of, intrinsics_of, read_cloud
from edge.frames.dataset import open_dataset
from edge.frames.images import FILL, largest_value, read_color, read_depth, read_header, read_tiff
from edge.frames.listing import images_in
from edge.frames.masks import read_mask
from edge.frames.reading import Reading
from tests.support.layouts import (
    cloud,
    color_image,
    counts_image,
    spot_mask,
    write_frames,
    write_mvtec,
    write_rgb,
)

ORIENTATION = 0x0112
HEIGHT, WIDTH = 61, 83


def smooth(seed: int = 0) -> NDArray[np.uint8]:
    """(61, 83, 3): JPEG's upsampling shows in gradients, noise would hide it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def by_pillow(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def encoded(path: Path, mode: str, **how: Any) -> Path:
    image = Image.fromarray(smooth())
    image = image.quantize(200) if mode == "P" else image.convert(mode)
    image.save(path, **how)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "how"),
    [
        ("a.png", "RGB", {}),
        ("a.png", "L", {}),
        ("a.png", "P", {}),
        ("a.png", "1", {}),
        ("a.png", "RGBA", {}),
        ("a.jpg", "RGB", {"quality": 80}),
        ("a.jpg", "RGB", {"quality": 95, "subsampling": 0}),
        ("a.jpg", "L", {}),
        ("a.jpg", "RGB", {"progressive": True}),
        ("a.bmp", "RGB", {}),
        ("a.bmp", "L", {}),
        ("a.bmp", "P", {}),
        ("a.tif", "RGB", {}),
        ("a.tif", "RGB", {"compression": "tiff_lzw"}),
        ("a.tif", "L", {}),
        ("a.tif", "P", {}),
        ("a.webp", "RGB", {"quality": 80}),
        ("a.webp", "RGB", {"lossless": True}),
    ],
)
def test_color_is_what_pillow_and_opencv_see(
    tmp_path: Path, name: str, mode: str, how: dict[str, Any]
) -> None:
    path = encoded(tmp_path / name, mode, **how)
    color = read_color(path)
    np.testing.assert_array_equal(color, by_pillow(path))
    other = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if other is not None and mode != "RGBA":
        np.testing.assert_array_equal(color, other[..., ::-1])


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_every_orientation_is_turned_as_viewers_do(tmp_path: Path, turn: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    path = tmp_path / f"a{suffix}"
    Image.fromarray(smooth()).save(path, exif=exif.tobytes() if suffix != ".tif" else exif)
    color = read_color(path)
    np.testing.assert_array_equal(color, by_pillow(path))
    assert read_header(path).upright() == color.shape[:2]


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("gray", [False, True])
def test_sixteen_bit_color_is_scaled_by_its_bits(
    tmp_path: Path, bits: int, suffix: str, gray: bool
) -> None:
    values = np.random.default_rng(bits).integers(0, 1 << bits, (9, 11, 3)).astype(np.uint16)
    values[0, 0] = (1 << bits) - 1
    stored = values[..., 0] if gray else values
    path = tmp_path / f"a{suffix}"
    if suffix == ".tiff":
        tifffile.imwrite(path, stored, photometric="minisblack" if gray else "rgb")
        np.testing.assert_array_equal(tifffile.imread(path), stored)
    else:
        write_rgb(path, stored)
    expected = np.floor(255 * values.astype(np.float64) / ((1 << bits) - 1) + 0.5)
    expected = np.repeat(expected[..., :1], 3, axis=2) if gray else expected
    np.testing.assert_allclose(read_color(path, Reading(None, bits)), expected, atol=0)
    assert largest_value(path) == (1 << bits) - 1
    with pytest.raises(DataError, match=f"{path.name} is 16-bit color .*color_bits"):
        read_color(path)
    if bits > 10:
        with pytest.raises(
            DataError, match=f"{path.name} has a value of {(1 << bits) - 1}, more than the 10 bits"
        ):
            read_color(path, Reading(None, 10))


def test_depth_counts_are_the_files(tmp_path: Path) -> None:
    counts = counts_image(3)
    np.testing.assert_array_equal(read_depth(write_rgb(tmp_path / "a.png", counts)), counts)
    tifffile.imwrite(tmp_path / "a.tif", counts)
    np.testing.assert_array_equal(read_depth(tmp_path / "a.tif"), counts)


Broken = Callable[[Path], None]


def save(mode: str, **how: Any) -> Broken:
    return lambda path: encoded(path, mode, **how) and None


def save_transparent(path: Path) -> None:
    image = Image.fromarray(smooth()).convert("RGBA")
    image.putpixel((3, 3), (0, 0, 0, 0))
    image.save(path)


def save_wrong_checksum(path: Path) -> None:
    data = bytearray(encoded(path, "RGB").read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def save_pages(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((2, 8, 9), np.uint8), photometric="minisblack", metadata=None)


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("a.jpg", save("CMYK"), "is CMYK, made for print: save it as RGB"),
        ("a.png", save_transparent, "has transparent pixels"),
        ("a.png", save_wrong_checksum, "cannot|is not an image that can be decoded"),
        ("a.tif", save_pages, "holds 2 images: save each in a file of its own"),
        (
            "a.tif",
            lambda path: tifffile.imwrite(path, np.zeros((8, 9), np.float32)),
            "holds float32",
        ),
        (
            "a.png",
            lambda path: path.write_bytes(b"GIF89a" + bytes(20)),
            "is not an image that can be decoded",
        ),
        ("a.png", lambda path: path.write_bytes(b""), "is empty: copy it again"),
        ("a.png", lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_what_is_no_color_image_is_said(
    tmp_path: Path, name: str, write: Broken, sentence: str
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(DataError, match=sentence) as caught:
        read_color(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- TIFFs that tifffile leaves to others, and what Pillow warns of ---


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize(
    "compression", [cv2.IMWRITE_TIFF_COMPRESSION_LZW, cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE]
)
@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 3)])
def test_a_tiff_as_opencv_writes_it(
    tmp_path: Path, kind: Any, compression: int, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(1).integers(0, 4000, shape).astype(kind)
    stored = values[..., ::-1] if len(shape) == 3 else values
    assert cv2.imwrite(str(tmp_path / "a.tif"), stored, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif"), values)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[100:300] = bytes(200)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tif is not an image that can be decoded"):
        read_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("turn", [1, 3, 6])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_compressed_tiff_is_read_as_stored(tmp_path: Path, turn: int, kind: Any) -> None:
    exif, values = Image.Exif(), smooth()[..., 0].astype(kind)
    exif[ORIENTATION] = turn
    Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_lzw", exif=exif)
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif"), values)


def test_a_tiff_whose_zero_is_white_is_no_negative(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (9, 11)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", 65535 - values, photometric="miniswhite")
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif"), values)


def test_planes_are_channels(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (9, 11, 3)).astype(np.uint16)
    planes = np.ascontiguousarray(np.moveaxis(values, 2, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(
        read_color(tmp_path / "a.tif", Reading(None, 16)), np.rint(values / 257)
    )


def test_a_jpeg_with_a_cut_exif_block_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera's maker"
    exif[0x011A] = 72.0
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=exif.tobytes()[:-20])
    assert read_color(tmp_path / "a.jpg").shape == (HEIGHT, WIDTH, 3)


# Pillow warns up to twice the limit, and fails beyond
@pytest.mark.parametrize("most", [3000, 1500])
def test_an_image_beyond_the_limit_says_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    path = encoded(tmp_path / "a.png", "RGB")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(
        DataError,
        match=rf"a\.png has more than {most / 1e6:g} million pixels, the most that is read",
    ):
        read_color(path)


def test_the_cause_is_the_decoders(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.png", "RGB")
    data = bytearray(path.read_bytes())
    data[30] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png is not an image that can be decoded.*checksum"):
        read_color(path)


# --- masks ---


def test_a_palette_is_read_by_number_or_by_color_whichever_marks_no_background(
    tmp_path: Path,
) -> None:
    truth = spot_mask() > 0
    black, red, white = (0, 0, 0), (200, 0, 0), (255, 255, 255)
    for zero, one, marked in ((black, red, 1), (white, black, 1), (white, black, 0)):
        image = Image.fromarray((truth == bool(marked)).astype(np.uint8), mode="P")
        image.putpalette([*zero, *one])
        image.save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png")[0], truth)


def test_a_large_defect_that_leaves_the_border_is_no_inverted_mask(tmp_path: Path) -> None:
    mask = np.zeros((20, 24), np.uint8)
    mask[2:18, 2:22] = 255
    assert read_mask(write_rgb(tmp_path / "m.png", mask))[0].mean() == pytest.approx(
        2 / 3, abs=0.01
    )


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (255 - spot_mask(), "looks inverted"),
        (np.full((20, 24), 255, np.uint8), "marks 100% of the image"),
        (np.zeros((20, 24), np.uint8), "marks nothing"),
    ],
)
def test_a_mask_that_marks_no_place_is_refused(
    tmp_path: Path, mask: NDArray[np.uint8], sentence: str
) -> None:
    path = write_rgb(tmp_path / "m.png", mask)
    with pytest.raises(DataError, match=sentence) as caught:
        read_mask(path)
    assert str(path) in str(caught.value)


def test_a_mask_of_two_meanings_is_refused(tmp_path: Path) -> None:
    layers = np.zeros((20, 24, 4), np.uint8)
    # alpha marks six pixels, color four of them
    layers[4:6, 7:10, 3], layers[4:6, 7:9, :3] = (255, 255)
    Image.fromarray(layers).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="can be read in two ways"):
        read_mask(tmp_path / "m.png")


def scratch_mask() -> NDArray[np.uint8]:
    """(96, 128), a line of 3 pixels' width."""
    return np.asarray(cv2.line(np.zeros((96, 128), np.uint8), (70, 57), (87, 69), 255, 3), np.uint8)


def large_mask() -> NDArray[np.uint8]:
    """(96, 128), 60 % of it marked and the border free."""
    return np.pad(np.full((72, 102), 255, np.uint8), ((12, 12), (13, 13)))


def numbered(count: int, step: int, kind: Any = np.uint8) -> NDArray[Any]:
    """(96, 128), instances of 2x3 pixels in rows that touch."""
    mask = np.zeros((96, 128), kind)
    for k in range(count):
        row, column = 10 + 2 * (k // 20), 10 + 4 * (k % 20)
        mask[row : row + 2, column : column + 3] = (k + 1) * step
    return mask


@pytest.mark.parametrize(
    "kind", ["lzw", "group4", "PNG", "miniswhite", "bool", "planes", "turned palette"]
)
def test_a_mask_named_tif_is_read_by_its_content(tmp_path: Path, kind: str) -> None:
    path, mask = tmp_path / "m.tif", scratch_mask()
    if kind == "lzw":
        cv2.imwrite(str(path), mask)
    elif kind == "group4":
        Image.fromarray(mask).convert("1").save(path, compression="group4")
    elif kind == "PNG":
        Image.fromarray(mask).save(path, format="PNG")
    elif kind == "miniswhite":
        tifffile.imwrite(path, 255 - mask, photometric="miniswhite")
    elif kind == "bool":
        tifffile.imwrite(path, mask > 0)
    elif kind == "planes":
        tifffile.imwrite(path, np.stack([mask] * 3), photometric="rgb", planarconfig="separate")
    else:
        exif, image = Image.Exif(), Image.fromarray((mask > 0).astype(np.uint8), mode="P")
        exif[ORIENTATION] = 6
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.save(path, exif=exif)
    np.testing.assert_array_equal(read_mask(path)[0], mask > 0)


def test_an_inverted_mask_of_a_large_defect_is_refused(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        read_mask(write_rgb(tmp_path / "m.png", large_mask()))[0], large_mask() > 0
    )
    with pytest.raises(DataError, match="marks 40% of the image as defect: it looks inverted"):
        read_mask(write_rgb(tmp_path / "m.png", 255 - large_mask()))


@pytest.mark.parametrize("kind", ["photo", "overlay", "erased", "jpg"])
def test_a_picture_is_no_mask(tmp_path: Path, kind: str) -> None:
    mask, photo = scratch_mask(), cv2.resize(smooth() // 2 + 50, (128, 96))
    path = tmp_path / ("m.jpg" if kind == "jpg" else "m.png")
    if kind == "erased":
        Image.fromarray(np.dstack([photo, 255 - mask])).save(path)
    else:
        photo[mask > 0] = (255, 0, 0) if kind == "overlay" else (20, 20, 20)
        write_rgb(path, photo)
    with pytest.raises(DataError, match=r"is a picture, not a mask"):
        read_mask(path)


def test_a_drawing_in_gray_is_refused(tmp_path: Path) -> None:
    soft = np.asarray(cv2.GaussianBlur(scratch_mask() // 3, (0, 0), 2), np.uint8)
    with pytest.raises(
        DataError, match=rf"brightest value is {soft.max()}, less than half of white"
    ):
        read_mask(write_rgb(tmp_path / "m.png", soft))


@pytest.mark.parametrize("levels", [2, 4])
def test_noise_of_few_levels_is_no_defect(tmp_path: Path, levels: int) -> None:
    mask = scratch_mask()
    noise = np.random.default_rng(0).integers(0, levels, mask.shape)
    path = write_rgb(tmp_path / "m.png", np.where(mask > 0, 255, noise).astype(np.uint8))
    np.testing.assert_array_equal(read_mask(path)[0], mask > 0)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("kind", ["8 levels", "16 colors", "16 levels"])
def test_soft_edges_of_few_levels_are_cut_at_half(tmp_path: Path, sigma: float, kind: str) -> None:
    soft = cv2.GaussianBlur(
        cv2.circle(np.zeros((96, 128), np.uint8), (60, 50), 14, 255, -1), (0, 0), sigma
    )
    path = tmp_path / "m.png"
    if kind == "16 colors":
        Image.fromarray(np.stack([soft] * 3, -1)).quantize(16).save(path)
    else:
        step = 32 if kind == "8 levels" else 16
        write_rgb(path, (soft // step * step).astype(np.uint8))
    found = read_mask(path)[0]
    assert (found != (soft > 127)).sum() < 0.15 * (soft > 127).sum()
    assert (found <= (soft > 90)).all()


def classes_of(shape: str) -> NDArray[np.uint8]:
    """(96, 128), classes 80, 160 and 255 as thin lines, or class 80 around class 255."""
    mask = np.zeros((96, 128), np.uint8)
    if shape == "thin":
        for row, value in ((10, 80), (30, 160), (50, 255)):
            cv2.line(mask, (10, row), (40, row + 9), value, 1)
    else:
        mask[20:60, 20:60], mask[30:50, 30:50] = 80, 255
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        numbered(25, 10),
        numbered(40, 1),
        numbered(40, 1, np.uint16),
        numbered(20, 3),
        numbered(2, 1),
        classes_of("thin"),
        classes_of("nested"),
    ],
)
def test_every_instance_of_a_label_map_is_a_defect(tmp_path: Path, mask: NDArray[Any]) -> None:
    np.testing.assert_array_equal(read_mask(write_rgb(tmp_path / "m.png", mask))[0], mask > 0)


@pytest.mark.parametrize(("suffix", "form"), [(".jpg", "JPEG"), (".webp", "lossy WebP")])
def test_lossy_compression_keeps_drawings_and_no_labels(
    tmp_path: Path, suffix: str, form: str
) -> None:
    path, mask = tmp_path / f"m{suffix}", scratch_mask()

    def save_lossy(values: NDArray[np.uint8]) -> Path:
        Image.fromarray(values).convert("RGB").save(path, quality=90)
        return path

    np.testing.assert_array_equal(read_mask(save_lossy(mask))[0], mask > 0)
    soft = np.asarray(cv2.GaussianBlur(large_mask(), (0, 0), 2), np.uint8)
    assert (read_mask(save_lossy(soft))[0] != (soft > 127)).mean() < 0.01
    with pytest.raises(DataError, match=f"is a {form} of small numbers"):
        read_mask(save_lossy((mask // 255 * 3).astype(np.uint8)))
    classes = np.zeros((96, 128), np.uint8)
    classes[20:40, 20:40], classes[50:70, 50:70] = 85, 170
    with pytest.raises(DataError, match=f"{form} does not keep class numbers"):
        read_mask(save_lossy(classes))


def test_a_cut_jpeg_mask_is_refused(tmp_path: Path) -> None:
    path = write_rgb(tmp_path / "m.jpg", scratch_mask())
    data = path.read_bytes()
    path.write_bytes(data[: int(0.6 * len(data))] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"m\.jpg is not an image that can be decoded"):
        read_mask(path)


# --- what belongs together ---


def turned_set(root: Path, turn: int, mask: NDArray[np.uint8]) -> Path:
    """An MVTec product whose defective image is stored so that `turn` sets it upright; its mask as
    given.
    """
    write_mvtec(root)
    path, exif = root / "test/scratch/000.png", Image.Exif()
    exif[ORIENTATION] = turn
    upright = Image.fromarray(color_image(20))
    stored = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[turn]
    upright.transpose(stored).save(path, exif=exif.tobytes())
    write_rgb(root / "ground_truth/scratch/000_mask.png", mask)
    return root


def scratch(root: Path) -> Any:
    return next(
        sample for sample in open_dataset(root).samples if sample.name == "test/scratch/000"
    )


@pytest.mark.parametrize("drawn_on", ["stored pixels", "image as shown"])
def test_a_mask_turns_with_its_image_where_its_size_tells(tmp_path: Path, drawn_on: str) -> None:
    mask = spot_mask() if drawn_on == "image as shown" else np.rot90(spot_mask(), 1)
    sample = scratch(turned_set(tmp_path, 6, np.ascontiguousarray(mask)))
    np.testing.assert_array_equal(sample.load().color, color_image(20))
    np.testing.assert_array_equal(sample.load_mask(), spot_mask() > 0)


def test_a_mask_that_may_stand_either_way_is_refused(tmp_path: Path) -> None:
    sample = scratch(turned_set(tmp_path, 3, spot_mask()))
    with pytest.raises(DataError, match=r"000\.png .*EXIF orientation \(3\).*000_mask\.png"):
        sample.load_mask()


@pytest.mark.parametrize("turn", [3, 6])
def test_depth_stays_on_its_color(tmp_path: Path, turn: int) -> None:
    write_frames(tmp_path, 1)
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    Image.fromarray(color_image(0)).save(tmp_path / "0000_color.png", exif=exif.tobytes())
    sample = open_dataset(tmp_path).samples[0]
    if turn == 3:
        with pytest.raises(DataError, match=r"0000_color\.png says by its EXIF orientation \(3\)"):
            sample.load()
        return
    frame = sample.load()
    np.testing.assert_array_equal(frame.color, color_image(0))
    np.testing.assert_array_equal(frame.depth, counts_image(0))


def test_one_name_in_two_formats_is_refused(tmp_path: Path) -> None:
    write_rgb(tmp_path / "000.png", color_image(0))
    write_rgb(tmp_path / "000.jpg", color_image(1))
    with pytest.raises(DataError, match=r"000\.png and 000\.jpg have one name"):
        images_in(tmp_path)


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "a.gif", "b.cr2", "0000_depth.npy", "cloud.PLY"])
def test_pictures_and_depth_of_other_kinds_are_never_left_out_silently(
    tmp_path: Path, name: str
) -> None:
    write_rgb(tmp_path / "000.png", color_image(0))
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=name):
        images_in(tmp_path)


def test_litter_is_skipped_and_sub_folders_are_not(tmp_path: Path) -> None:
    for name in (
        "000.png",
        "batch 2/001.png",
        "._000.png",
        "@eaDir/000.png/x.png",
        "__MACOSX/000.png",
        ".x/1.png",
    ):
        write_rgb(tmp_path / name, color_image(0))
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("lamp replaced")
    assert [path.name for path in images_in(tmp_path)] == ["000.png", "001.png"]


def test_depth_in_a_folder_of_another_name_is_said(tmp_path: Path) -> None:
    write_rgb(tmp_path / "train/good/rgb/000.png", color_image(0))
    write_rgb(tmp_path / "train/good/pcd/000.png", counts_image(0))
    with pytest.raises(DataError, match=r"train/good/pcd holds depth of a kind that is not read"):
        open_dataset(tmp_path)


# --- photos ---


def test_a_folder_of_photos_is_a_data_set(tmp_path: Path) -> None:
    names = ("IMG 0001.JPG", "Teil-ü.png", "a.bmp", "b.TIF", "c.webp")
    for name in names:
        Image.fromarray(color_image(1)).save(tmp_path / name)
    write_rgb(tmp_path / "good/005.png", color_image(5))
    write_rgb(tmp_path / "scratch/006.png", color_image(6))
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.has_depth, len(dataset.samples)) == ("photos", False, 7)
    assert {sample.defect for sample in dataset.samples} == {"", "good", "scratch"}
    assert [sample.name for sample in dataset.split("test")] == ["scratch/006"]
    assert any("scratch" in note for note in dataset.notes)
    assert all(sample.load().color.shape == (20, 24, 3) for sample in dataset.samples)


def test_one_photo_is_a_data_set_and_one_image_of_a_product_keeps_its_depth(tmp_path: Path) -> None:
    photo = write_rgb(tmp_path / "photo.png", color_image(4))
    (only,) = open_dataset(photo).samples
    np.testing.assert_array_equal(only.load().color, color_image(4))
    write_frames(tmp_path / "belt", 3)
    (one,) = open_dataset(tmp_path / "belt/0001_color.png").samples
    np.testing.assert_array_equal(one.load().depth, counts_image(1))


def write_cloud(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, cloud(counts_image(seed)), photometric="rgb")


@pytest.mark.parametrize("place", ["", "calibration/good", "good"])
def test_rgb_and_xyz_of_any_folder_are_good_parts(tmp_path: Path, place: str) -> None:
    for index in range(2):
        write_rgb(tmp_path / "set" / place / f"rgb/{index:03d}.png", color_image(index))
        write_cloud(tmp_path / "set" / place / f"xyz/{index:03d}.tiff", index)
    opened = tmp_path / "set" / (Path(place).parts[0] if place.startswith("calibration") else "")
    dataset = open_dataset(opened)
    assert (dataset.has_depth, [sample.defect for sample in dataset.samples]) == (
        True,
        ["good", "good"],
    )
    np.testing.assert_array_equal(dataset.samples[1].load().depth, counts_image(1))


def test_a_split_of_another_name_inside_a_product_is_read(tmp_path: Path) -> None:
    write_rgb(tmp_path / "train/good/rgb/000.png", color_image(0))
    write_cloud(tmp_path / "train/good/xyz/000.tiff", 0)
    write_rgb(tmp_path / "monday/good/rgb/000.png", color_image(7))
    write_cloud(tmp_path / "monday/good/xyz/000.tiff", 7)
    (camera := tmp_path / "camera.json").write_text(
        json.dumps(
            {
                "width": 24,
                "height": 20,
                "unit": 0.0001,
                "intrinsics": [31, 31, 11, 9],
                "serial": "A1",
            }
        )
    )
    (sample,) = open_dataset(tmp_path / "monday").samples
    assert camera.is_file()
    assert (sample.load().serial, sample.load().intrinsics.fx) == ("A1", 31)


@pytest.mark.parametrize(
    ("shape", "inside"), [((40, 60), (0, 5, 30, 20)), ((60, 40), (5, 0, 20, 30))]
)
def test_sizes_are_letterboxed_with_their_masks(
    tmp_path: Path, shape: tuple[int, int], inside: tuple[int, int, int, int]
) -> None:
    size = (30, 30)
    write_rgb(tmp_path / "good/000.png", np.full((*shape, 3), 200, np.uint8))
    write_rgb(tmp_path / "good/001.png", np.full((50, 50, 3), 10, np.uint8))
    dataset = open_dataset(tmp_path, Reading(size))
    frames = [sample.load() for sample in dataset.samples]
    left, top, width, height = inside
    bars = np.ones((30, 30), bool)
    bars[top : top + height, left : left + width] = False
    assert (frames[0].color[bars] == FILL).all()
    assert (frames[0].color[~bars] == 200).all()
    assert (frames[1].color == 10).all()
    assert (dataset.camera.width, dataset.camera.height) == size
    assert any("2 sizes" in note for note in dataset.notes)


def test_a_photo_taken_with_the_camera_turned_is_named(tmp_path: Path) -> None:
    for index in range(5):
        write_rgb(tmp_path / f"{index}.png", np.zeros((20, 24, 3), np.uint8))
    write_rgb(tmp_path / "5.png", np.zeros((24, 20, 3), np.uint8))
    with pytest.raises(DataError, match=r"5\.png is 20x24 pixels.*camera turned.*--size 24x20"):
        open_dataset(tmp_path).samples[-1].load()
    notes = open_dataset(tmp_path, Reading((24, 24))).notes
    assert any("5.png is portrait, most images are landscape" in note for note in notes)


# --- lenses and clouds ---

OWN = {
    "width": 24,
    "height": 20,
    "fx": 30.0,
    "fy": 31.0,
    "cx": 11.0,
    "cy": 9.0,
    "depth_unit_m": 0.001,
}


def lens_file(folder: Path, told: Any, name: str = "intrinsics.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(told), encoding="utf-8-sig")
    return path


@pytest.mark.parametrize(
    "told",
    [
        OWN,
        {**{k: v for k, v in OWN.items() if k not in ("cx", "cy")}, "ppx": 11.0, "ppy": 9.0},
        {
            "width": 24,
            "height": 20,
            "intrinsic_matrix": [30, 0, 0, 0, 31, 0, 11, 9, 1],
            "depth_scale": 1000,
        },
        {
            "width": 24,
            "height": 20,
            "intrinsic_matrix": [[30, 0, 11], [0, 31, 9], [0, 0, 1]],
            "depth_scale": 0.001,
        },
        {
            "image_width": 24,
            "image_height": 20,
            "K": [30, 0, 11, 0, 31, 9, 0, 0, 1],
            "depth_unit_m": 0.001,
        },
        {
            "image_width": 24,
            "image_height": 20,
            "camera_matrix": {"rows": 3, "cols": 3, "data": [30, 0, 11, 0, 31, 9, 0, 0, 1]},
            "depth_scale": 1000,
        },
    ],
)
def test_a_lens_in_the_words_of_any_tool(tmp_path: Path, told: dict[str, Any]) -> None:
    lens = read_lens(lens_file(tmp_path, told))
    assert (lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy) == (24, 20, 30, 31, 11, 9)
    assert lens.unit == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depth_unit_m": 1000}, "depth_unit_m 1000 cannot be"),
        ({"depth_unit_m": 0}, "depth_unit_m is 0, a number above 0 is needed"),
        ({"depth_unit_m": None}, "depth_unit_m is None"),
        (
            {"depth_scale": 0.0001},
            "says depth_unit_m 0.001 and depth_scale 0.0001: keep the one that is right",
        ),
        ({"depth_unit_m": "1 mm"}, "depth_unit_m is '1 mm'"),
        ({"fx": 0}, "fx: Input should be greater than 0"),
        ({"K": [1, 2, 3]}, "the camera matrix needs 3x3 numbers"),
    ],
)
def test_a_lens_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    path = lens_file(tmp_path, {**OWN, **change})
    with pytest.raises(DataError, match=sentence) as caught:
        read_lens(path)
    assert str(path) in str(caught.value)


def test_a_lens_without_a_unit_is_refused(tmp_path: Path) -> None:
    path = lens_file(tmp_path, {key: value for key, value in OWN.items() if key != "depth_unit_m"})
    with pytest.raises(
        DataError, match=r"does not say how many meters .*0\.001 for a RealSense D435"
    ):
        read_lens(path)


def test_two_files_that_disagree_about_the_unit_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path, 1)
    (tmp_path / "camera.json").write_text(json.dumps({"width": 24, "height": 20, "unit": 0.001}))
    with pytest.raises(
        DataError, match=r"camera\.json says .* 0\.001 m, intrinsics\.json 0\.0001 m"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("axes", [(1, 1, 1), (1, -1, -1), (1, 1, -1)])
def test_clouds_become_meters_before_the_camera(
    tmp_path: Path, scale: float, axes: tuple[int, int, int]
) -> None:
    plain = cloud(counts_image(1))
    tifffile.imwrite(
        tmp_path / "a.tiff",
        plain * np.float32(scale) * np.array(axes, np.float32),
        photometric="rgb",
    )
    found = read_cloud(tmp_path / "a.tiff")
    np.testing.assert_array_equal(counts_of(found.z, 1e-4), counts_image(1))
    np.testing.assert_allclose(intrinsics_of(found), (30, 30, 11.25, 9.5), rtol=1e-4)
    assert len(found.notes) == (scale > 1) + (axes[2] < 0)


def test_numbers_that_are_none_are_no_readings(tmp_path: Path) -> None:
    points = cloud(counts_image(1))
    points[0, :5, 2], points[1, :5, 0], points[2, :5] = np.inf, np.nan, -np.inf
    tifffile.imwrite(tmp_path / "a.tiff", points, photometric="rgb")
    found = read_cloud(tmp_path / "a.tiff")
    assert (found.z[:3, :5] == 0).all()
    np.testing.assert_allclose(intrinsics_of(found), (30, 30, 11.25, 9.5), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-6, 100.0, 1e6])
def test_a_cloud_at_no_distance_that_can_be_is_refused(tmp_path: Path, scale: float) -> None:
    tifffile.imwrite(
        tmp_path / "a.tiff", cloud(counts_image(1)) * np.float32(scale), photometric="rgb"
    )
    with pytest.raises(DataError, match=r"a\.tiff has z around .* no distance in meters"):
        read_cloud(tmp_path / "a.tiff")


def test_a_jpeg_with_a_second_picture_behind_it_is_read(tmp_path: Path) -> None:
    """Phones write a preview or their own data after the end of the image."""
    buffer = io.BytesIO()
    Image.fromarray(smooth()).save(buffer, "JPEG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue() + b"SEFT" + buffer.getvalue())
    assert read_color(tmp_path / "a.jpg").shape == (HEIGHT, WIDTH, 3)
