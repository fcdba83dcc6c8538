"""A small signed bundle made without torch, so that the device's tests run without the trainer.

The graph keeps the whole contract of DESIGN (every input and output, masks, empty foreground) on a model anyone can
work out by hand: the map is how far red lies from RED_OF_A_GOOD_PART, averaged over CELL x CELL pixels of the part; the
score is the map's mean over the part. A pixel belongs to the part where it stands higher than `lift` over `plane`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.bundle.archive import list_files, pack, seal
from edge.bundle.manifest import Manifest
from edge.bundle.signature import generate_key

CELL = 8
RED_OF_A_GOOD_PART = 100.0
THRESHOLD = 20.0                  # raw units: mean deviation of red over the part
UNIT = 0.0001                     # metres per count
TABLE_M, PART_M = 0.5, 0.48       # distances from the camera: a part 20 mm high on a level table
LIFT = 0.005
PLANE = (0.0, 0.0, 1.0, TABLE_M)  # height = TABLE_M - z
FOCAL = 300.0
MIN_AREA, MAX_AREA, MIN_VALID = 0.02, 0.6, 0.5


@dataclass(frozen=True)
class KeyPair:
    """Paths of NAME.key and NAME.pub."""

    private: Path
    public: Path


def make_key(folder: Path, name: str = "line") -> KeyPair:
    return KeyPair(*generate_key(folder / name))


def make_tiny_bundle(
    folder: Path,
    key: Path | KeyPair,
    product: str = "washer",
    version: str = "1.0.0",
    presence: bool = True,
    height: int = 96,
    width: int = 128,
    camera: dict[str, object] | None = None,
) -> Path:
    """A signed bundle file PRODUCT-VERSION.bundle in `folder`.

    presence: with depth and all its inputs; without, a color-only graph whose area is the region's share.
    camera: replaces entries of the manifest's camera contract; by default stream and crop are both width x height.
    """
    private = key.private if isinstance(key, KeyPair) else key
    with tiny_bundle_folder(private, product, version, presence, height, width, camera) as content:
        return pack(content, folder / f"{product}-{version}.bundle")


@contextmanager
def tiny_bundle_folder(
    key: Path,
    product: str = "washer",
    version: str = "1.0.0",
    presence: bool = True,
    height: int = 96,
    width: int = 128,
    camera: dict[str, object] | None = None,
) -> Iterator[Path]:
    """The unpacked bundle in a temporary folder, for tests that damage it before packing."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "model").mkdir()
        (folder / "golden").mkdir()
        model = tiny_graph(height, width, presence)
        (folder / "model" / "fp32.onnx").write_bytes(model.SerializeToString())
        scores = _write_golden(folder / "golden", model, height, width, presence)
        (folder / "parity.json").write_text(json.dumps(tiny_certificate(folder / "golden"), indent=2))
        (folder / "report.html").write_text(f"<!doctype html><title>{product} {version}</title>")
        seal(folder, tiny_manifest(folder, product, version, presence, height, width, scores, camera or {}), key)
        yield folder


# --- what the camera would see ----------------------------------------------------------------------------------------


