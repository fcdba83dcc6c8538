"""Tiny data sets in every layout, for the tests of the readers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

HEIGHT, WIDTH = 20, 24
FOCAL, CENTER_X, CENTER_Y = 30.0, 11.25, 9.5


def color_image(seed: int) -> NDArray[np.uint8]:
    """(20, 24, 3) RGB, different for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def counts_image(seed: int) -> NDArray[np.uint16]:
    """(20, 24) counts around 3000 with some pixels unread."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2500, 3500, (HEIGHT, WIDTH)).astype(np.uint16)
    counts[rng.random((HEIGHT, WIDTH)) < 0.1] = 0
    return counts


def cloud(counts: NDArray[np.uint16], unit: float = 0.0001) -> NDArray[np.float32]:
    """The organized point cloud (20, 24, 3) of the counts, meters."""
    z = counts * unit
    x = (np.arange(WIDTH) - CENTER_X) / FOCAL * z
    y = ((np.arange(HEIGHT) - CENTER_Y) / FOCAL)[:, None] * z
    return np.stack([x, y, z], -1).astype(np.float32)


def write_rgb(path: Path, image: NDArray[np.generic]) -> Path:
    """Write RGB or one-channel pixels, with the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)
    return path


def spot_mask() -> NDArray[np.uint8]:
    """A mask of six pixels."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4:6, 7:10] = 255
    return mask


def write_mvtec(root: Path) -> Path:
    """MVTec AD: 3 train (one gray, one jpg), 2 good and 2 scratched test images, 1 without
    masks.
    """
    write_rgb(root / "train/good/000.png", color_image(0))
    write_rgb(root / "train/good/001.png", color_image(1)[..., 0])
    write_rgb(root / "train/good/002.jpg", color_image(2))
    for index in range(2):
        write_rgb(root / f"test/good/{index:03d}.png", color_image(10 + index))
        write_rgb(root / f"test/scratch/{index:03d}.png", color_image(20 + index))
        write_rgb(root / f"ground_truth/scratch/{index:03d}_mask.png", spot_mask())
    write_rgb(root / "test/scratch_nomask/000.png", color_image(30))
    return root


def write_mvtec3d(root: Path, *, with_depth: bool = True) -> Path:
    """MVTec 3D-AD: 2 train, 1 validation, 1 good and 1 dented test image."""
    names = (
        "train/good/000",
        "train/good/001",
        "validation/good/000",
        "test/good/000",
        "test/dent/000",
    )
    for seed, name in enumerate(names):
        folder, number = root / Path(name).parent, Path(name).name
        write_rgb(folder / f"rgb/{number}.png", color_image(seed))
        if with_depth:
            (folder / "xyz").mkdir(exist_ok=True)
            tifffile.imwrite(
                folder / f"xyz/{number}.tiff", cloud(counts_image(seed)), photometric="rgb"
            )
        if name.startswith("test"):
            write_rgb(
                folder / f"gt/{number}.png", spot_mask() if "dent" in name else 0 * spot_mask()
            )
    return root


def write_frames(root: Path, count: int = 3, *, with_depth: bool = True) -> Path:
    """The folder layout."""
    for number in range(count):
        write_rgb(root / f"{number:04d}_color.png", color_image(number))
        if with_depth:
            write_rgb(root / f"{number:04d}_depth.png", counts_image(number))
    pinhole = {"fx": FOCAL, "fy": FOCAL, "cx": CENTER_X, "cy": CENTER_Y}
    text = json.dumps({"width": WIDTH, "height": HEIGHT, "depth_unit_m": 0.0001, **pinhole})
    (root / "intrinsics.json").write_text(text)
    return root


def write_visa(root: Path) -> Path:
    """VisA as published: `root` is a category, its split table lies beside it and lists another
    category, too.

    2 normal images train, 1 normal and 2 anomalous ones test; masks hold class numbers instead of
    255.
    """
    rows = ["object,split,label,image,mask"]
    for number in range(3):
        image = f"Data/Images/Normal/{number:04d}.JPG"
        write_rgb(root / image, color_image(number))
        rows.append(f"{root.name},{'train' if number < 2 else 'test'},normal,{root.name}/{image},")
    for number in range(2):
        image, mask = (
            f"Data/Images/Anomaly/{number:03d}.JPG",
            f"Data/Masks/Anomaly/{number:03d}.png",
        )
        write_rgb(root / image, color_image(20 + number))
        write_rgb(root / mask, spot_mask() // 255 * (number + 1))
        rows.append(f"{root.name},test,anomaly,{root.name}/{image},{root.name}/{mask}")
    rows.append("other,train,normal,other/Data/Images/Normal/0000.JPG,")
    table = root.parent / "split_csv" / "1cls.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_text("\n".join(rows) + "\n")
    return root


def write_btad(root: Path) -> Path:
    """BTAD as published in category 01: .bmp images, .png masks; 2 train, 1 good and 2 defective
    test images.
    """
    for seed, name in enumerate(
        ("train/ok/0000", "train/ok/0001", "test/ok/0002", "test/ko/0000", "test/ko/0001")
    ):
        write_rgb(root / f"{name}.bmp", color_image(seed))
        if "ko" in name:
            write_rgb(root / f"ground_truth/ko/{Path(name).name}.png", spot_mask())
    return root
