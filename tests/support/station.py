"""A station under a temporary root: the tiny bundle installed and calibrated, and belts drawn for
its camera.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from edge.config import EdgeConfig, parse_config
from edge.install.install import install_bundle
from edge.station.store import Store
from edge.station.trust import trust
from edge.types import Geometry, Intrinsics
from tests.support.tiny_bundle import (
    FOCAL,
    NORMAL_DEFECTS,
    PLANE,
    UNIT,
    Adapts,
    draw_part,
    make_key,
    make_tiny_bundle,
)

HEIGHT, WIDTH = 96, 128
SERIAL = "virtual-washer"
INTRINSICS = Intrinsics(WIDTH, HEIGHT, FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
DEFECT = 60.0  # added to red: a score of about 60, three times the threshold


@dataclass(frozen=True)
class Shot:
    """What one frame of a belt shows. defect: added to red.

    holes: share of the readings that are missing.
    """

    part: bool = False
    defect: float = 0.0
    holes: float = 0.0
    large: bool = False


EMPTY, GOOD, BAD = Shot(), Shot(part=True), Shot(part=True, defect=DEFECT)


def belt(lengths: Sequence[int], gap: int = 5, bad: Sequence[int] = ()) -> list[Shot]:
    """Parts seen in so many frames each, apart by `gap` empty ones; those whose index is in `bad`
    are defective.
    """
    shots = [EMPTY] * gap
    for index, length in enumerate(lengths):
        shots += [BAD if index in bad else GOOD] * length + [EMPTY] * gap
    return shots


def draw_shot(shot: Shot, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    color, depth = draw_part(HEIGHT, WIDTH, seed=seed, part=shot.part, defect=shot.defect)
    if shot.large:
        depth[:] = round(0.48 / UNIT)
    if shot.holes:
        depth[np.random.default_rng(seed).random(depth.shape) < shot.holes] = 0
    return color, depth


def write_belt(folder: Path, shots: Sequence[Shot], depth: bool = True) -> Path:
    """The folder layout, with camera.json."""
    folder.mkdir(parents=True)
    drawn = {shot: [draw_shot(shot, seed) for seed in range(4)] for shot in set(shots)}
    for number, shot in enumerate(shots):
        color, counts = drawn[shot][number % 4]
        cv2.imwrite(str(folder / f"{number:04d}_color.png"), color[:, :, ::-1])
        if depth:
            cv2.imwrite(str(folder / f"{number:04d}_depth.png"), counts)
    i = INTRINSICS
    lens = {
        "width": WIDTH,
        "height": HEIGHT,
        "fx": i.fx,
        "fy": i.fy,
        "cx": i.cx,
        "cy": i.cy,
        "depth_unit_m": UNIT,
    }
    (folder / "intrinsics.json").write_text(json.dumps(lens))
    camera = {
        "model": "virtual",
        "serial": SERIAL,
        "width": WIDTH,
        "height": HEIGHT,
        "fps": 30,
        "unit": UNIT,
        "intrinsics": [i.fx, i.fy, i.cx, i.cy],
        "fixed": True,
    }
    (folder / "camera.json").write_text(json.dumps(camera))
    return folder


def write_clouds(folder: Path, shots: Sequence[Shot]) -> Path:
    """Images and point clouds alone, as MVTec 3D-AD's train/good has them: rgb/NNN.png and
    xyz/NNN.tiff, and no word about the camera.
    """
    for kind in ("rgb", "xyz"):
        (folder / kind).mkdir(parents=True)
    for number, shot in enumerate(shots):
        color, counts = draw_shot(shot, number)
        cv2.imwrite(str(folder / f"rgb/{number:03d}.png"), color[:, :, ::-1])
        write_cloud(folder / f"xyz/{number:03d}.tiff", counts)
    return folder


def write_cloud(path: Path, counts: NDArray[np.uint16]) -> None:
    """Counts of UNIT as an organized point cloud in meters."""
    z, i = counts * UNIT, INTRINSICS
    rows, columns = np.mgrid[: z.shape[0], : z.shape[1]]
    cloud = np.stack([(columns - i.cx) / i.fx * z, (rows - i.cy) / i.fy * z, z], -1)
    tifffile.imwrite(path, cloud.astype(np.float32), photometric="rgb")


@dataclass(frozen=True)
class StationRoot:
    """A root with the tiny bundle, and the key that signed it."""

    root: Path
    key: Path

    @property
    def store(self) -> Store:
        return Store(self.root)

    def copied_to(self, folder: Path) -> StationRoot:
        """The same in another folder, with the key and the bundle beside it: making one takes half
        a second.
        """
        shutil.copytree(self.root.parent, folder, symlinks=True)
        return StationRoot(folder / self.root.name, folder / self.key.name)

    def calibrate(self) -> None:
        """As `edge calibrate plane` leaves it, with the plane that the drawings have."""
        self.store.save_geometry(
            "washer", SERIAL, Geometry(PLANE, 0, 0), INTRINSICS, frames=30, who="test"
        )

    def expect(self, mask: NDArray[np.uint8]) -> None:
        """As `edge calibrate expected` leaves it. mask: (h, w) of the crop."""
        record = self.store.geometry_record("washer", SERIAL)
        version = 0 if record is None else record.version
        self.store.save_expected("washer", SERIAL, mask, 10, 4.0, 1.0, version, who="test")

    def configure(
        self, camera_kind: str, path: Path | None, port: int = 0, more: str = ""
    ) -> EdgeConfig:
        """Write station.toml; port 0: no broker."""
        broker = (
            f'[broker]\nhost = "127.0.0.1"\nport = {port}\n'
            if port
            else "[broker]\nenabled = false\n"
        )
        text = (
            f'[station]\nstation = "s1"\n{broker}[camera]\nkind = "{camera_kind}"\npath ='
            f' "{path or ""}"\n{more}'
        )
        (self.root / "etc/edge/station.toml").write_text(text)
        return parse_config(text)


def make_station(
    folder: Path,
    calibrated: bool = True,
    presence: bool = True,
    defects: Sequence[float] = NORMAL_DEFECTS,
    adapts: Adapts | None = None,
    **camera: object,
) -> StationRoot:
    """defects, adapts: of the bundle. camera: replaces entries of its camera contract."""
    folder.mkdir(parents=True, exist_ok=True)
    key = make_key(folder)
    bundle = make_tiny_bundle(
        folder,
        key,
        presence=presence,
        height=HEIGHT,
        width=WIDTH,
        camera=camera,
        defects=defects,
        adapts=adapts,
    )
    station = StationRoot(folder / "root", key.private)
    trust(station.store, key.public)
    install_bundle(bundle, station.root)
    if calibrated:
        station.calibrate()
    return station