def draw_part(
    height: int = 96, width: int = 128, seed: int = 0, part: bool = True, defect: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Color (H, W, 3) uint8 and depth (H, W) uint16 counts of a round part, a third of the image wide, on a grey table.

    defect: added to red over the whole part, so it adds about that to the score.
    """
    noise = np.random.default_rng(seed)
    v, u = np.mgrid[:height, :width]
    inside = ((u - width / 2) ** 2 + (v - height / 2) ** 2 <= (min(height, width) / 3) ** 2) & part
    color = np.full((height, width, 3), 60.0)
    color[inside] = (RED_OF_A_GOOD_PART + defect, 90, 80)
    color += noise.normal(0, 2, color.shape)
    depth = np.where(inside, PART_M, TABLE_M) + noise.normal(0, 0.0003, (height, width))
    counts = np.round(depth / UNIT)
    counts[noise.random((height, width)) < 0.02] = 0
    return np.clip(color, 0, 255).astype(np.uint8), counts.astype(np.uint16)


def feeds_of(color: NDArray[np.uint8], depth: NDArray[np.uint16] | None) -> dict[str, NDArray[np.generic]]:
    """Every input of the tiny graph for one view; without depth, those of the color-only graph."""
    height, width = color.shape[:2]
    region = np.full((1, height, width, 1), 255, np.uint8)
    if depth is None:
        return {"color": color[None], "region": region}
    return {
        "color": color[None],
        "depth": depth.astype("<u2").view(np.uint8).reshape(1, height, width, 2),
        "region": region,
        "unit": np.array([UNIT], np.float32),
        "intrinsics": np.array([FOCAL, FOCAL, (width - 1) / 2, (height - 1) / 2], np.float32),
        "plane": np.array(PLANE, np.float32),
        "lift": np.array([LIFT], np.float32),
    }


def _write_golden(folder: Path, model: onnx.ModelProto, height: int, width: int, presence: bool) -> list[float]:
    """Four good and four bad frames, answered by numpy; returns the good scores."""
    normal = []
    for index in range(8):
        defect = 0.0 if index < 4 else 15.0 + 10.0 * index
        color, depth = draw_part(height, width, seed=index, defect=defect)
        feeds = feeds_of(color, depth if presence else None)
        answer = reference(feeds)
        if index < 4:
            normal.append(float(answer["score"][0]))
        np.savez(folder / f"{index:04d}.npz", map=answer["map"], score=answer["score"], **feeds)
    return normal


def reference(feeds: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    """The tiny graph in numpy, float64 inside: map (1, 1, h, w), score (1,), area (1,), valid (1,)."""
    red = feeds["color"][0, :, :, 0].astype(np.float64)
    region = (feeds["region"][0, :, :, 0] > 0).astype(np.float64)
    part, read = region, np.ones_like(region)
    if "depth" in feeds:
        counts = feeds["depth"].view("<u2")[0, :, :, 0].astype(np.float64)
        alpha, beta, gamma, delta = (float(value) for value in feeds["plane"])
        v, u = np.mgrid[: red.shape[0], : red.shape[1]]
        z = counts * float(feeds["unit"][0])
        read = (counts > 0).astype(np.float64)
        part = region * read * ((delta - z * (alpha * u + beta * v + gamma)) > float(feeds["lift"][0]))
    counted, mask, answered = _cells(region), _cells(part), _cells(region * read)
    judged = (mask > 0).astype(np.float64)
    anomaly = _cells(np.abs(red - RED_OF_A_GOOD_PART) * part) / np.maximum(mask, 1e-6)
    values = {
        "score": anomaly.sum() / max(judged.sum(), 1),
        "area": (counted * judged).sum() / max(counted.sum(), 1e-6),
        "valid": (answered * judged).sum() / max((counted * judged).sum(), 1e-6),
    }
    scalars = {name: np.array([value], np.float32) for name, value in values.items()}
    return {"map": anomaly[None, None].astype(np.float32), **scalars}


def _cells(image: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = image.shape
    return image.reshape(height // CELL, CELL, width // CELL, CELL).mean(axis=(1, 3))


# --- the graph --------------------------------------------------------------------------------------------------------


class _Graph:
    """Collects nodes; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> str:
        result = name or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], **attributes))
        return result

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def plane_of(self, image: str, channel: int, height: int, width: int) -> str:
        """One channel of an NHWC uint8 image as (1, 1, H, W) float32."""
        floats = self.op("Cast", image, to=TensorProto.FLOAT)
        one = self.op("Gather", floats, self.constant(channel, np.int64), axis=3)
        return self.op("Reshape", one, self.constant([1, 1, height, width], np.int64))

    def positive(self, value: str) -> str:
        return self.op("Cast", self.op("Greater", value, self.constant(0.0)), to=TensorProto.FLOAT)

    def cells(self, image: str) -> str:
        return self.op("AveragePool", image, kernel_shape=[CELL, CELL], strides=[CELL, CELL])

    def total(self, image: str) -> str:
        return self.op("Reshape", self.op("ReduceSum", image), self.constant([1], np.int64))

    def share(self, part: str, whole: str, least: float, name: str) -> str:
        return self.op("Div", self.total(part), self.op("Max", self.total(whole), self.constant(least)), name=name)


