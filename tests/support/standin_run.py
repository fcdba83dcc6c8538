"""A run folder and its data set around the small detector of standin.py, and the system that loads
it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from torch import nn

from edge.frames.dataset import open_dataset
from edge.proof.threshold import DEFAULT_FALSE_REJECTS, threshold_from_normals
from tests.support.standin import DEPTH_WORKING, HEIGHT, WIDTH, WORKING, make_deployed, make_feeds
from trainer.data.splits import digest_of, digest_of_pixels
from trainer.graph.sizes import WorkingSizes
from trainer.systems.seam import BuildRequest
from trainer.train.defect_scores import DefectScores, measure_defects
from trainer.train.run_info import RunInfo
from trainer.train.trained_run import TrainedRun, write_run

MODULE = "tests.support.standin_run"
LEFT, TOP, STREAM_WIDTH, STREAM_HEIGHT = 16, 12, 160, 120  # the crop is a window of the stream
FOCAL, UNIT = 120.0, 1e-4
SPLITS = {"train/good": 8, "validation/good": 24, "test/good": 2, "test/spot": 4}


class StandInSystem:
    name = "standin"
    presets = ("compact",)

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        return WorkingSizes(WORKING, DEPTH_WORKING)

    def build(self, request: BuildRequest) -> nn.Module:
        return make_deployed().detector

    def fit(self, detector: nn.Module, images: Any, request: Any) -> dict[str, list[float]]:
        return {}


def create_system() -> StandInSystem:
    return StandInSystem()


def write_product(root: Path) -> Path:
    """MVTec 3D-AD's layout, 160x120, the part inside the crop; masks for the spots."""
    for number, (folder, count) in enumerate(SPLITS.items()):
        for index in range(count):
            seed = 100 * number + index
            good, shown = (
                make_feeds(seed, defect) for defect in (0.0, 0.8 if "spot" in folder else 0.0)
            )
            counts = shown["depth"].view("<u2")[0, :, :, 0]
            _write(
                root / folder / "rgb" / f"{index:03d}.png",
                _placed(shown["color"][0], 90)[..., ::-1],
            )
            if folder.startswith("test"):
                mask = (good["color"] != shown["color"])[0].any(axis=2)
                _write(root / folder / "gt" / f"{index:03d}.png", _placed(mask * np.uint8(255), 0))
            path = root / folder / "xyz" / f"{index:03d}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, _cloud(_placed(counts, 4000)), photometric="rgb")
    camera = {
        "model": "virtual",
        "serial": "virtual-standin",
        "width": STREAM_WIDTH,
        "height": STREAM_HEIGHT,
        "fps": 30,
        "unit": UNIT,
        "intrinsics": [FOCAL, FOCAL, 63.5 + LEFT, 47.5 + TOP],
        "fixed": True,
    }
    (root / "camera.json").write_text(json.dumps(camera))
    return root


def _placed(window: NDArray[Any], outside: int) -> NDArray[Any]:
    stream = np.full((STREAM_HEIGHT, STREAM_WIDTH, *window.shape[2:]), outside, window.dtype)
    stream[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = window
    return stream


def _cloud(counts: NDArray[Any]) -> NDArray[np.float32]:
    z = counts * UNIT
    x = (np.arange(STREAM_WIDTH) - 63.5 - LEFT) / FOCAL * z
    y = ((np.arange(STREAM_HEIGHT) - 47.5 - TOP) / FOCAL)[:, None] * z
    return np.stack([x, y, z], -1).astype(np.float32)


def _write(path: Path, image: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image))


def write_standin_run(folder: Path, product: Path) -> Path:
    """A finished run. registry.SYSTEM_MODULES must hold "standin" to load it."""
    dataset = open_dataset(product)
    deployed = make_deployed()
    normal = [*dataset.split("train"), *dataset.split("validation")]
    fields: dict[str, Any] = {
        "system": "standin",
        "preset": "compact",
        "product": dataset.product,
        "data": str(product.resolve()),
        "data_sha256": digest_of(normal),
        "digests": [digest_of_pixels(sample.load()) for sample in normal],
        "with_depth": True,
        "seed": 0,
        "epochs": 1,
        "camera": dataset.camera,
        "crop": (LEFT, TOP, WIDTH, HEIGHT),
        "working": WORKING,
        "depth_working": DEPTH_WORKING,
        "fixed": True,
        "plane": (0.0, 0.0, 1.0, 0.4),
        "lift": 0.008,
        "top_k": 0.05,
        "top_k_why": "a test",
        "min_area": 0.1,
        "max_area": 0.9,
        "min_valid": 0.5,
        "normal_scores": [],
        "false_rejects": DEFAULT_FALSE_REJECTS,
        "threshold": threshold_from_normals([0.0]),
        "defect_scores": DefectScores(kind="synthetic", groups={}),
        "train": [sample.name for sample in dataset.split("train")],
        "validation": [sample.name for sample in dataset.split("validation")],
        "train_seconds": 0.0,
        "packages": {},
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    run = TrainedRun(folder, RunInfo(**fields), deployed)
    validation = dataset.split("validation")
    scores = [float(deployed.run(run.feeds(sample))["score"][0]) for sample in validation]
    measured = {
        "normal_scores": scores,
        "threshold": threshold_from_normals(scores),
        "defect_scores": measure_defects(deployed, run.info.scene(), dataset, validation, print),
    }
    write_run(folder, RunInfo(**{**fields, **measured}), deployed, {})
    return folder
