"""A synthetic product on disk: MVTec 3D-AD's layout, camera.json, defects.json, the empty table and
a belt; scene.json where the scene is another than the seed's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from edge.errors import DataError
from edge.files import write_json
from trainer.synthetic.products.stations import open_station
from trainer.synthetic.scene import CROP, HEIGHT, WIDTH, Scene, Station
from trainer.synthetic.scene_change import UNCHANGED, SceneChange
from trainer.synthetic.scene_defects import GROUPS

FRAMES_PER_PART, FRAMES_BETWEEN = 8, 5
DEFECTIVE_SHARE = 0.4
PNG_LEVEL = 1
EXPOSURE_US, GAIN = 8000.0, 16.0  # of the camera in the seed's scene
# x and y are rounded to 8 micrometers: files a third smaller, intrinsics still exact
XY_STEP_M = 2.0**-17


@dataclass(frozen=True)
class Amounts:
    """How many images: per split, per defect type, parts on the belt (0: no belt), frames of the
    empty table.
    """

    train: int = 60
    validation: int = 20
    test: int = 20
    per_defect: int = 5
    belt: int = 24
    empty: int = 30


def write_product(
    product: str, folder: Path, amounts: Amounts, seed: int, change: SceneChange = UNCHANGED
) -> Iterator[str]:
    """Write the product into `folder`, naming each finished piece. Same arguments, same bytes; same
    seed, same parts, whatever the scene.

    Raises: DataError if the folder already holds a product.
    """
    if (folder / "camera.json").exists():
        raise DataError(f"{folder} already holds a product: remove it or name another folder")
    station = open_station(product, seed, change)
    for split, count in (
        ("train", amounts.train),
        ("validation", amounts.validation),
        ("test", amounts.test),
    ):
        for index in range(count):
            scene, rng = _part(station, split, index, "good")
            _write_sample(
                station, folder / split / "good", index, scene, rng, with_mask=split == "test"
            )
        yield f"{split}: {count} good"
    if change != UNCHANGED:
        write_json(folder / "scene.json", change.plain())
    write_json(folder / "defects.json", _write_defects(station, folder, amounts.per_defect))
    yield f"test: {amounts.per_defect} of each of {len(station.defects())} defects"
    _write_empty(station, folder / "station" / "empty", amounts.empty)
    if amounts.belt:
        _write_belt(station, folder / "station" / "belt", amounts.belt)
        yield f"belt: {amounts.belt} parts"
    folders = {"empty": "station/empty", "belt": "station/belt" if amounts.belt else None}
    write_json(folder / "camera.json", _camera_json(station) | folders)


def _part(
    station: Station, purpose: str, index: int, defect: str
) -> tuple[Scene, np.random.Generator]:
    rng = station.random(purpose, index)
    return station.part(rng, defect), rng


def _write_defects(station: Station, folder: Path, per_defect: int) -> list[dict[str, object]]:
    """The defective test images; one record each, for the report."""
    records: list[dict[str, object]] = []
    for defect in station.defects():
        for index in range(per_defect):
            scene, rng = _part(station, f"test/{defect}", index, defect)
            _write_sample(station, folder / "test" / defect, index, scene, rng, with_mask=True)
            truth = asdict(scene.truth) if scene.truth is not None else {}
            rounded = {
                key: round(value, 5) if isinstance(value, float) else value
                for key, value in truth.items()
            }
            records.append({"name": f"test/{defect}/{index:03d}", **rounded})
    return records


def _write_sample(
    station: Station,
    folder: Path,
    index: int,
    scene: Scene,
    rng: np.random.Generator,
    *,
    with_mask: bool,
) -> None:
    color, depth = station.capture(scene, rng)
    for kind in ("rgb", "xyz", "gt") if with_mask else ("rgb", "xyz"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    _write_png(folder / "rgb" / f"{index:03d}.png", color[..., ::-1])
    _write_xyz(folder / "xyz" / f"{index:03d}.tiff", depth, station)
    if with_mask:
        _write_png(folder / "gt" / f"{index:03d}.png", scene.mask.astype(np.uint8) * 255)


def _write_png(path: Path, image: NDArray[np.generic]) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL]):
        raise DataError(f"{path} cannot be written")


def _write_xyz(path: Path, depth: NDArray[np.uint16], station: Station) -> None:
    """Organized point cloud (H, W, 3) float32 meters; all zero where there is no reading."""
    fx, fy, cx, cy = station.intrinsics
    z = depth.astype(np.float64) * station.camera.unit
    x = (np.arange(WIDTH) - cx) / fx * z
    y = ((np.arange(HEIGHT) - cy) / fy)[:, None] * z
    xyz = np.stack(
        [np.round(x / XY_STEP_M) * XY_STEP_M, np.round(y / XY_STEP_M) * XY_STEP_M, z], -1
    ).astype(np.float32)
    level = {"level": PNG_LEVEL}
    tifffile.imwrite(
        path, xyz, photometric="rgb", compression="zlib", compressionargs=level, metadata=None
    )


def _write_frame(
    station: Station, folder: Path, number: int, scene: Scene, rng: np.random.Generator
) -> None:
    color, depth = station.capture(scene, rng)
    _write_png(folder / f"{number:04d}_color.png", color[..., ::-1])
    _write_png(folder / f"{number:04d}_depth.png", depth)


def _write_camera(station: Station, folder: Path) -> None:
    """intrinsics.json and camera.json of a folder of frames: the same camera as the product's."""
    write_json(folder / "camera.json", _camera_json(station))
    fx, fy, cx, cy = station.intrinsics
    write_json(
        folder / "intrinsics.json",
        {
            "width": WIDTH,
            "height": HEIGHT,
            "depth_unit_m": station.camera.unit,
            "fx": fx,
            "fy": fy,
            "cx": cx,
            "cy": cy,
        },
    )