def tiny_graph(height: int, width: int, presence: bool = True) -> onnx.ModelProto:
    """The ONNX model, opset 18, that computes what `reference` computes."""
    g = _Graph()
    red = g.plane_of("color", 0, height, width)
    region = g.positive(g.plane_of("region", 0, height, width))
    part, answered = _foreground(g, region, height, width) if presence else (region, region)
    mask, counted = g.cells(part), g.cells(region)
    judged = g.positive(mask)
    deviation = g.op("Abs", g.op("Sub", red, g.constant(RED_OF_A_GOOD_PART)))
    cells = g.cells(g.op("Mul", deviation, part))
    anomaly = g.op("Div", cells, g.op("Max", mask, g.constant(1e-6)), name="map")
    present = g.op("Mul", counted, judged)
    g.share(anomaly, judged, 1.0, "score")
    g.share(present, counted, 1e-6, "area")
    g.share(g.op("Mul", g.cells(answered), judged), present, 1e-6, "valid")
    graph = helper.make_graph(
        g.nodes, "tiny",
        [_value(spec) for spec in input_specs(height, width, presence)],
        [_value(spec) for spec in output_specs(height, width)],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _foreground(g: _Graph, region: str, height: int, width: int) -> tuple[str, str]:
    """(pixels of the part that have a reading, pixels of the region that have one), both (1, 1, H, W)."""
    low, high = (g.plane_of("depth", byte, height, width) for byte in (0, 1))
    counts = g.op("Add", low, g.op("Mul", high, g.constant(256.0)))
    alpha, beta, gamma, delta = (g.op("Gather", "plane", g.constant([index], np.int64)) for index in range(4))
    across = g.op("Mul", alpha, g.constant(np.arange(width).reshape(1, 1, 1, width)))
    down = g.op("Mul", beta, g.constant(np.arange(height).reshape(1, 1, height, 1)))
    ray = g.op("Add", g.op("Add", across, down), gamma)
    z = g.op("Mul", counts, "unit")
    raised = g.positive(g.op("Sub", g.op("Sub", delta, g.op("Mul", z, ray)), "lift"))
    answered = g.op("Mul", region, g.positive(counts))
    return g.op("Mul", answered, raised), answered


def _value(spec: dict[str, object]) -> onnx.ValueInfoProto:
    kind = TensorProto.UINT8 if spec["dtype"] == "uint8" else TensorProto.FLOAT
    return helper.make_tensor_value_info(spec["name"], kind, spec["shape"])


def input_specs(height: int, width: int, presence: bool = True) -> list[dict[str, object]]:
    specs = [
        {"name": "color", "dtype": "uint8", "shape": [1, height, width, 3]},
        {"name": "region", "dtype": "uint8", "shape": [1, height, width, 1], "default": 255},
    ]
    if presence:
        specs += [
            {"name": "depth", "dtype": "uint8", "shape": [1, height, width, 2]},
            {"name": "unit", "dtype": "float32", "shape": [1]},
            {"name": "intrinsics", "dtype": "float32", "shape": [4]},
            {"name": "plane", "dtype": "float32", "shape": [4]},
            {"name": "lift", "dtype": "float32", "shape": [1], "default": LIFT},
        ]
    return specs


def output_specs(height: int, width: int) -> list[dict[str, object]]:
    return [
        {"name": "map", "dtype": "float32", "shape": [1, 1, height // CELL, width // CELL]},
        {"name": "score", "dtype": "float32", "shape": [1]},
        {"name": "area", "dtype": "float32", "shape": [1]},
        {"name": "valid", "dtype": "float32", "shape": [1]},
    ]


# --- manifest and certificate -----------------------------------------------------------------------------------------


def tiny_certificate(golden: Path) -> dict[str, object]:
    """A parity.json whose only section says that fp32 is exact on these golden frames."""
    frames = [np.load(path) for path in sorted(golden.glob("*.npz"))]
    maps, scores = np.stack([f["map"] for f in frames]), np.stack([f["score"] for f in frames])
    section = {
        "precision": "fp32", "runtime": "numpy", "frames": len(frames), "finite": True,
        "mean_map_error": 0.0, "largest_map_error": 0.0, "largest_score_error": 0.0, "rank_correlation": 1.0,
        "flips": 0, "largest_flip_distance": 0.0, "golden_map_error": 0.0, "change": {},
        "macs": {"fp32": 1.0, "fp16": 0.0, "int8": 0.0}, "backbone_macs": None, "passed": True, "reasons": [],
    }
    return {
        "schema": 1, "provisional": True, "note": "made by a test, in numpy", "threshold": THRESHOLD,
        "score_low": float(scores.min()), "score_high": float(scores.max()),
        "map_low": float(maps.min()), "map_high": float(maps.max()),
        "normal_frames": 4, "defect_frames": 4, "drawn_frames": 4, "golden_frames": len(frames), "sections": [section],
    }


def tiny_manifest(
    folder: Path, product: str, version: str, presence: bool, height: int, width: int, scores: list[float],
    camera: dict[str, object],
) -> Manifest:
    """The manifest of everything that lies in `folder`."""
    contract = {
        "model": "virtual", "serial": f"virtual-{product}", "width": width, "height": height, "fps": 30,
        "intrinsics": (FOCAL, FOCAL, (width - 1) / 2, (height - 1) / 2), "unit": UNIT,
        "crop_width": width, "crop_height": height, "crop_x": 0, "crop_y": 0,
        "min_area": MIN_AREA, "max_area": MAX_AREA, "min_valid": MIN_VALID,
    }
    return Manifest.model_validate({
        "schema": 1, "product": product, "version": version, "system": "tiny", "preset": "test", "presence": presence,
        "camera": {**contract, **camera},
        "inputs": input_specs(height, width, presence), "outputs": output_specs(height, width), "precisions": ["fp32"],
        "normal_scores": scores,
        "threshold": {"value": THRESHOLD, "parts": len(scores), "false_reject_rate": 0.5, "confidence": 0.9375,
                      "guarantee": "made by a test: 4 parts allow no useful one"},
        "plane": PLANE if presence else None,
        "provenance": {"created_at": "2026-01-01T00:00:00Z", "data": "drawn", "data_sha256": "0" * 64, "train_parts": 0,
                       "validation_parts": len(scores), "seed": 0, "code": "tests", "packages": {}},
        "files": list_files(folder),
    })
