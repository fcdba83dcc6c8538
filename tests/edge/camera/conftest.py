"""Small folders of frames for the cameras to play."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 96, 64

FrameFolder = Callable[..., Path]


@pytest.fixture
def frame_folder(tmp_path: Path) -> FrameFolder:
    """Writes a folder layout: frame n is n everywhere in green, depth 500 + n counts with a hole at
    (5, 7).
    """

    def write(
        count: int = 4,
        name: str = "frames",
        depth: bool = True,
        camera: dict[str, object] | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        noise = np.random.default_rng(0)
        for number in range(count):
            color = noise.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            color[..., 1] = number
            cv2.imwrite(str(folder / f"{number:04d}_color.png"), color)
            if depth:
                counts = (500 + number + noise.integers(0, 50, (HEIGHT, WIDTH))).astype(np.uint16)
                counts[5, 7] = 0
                cv2.imwrite(str(folder / f"{number:04d}_depth.png"), counts)
        if depth:
            pinhole = {"fx": 90.0, "fy": 91.0, "cx": 47.1, "cy": 32.2}
            info = {"width": WIDTH, "height": HEIGHT, "depth_unit_m": 0.0001, **pinhole}
            (folder / "intrinsics.json").write_text(json.dumps(info))
        if camera is not None:
            (folder / "camera.json").write_text(
                json.dumps({"width": WIDTH, "height": HEIGHT, **camera})
            )
        return folder

    return write