def _write_empty(station: Station, folder: Path, frames: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scene = station.empty(station.random("empty", 0))
    rng = station.random("empty noise", 0)
    for number in range(frames):
        _write_frame(station, folder, number, scene, rng)
    _write_camera(station, folder)


def _write_belt(station: Station, folder: Path, parts: int) -> None:
    """Parts one after the other, each standing for some frames, with the empty table before,
    between and after.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = _belt_kinds(station, parts)
    empty = station.empty(station.random("belt empty", 0))
    noise = station.random("belt noise", 0)
    truth: list[dict[str, object]] = []
    number = 0
    for index, defect in enumerate([*kinds, None]):
        for _ in range(FRAMES_BETWEEN):
            _write_frame(station, folder, number, empty, noise)
            number += 1
        if defect is None:
            break
        scene, _ = _part(station, "belt", index, defect)
        shown = [number, number + FRAMES_PER_PART - 1]
        truth.append(
            {"part": index, "defect": defect, "group": GROUPS.get(defect), "frames": shown}
        )
        for _ in range(FRAMES_PER_PART):
            _write_frame(station, folder, number, scene, noise)
            number += 1
    write_json(folder / "truth.json", truth)
    _write_camera(station, folder)


def _belt_kinds(station: Station, parts: int) -> list[str]:
    """A shuffled order of good parts and defects of every type."""
    defective = round(parts * DEFECTIVE_SHARE)
    types = station.defects()
    kinds = [types[i % len(types)] for i in range(defective)] + ["good"] * (parts - defective)
    order = station.random("belt order", 0).permutation(parts)
    return [kinds[i] for i in order]


def _camera_json(station: Station) -> dict[str, object]:
    return {
        "model": "virtual",
        "serial": f"virtual-{station.name}",
        "width": WIDTH,
        "height": HEIGHT,
        "fps": 30.0,
        "unit": station.camera.unit,
        "intrinsics": list(station.intrinsics),
        "fixed": True,
        "exposure_us": EXPOSURE_US * station.change.exposure,
        "gain": GAIN * station.change.gain,
        "white_balance": station.change.white_balance,
        "laser": None,
        "filters": [],
        "crop": list(CROP),
    }
