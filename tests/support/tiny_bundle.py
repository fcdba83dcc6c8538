"""A small signed bundle made without torch, so that the device's tests run without the trainer.

The graph keeps the whole contract of docs/graph-and-bundle.md (every input and output, masks, empty
foreground) on a model anyone can work out by hand: the map is how far red lies from
RED_OF_A_GOOD_PART, averaged over CELL x CELL pixels of the part, plus ABSENT times the share of
pixels where material is expected and the table is seen; the score is the map's sum, divided by the
number of the part's cells. A pixel belongs to the part where it stands higher than `lift` over
`plane`. Its normal parts score from 2 to 20, evenly spread, so the threshold is about 20. Another
precision is the same graph with its score scaled and shifted.

A bundle that `adapts` has color as three channels of features, with `shift`, `scale` and `moments`;
one with spare rows has in `features` the means of the cells, and a cell's distance is the least of
that from RED_OF_A_GOOD_PART and those of its mean red from the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.bundle.archive import open_bundle
from edge.bundle.key_files import generate_key, read_public_key
from edge.bundle.manifest import ChannelStatistics, Manifest
from edge.bundle.pack import list_files, pack, seal
from edge.proof.certificate import Certificate
from edge.proof.compare import fit_noise, spread_of
from edge.proof.golden import write_normal
from edge.proof.measures import Count
from edge.proof.threshold import Threshold, threshold_at
from edge.schema import Precision, TensorSpec

CELL = 8
RED_OF_A_GOOD_PART = 100.0
NORMAL_DEFECTS = (0.0, 2.5, 5.5, 8.5, 11.5, 14.5, 17.5, 20.5)  # added to red of the normal parts
UNIT = 0.0001  # meters per count
TABLE_M, PART_M = 0.5, 0.48  # distances from the camera: a part 20 mm high on a level table
LIFT = 0.005
PLANE = (0.0, 0.0, 1.0, TABLE_M)  # height = TABLE_M - z
FOCAL = 300.0
ABSENT = 1000.0  # in the map, where a cell lacks all the material that is expected there
MIN_AREA, MAX_AREA, MIN_VALID = 0.02, 0.6, 0.5
CHANNELS = 3  # of the features of a bundle that adapts
SPARE = 8  # rows
FAR = 1e4  # is a spare row that is not set

Line = tuple[float, float]  # a precision's score = scale x float32's + shift
EXACT: Mapping[Precision, Line] = {"fp32": (1.0, 0.0)}
ORDER: tuple[Precision, ...] = ("int8", "fp16", "fp32")


@dataclass(frozen=True)
class Adapts:
    """The site inputs of a tiny bundle. spare: with rows. known: whether the manifest says where
    the channels lay in training.
    """

    spare: bool = False
    known: bool = True


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
    precisions: Mapping[Precision, Line] = EXACT,
    parts: int | None = None,
    defects: Sequence[float] = NORMAL_DEFECTS,
    adapts: Adapts | None = None,
) -> Path:
    """A signed bundle file PRODUCT-VERSION.bundle in `folder`.

    presence: with depth and all its inputs; without, a color-only graph whose area is the region's
    share.
    camera: replaces entries of the manifest's camera contract; by default stream and crop are both
    width x height.
    precisions: the files besides fp32, each with its scale and shift; the certificate knows of
    them.
    parts: normal parts, of which the bundle carries the highest len(defects); by default, all.
    defects: what is added to red of these. adapts: with site inputs.
    """
    private = key.private if isinstance(key, KeyPair) else key
    with tiny_bundle_folder(
        private, product, version, presence, height, width, camera, precisions, parts, defects,
        adapts,
    ) as content:  # fmt: skip
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
    precisions: Mapping[Precision, Line] = EXACT,
    parts: int | None = None,
    defects: Sequence[float] = NORMAL_DEFECTS,
    adapts: Adapts | None = None,
) -> Iterator[Path]:
    """The unpacked bundle in a temporary folder, for tests that damage it before packing."""
    lines = {
        precision: {**EXACT, **precisions}[precision]
        for precision in ORDER
        if precision in {*EXACT, *precisions}
    }
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "model").mkdir()
        (folder / "golden").mkdir()
        for precision, line in lines.items():
            model = tiny_graph(height, width, presence, line, adapts)
            (folder / "model" / f"{precision}.onnx").write_bytes(model.SerializeToString())
        _write_golden(folder / "golden", height, width, presence, adapts)
        exact, channels = _write_normal(
            folder / "normal", height, width, presence, parts or len(defects), defects, adapts
        )
        scores = {precision: _on_line(exact, line) for precision, line in lines.items()}
        thresholds = {
            precision: threshold_at(values, 1, 0.05) for precision, values in scores.items()
        }
        certificate = tiny_certificate(folder / "golden", scores, thresholds)
        (folder / "parity.json").write_text(certificate.to_json())
        (folder / "report.html").write_text(f"<!doctype html><title>{product} {version}</title>")
        verdicts = {
            section.precision: section.verdicts.model_dump() for section in certificate.sections
        }
        about = {
            **_normal_of_manifest(scores, thresholds, len(defects)),
            "verdicts": verdicts,
            "channels": channels if adapts and adapts.known else None,
        }
        manifest = tiny_manifest(
            folder, product, version, presence, height, width, about, camera or {}, adapts
        )
        seal(folder, manifest, key)
        yield folder


# --- what the camera would see ---


def draw_part(
    height: int = 96, width: int = 128, seed: int = 0, part: bool = True, defect: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Color (H, W, 3) uint8 and depth (H, W) uint16 counts of a round part, a third of the image
    wide, on a gray table.

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


def feeds_of(
    color: NDArray[np.uint8], depth: NDArray[np.uint16] | None, adapts: Adapts | None = None
) -> dict[str, NDArray[np.generic]]:
    """Every input of the tiny graph for one view; without depth, those of the color-only graph."""
    height, width = color.shape[:2]
    region = np.full((1, height, width, 1), 255, np.uint8)
    site = {
        str(spec["name"]): np.full(spec["shape"], spec["default"], np.float32)
        for spec in site_specs(adapts)
    }
    if depth is None:
        return {"color": color[None], "region": region, **site}
    return {
        **site,
        "color": color[None],
        "depth": depth.astype("<u2").view(np.uint8).reshape(1, height, width, 2),
        "region": region,
        "unit": np.array([UNIT], np.float32),
        "intrinsics": np.array([FOCAL, FOCAL, (width - 1) / 2, (height - 1) / 2], np.float32),
        "plane": np.array(PLANE, np.float32),
        "lift": np.array([LIFT], np.float32),
        "expected": np.zeros((1, height, width, 1), np.uint8),
    }


def _write_golden(
    folder: Path, height: int, width: int, presence: bool, adapts: Adapts | None
) -> None:
    """Four normal and four defective frames, with outputs by numpy."""
    for index in range(8):
        defect = 0.0 if index < 4 else 15.0 + 10.0 * index
        color, depth = draw_part(height, width, seed=index, defect=defect)
        feeds = feeds_of(color, depth if presence else None, adapts)
        answer = reference(feeds)
        np.savez(folder / f"{index:04d}.npz", map=answer["map"], score=answer["score"], **feeds)


def _write_normal(
    folder: Path,
    height: int,
    width: int,
    presence: bool,
    parts: int,
    defects: Sequence[float],
    adapts: Adapts | None,
) -> tuple[NDArray[np.float32], ChannelStatistics | None]:
    """The normal frames, the highest score first; returns the (n,) falling scores, those that are
    not carried last, and where the channels of a bundle that adapts lie.
    """
    frames = []
    for index, defect in enumerate(sorted(defects, reverse=True)):
        color, depth = draw_part(height, width, seed=100 + index, defect=defect)
        frames.append(feeds_of(color, depth if presence else None, adapts))
    answers = [reference(feeds) for feeds in frames]
    order = sorted(range(len(frames)), key=lambda index: -float(answers[index]["score"][0]))
    scores = [float(answers[index]["score"][0]) for index in order]
    specs = [
        TensorSpec.model_validate(spec) for spec in input_specs(height, width, presence, adapts)
    ]
    carried = [
        (f"good/{rank:03d}", rank, lambda index=index: frames[index])
        for rank, index in enumerate(order, 1)
    ]
    write_normal(folder, carried, parts, len(frames), specs)
    moments = [answer["moments"] for answer in answers if "moments" in answer]
    return (
        np.array([*scores, *np.linspace(1.0, 0.5, parts - len(frames))], np.float32),
        ChannelStatistics.of_parts(moments) if moments else None,
    )


def _on_line(scores: NDArray[np.float32], line: Line) -> NDArray[np.float32]:
    return np.float32(line[0]) * scores + np.float32(line[1])


def reference(feeds: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    """The tiny graph in numpy, float64 inside: map (1, 1, h, w), score (1,), area (1,), valid (1,),
    place (1, 6); moments (1, 2, 3) where it adapts. Spare rows are neutral.
    """
    channels = feeds["color"][0].astype(np.float64)
    red = channels[:, :, 0]
    if "shift" in feeds:
        red = (red - float(feeds["shift"][0])) * float(feeds["scale"][0])
    region = (feeds["region"][0, :, :, 0] > 0).astype(np.float64)
    part, read = region, np.ones_like(region)
    if "depth" in feeds:
        counts = feeds["depth"].view("<u2")[0, :, :, 0].astype(np.float64)
        alpha, beta, gamma, delta = (float(value) for value in feeds["plane"])
        v, u = np.mgrid[: red.shape[0], : red.shape[1]]
        z = counts * float(feeds["unit"][0])
        read = (counts > 0).astype(np.float64)
        part = (
            region * read * ((delta - z * (alpha * u + beta * v + gamma)) > float(feeds["lift"][0]))
        )
    counted, mask, answered = _cells(region), _cells(part), _cells(region * read)
    judged = (mask > 0).astype(np.float64)
    anomaly = _cells(np.abs(red - RED_OF_A_GOOD_PART) * part) / np.maximum(mask, 1e-6)
    if "expected" in feeds:
        expected = (feeds["expected"][0, :, :, 0] > 0).astype(np.float64)
        anomaly += ABSENT * _cells(expected * (region * read - part))
    values = {
        "score": anomaly.sum() / max(judged.sum(), 1),
        "area": (counted * judged).sum() / max(counted.sum(), 1e-6),
        "valid": (answered * judged).sum() / max((counted * judged).sum(), 1e-6),
    }
    scalars = {name: np.array([value], np.float32) for name, value in values.items()}
    moments = {"moments": _moments(channels, part)} if "shift" in feeds else {}
    return {
        "map": anomaly[None, None].astype(np.float32),
        **scalars,
        "place": _place(part).astype(np.float32)[None],
        **moments,
    }


def _moments(channels: NDArray[np.float64], part: NDArray[np.float64]) -> NDArray[np.float32]:
    """(1, 2, 3) mean and variance of every channel over the part; 0 without a part."""
    inside = channels[part > 0]
    if not len(inside):
        return np.zeros((1, 2, CHANNELS), np.float32)
    return np.stack([inside.mean(axis=0), inside.var(axis=0)])[None].astype(np.float32)


def _place(part: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6,) of the pixels of the part that have a reading: centroid, variances, covariance, share of
    the border.
    """
    border = np.ones_like(part)
    border[1:-1, 1:-1] = 0
    v, u = np.nonzero(part)
    if not len(u):
        return np.zeros(6)
    spread = np.cov(u, v, bias=True)
    return np.array(
        [u.mean(), v.mean(), spread[0, 0], spread[1, 1], spread[0, 1], part[border > 0].mean()]
    )


def _cells(image: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = image.shape
    return image.reshape(height // CELL, CELL, width // CELL, CELL).mean(axis=(1, 3))


# --- the graph ---


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

    def one_of(self, vector: str, index: int) -> str:
        return self.op("Gather", vector, self.constant([index], np.int64))

    def total(self, image: str) -> str:
        return self.op("Reshape", self.op("ReduceSum", image), self.constant([1], np.int64))

    def share(self, part: str, whole: str, least: float, name: str) -> str:
        return self.op(
            "Div",
            self.total(part),
            self.op("Max", self.total(whole), self.constant(least)),
            name=name,
        )


def tiny_graph(
    height: int,
    width: int,
    presence: bool = True,
    line: Line = (1.0, 0.0),
    adapts: Adapts | None = None,
) -> onnx.ModelProto:
    """The ONNX model, opset 18, that computes what `reference` computes, its score on the given
    line.
    """
    g = _Graph()
    channels = [g.plane_of("color", channel, height, width) for channel in range(CHANNELS)]
    red = channels[0]
    if adapts:
        red = g.op("Mul", g.op("Sub", red, g.one_of("shift", 0)), g.one_of("scale", 0))
    region = g.positive(g.plane_of("region", 0, height, width))
    part, answered = _foreground(g, region, height, width) if presence else (region, region)
    mask, counted = g.cells(part), g.cells(region)
    judged = g.positive(mask)
    deviation = g.op("Abs", g.op("Sub", red, g.constant(RED_OF_A_GOOD_PART)))
    cells = g.cells(g.op("Mul", deviation, part))
    mean = g.op("Div", cells, g.op("Max", mask, g.constant(1e-6)))
    if adapts and adapts.spare:
        mean = _nearest(g, mean, _cell_means(g, red, part, mask), judged)
    anomaly = g.op("Add", mean, _absent(g, part, answered, height, width, presence), name="map")
    present = g.op("Mul", counted, judged)
    mean = g.share(anomaly, judged, 1.0, "mean")
    g.op("Add", g.op("Mul", mean, g.constant(line[0])), g.constant(line[1]), name="score")
    g.share(present, counted, 1e-6, "area")
    g.share(g.op("Mul", g.cells(answered), judged), present, 1e-6, "valid")
    _place_node(g, part, height, width)
    if adapts:
        _site_nodes(g, channels, part, mask, adapts)
    graph = helper.make_graph(
        g.nodes,
        "tiny",
        [_value(spec) for spec in input_specs(height, width, presence, adapts)],
        [_value(spec) for spec in output_specs(height, width, adapts)],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _cell_means(g: _Graph, image: str, part: str, mask: str) -> str:
    """The mean of each cell over the part's pixels, 0 without any."""
    return g.op("Div", g.cells(g.op("Mul", image, part)), g.op("Max", mask, g.constant(1e-6)))


def _nearest(g: _Graph, distance: str, red: str, judged: str) -> str:
    """The least of a cell's distance and those of its mean red from the spare rows."""
    rows = g.op("Gather", "spare", g.constant(0, np.int64), axis=1)
    shape = g.constant([1, SPARE, 1, 1], np.int64)
    away = g.op("Abs", g.op("Sub", red, g.op("Reshape", rows, shape)))
    unset = g.op("Sub", g.constant(1.0), g.op("Reshape", "spare_valid", shape))
    away = g.op("Add", away, g.op("Mul", unset, g.constant(FAR)))
    least = g.op("ReduceMin", away, g.constant([1], np.int64), keepdims=1)
    return g.op("Mul", g.op("Min", distance, least), judged)


def _site_nodes(g: _Graph, channels: Sequence[str], part: str, mask: str, adapts: Adapts) -> None:
    """The outputs `features`, with spare rows, and `moments`: before shift and scale."""
    if adapts.spare:
        means = [_cell_means(g, channel, part, mask) for channel in channels]
        g.op("Concat", *means, axis=1, name="features")
    pixels = g.op("Max", g.total(part), g.constant(1.0))
    means = [g.op("Div", g.total(g.op("Mul", one, part)), pixels) for one in channels]
    apart = [g.op("Sub", one, mean) for one, mean in zip(channels, means, strict=True)]
    squares = [g.op("Mul", g.op("Mul", one, one), part) for one in apart]
    variances = [g.op("Div", g.total(square), pixels) for square in squares]
    row = g.op("Concat", *means, *variances, axis=0)
    g.op("Reshape", row, g.constant([1, 2, CHANNELS], np.int64), name="moments")


def _absent(g: _Graph, part: str, answered: str, height: int, width: int, presence: bool) -> str:
    """ABSENT times the share of each cell where material is expected and the table is seen."""
    if not presence:
        return g.constant(0.0)
    expected = g.positive(g.plane_of("expected", 0, height, width))
    lacking = g.op("Mul", expected, g.op("Sub", answered, part))
    return g.op("Mul", g.cells(lacking), g.constant(ABSENT))


def _foreground(g: _Graph, region: str, height: int, width: int) -> tuple[str, str]:
    """(pixels of the part that have a reading, pixels of the region that have one), both (1, 1, H,
    W).
    """
    low, high = (g.plane_of("depth", byte, height, width) for byte in (0, 1))
    counts = g.op("Add", low, g.op("Mul", high, g.constant(256.0)))
    alpha, beta, gamma, delta = (
        g.op("Gather", "plane", g.constant([index], np.int64)) for index in range(4)
    )
    across = g.op("Mul", alpha, g.constant(np.arange(width).reshape(1, 1, 1, width)))
    down = g.op("Mul", beta, g.constant(np.arange(height).reshape(1, 1, height, 1)))
    ray = g.op("Add", g.op("Add", across, down), gamma)
    z = g.op("Mul", counts, "unit")
    raised = g.positive(g.op("Sub", g.op("Sub", delta, g.op("Mul", z, ray)), "lift"))
    answered = g.op("Mul", region, g.positive(counts))
    return g.op("Mul", answered, raised), answered


def _place_node(g: _Graph, part: str, height: int, width: int) -> None:
    """The output `place` of the part's pixels (1, 1, H, W), about their centroid as the contract's
    graphs do it.
    """
    # sum 1, or 0 throughout
    weight = g.op("Div", part, g.op("Max", g.total(part), g.constant(1.0)))
    u = g.constant(np.arange(width).reshape(1, 1, 1, width))
    v = g.constant(np.arange(height).reshape(1, 1, height, 1))
    center_u, center_v = (g.total(g.op("Mul", weight, at)) for at in (u, v))
    from_u, from_v = g.op("Sub", u, center_u), g.op("Sub", v, center_v)
    pairs = ((from_u, from_u), (from_v, from_v), (from_u, from_v))
    spread = [g.total(g.op("Mul", g.op("Mul", weight, one), other)) for one, other in pairs]
    ring = np.ones((1, 1, height, width))
    ring[..., 1:-1, 1:-1] = 0
    border = g.total(g.op("Mul", part, g.constant(ring / ring.sum())))
    row = g.op("Concat", center_u, center_v, *spread, border, axis=0)
    g.op("Reshape", row, g.constant([1, 6], np.int64), name="place")


def _value(spec: dict[str, object]) -> onnx.ValueInfoProto:
    kind = TensorProto.UINT8 if spec["dtype"] == "uint8" else TensorProto.FLOAT
    return helper.make_tensor_value_info(spec["name"], kind, spec["shape"])


def site_specs(adapts: Adapts | None) -> list[dict[str, object]]:
    if adapts is None:
        return []
    specs: list[dict[str, object]] = [
        {"name": "shift", "dtype": "float32", "shape": [CHANNELS], "default": 0},
        {"name": "scale", "dtype": "float32", "shape": [CHANNELS], "default": 1},
    ]
    if adapts.spare:
        specs += [
            {"name": "spare", "dtype": "float32", "shape": [SPARE, CHANNELS], "default": 0},
            {"name": "spare_valid", "dtype": "float32", "shape": [SPARE], "default": 0},
        ]
    return specs


def input_specs(
    height: int, width: int, presence: bool = True, adapts: Adapts | None = None
) -> list[dict[str, object]]:
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
            {"name": "expected", "dtype": "uint8", "shape": [1, height, width, 1], "default": 0},
        ]
    return [*specs, *site_specs(adapts)]


def output_specs(height: int, width: int, adapts: Adapts | None = None) -> list[dict[str, object]]:
    cells = [height // CELL, width // CELL]
    more = [{"name": "moments", "dtype": "float32", "shape": [1, 2, CHANNELS]}]
    if adapts and adapts.spare:
        more = [{"name": "features", "dtype": "float32", "shape": [1, CHANNELS, *cells]}, *more]
    return [
        {"name": "map", "dtype": "float32", "shape": [1, 1, height // CELL, width // CELL]},
        {"name": "score", "dtype": "float32", "shape": [1]},
        {"name": "area", "dtype": "float32", "shape": [1]},
        {"name": "valid", "dtype": "float32", "shape": [1]},
        {"name": "place", "dtype": "float32", "shape": [1, 6]},
        *(more if adapts else []),
    ]


# --- manifest and certificate ---


def tiny_certificate(
    golden: Path,
    scores: Mapping[Precision, NDArray[np.float32]],
    thresholds: Mapping[Precision, Threshold],
) -> Certificate:
    """A parity.json that says that every file is exact on its own line; float32 alone was given new
    good parts.
    """
    frames = [np.load(path) for path in sorted(golden.glob("*.npz"))]
    maps = np.stack([frame["map"] for frame in frames])
    exact, limit = scores["fp32"], thresholds["fp32"].value
    nothing = Count(count=0, of=28).model_dump()
    sections = [
        {
            "precision": precision,
            "runtime": "numpy",
            "frames": len(frames),
            "finite": True,
            "mean_map_error": 0.0,
            "largest_map_error": 0.0,
            "rank_correlation": 1.0,
            "golden_map_error": 0.0,
            "threshold": thresholds[precision].model_dump(),
            "verdicts": {
                "good": {"count": 1, "of": 20} if precision == "fp32" else None,
                "expected": thresholds[precision].expected,
                "real": {"count": 0, "of": 0},
                "drawn": {"count": 1, "of": 8},
                "unlike": nothing,
                "near": {"count": 0, "of": 4},
                "furthest": 0.0,
            },
            "noise": fit_noise(exact, values, limit).model_dump(),
            "repeat": fit_noise(values, values, thresholds[precision].value).model_dump(),
            "change": {},
            "macs": {"fp32": 0.0, "fp16": 0.0, "int8": 0.0, precision: 1.0},
            "backbone_macs": None,
            "passed": True,
            "reasons": [],
        }
        for precision, values in scores.items()
    ]
    return Certificate.model_validate(
        {
            "schema": 2,
            "provisional": True,
            "note": "made by a test, in numpy",
            "spread": spread_of(exact),
            "map_low": float(maps.min()),
            "map_high": float(maps.max()),
            "normal_frames": len(exact),
            "good_frames": 20,
            "real_frames": 0,
            "drawn_frames": 8,
            "near_frames": 4,
            "golden_frames": len(frames),
            "sections": sections,
        }
    )


def _normal_of_manifest(
    scores: Mapping[Precision, NDArray[np.float32]],
    thresholds: Mapping[Precision, Threshold],
    carried: int,
) -> dict[str, object]:
    """The keys of the manifest that speak of the normal parts."""
    exact = scores["fp32"]
    points = [
        {
            "threshold": threshold_at(exact, rank, 0.05).model_dump(),
            "found": {"drawn": {"count": 7, "of": 8}},
        }
        for rank in (1, 2)
    ]
    spreads = {
        precision: {
            "median": float(np.median(values)),
            "mean": float(values.mean()),
            "deviation": float(values.std()),
            "spread": spread_of(values),
        }
        for precision, values in scores.items()
    }
    return {
        "precisions": list(scores),
        "normal": {"parts": len(exact), "highest": min(len(exact), carried)},
        "normal_scores": {
            precision: [float(value) for value in values] for precision, values in scores.items()
        },
        "normal_spread": spreads,
        "thresholds": {
            precision: threshold.model_dump() for precision, threshold in thresholds.items()
        },
        "operating_points": points,
    }


def tiny_manifest(
    folder: Path,
    product: str,
    version: str,
    presence: bool,
    height: int,
    width: int,
    normal: dict[str, object],
    camera: dict[str, object],
    adapts: Adapts | None = None,
) -> Manifest:
    """The manifest of everything that lies in `folder`.

    normal: its keys that speak of normal parts.
    """
    contract = {
        "model": "virtual",
        "serial": f"virtual-{product}",
        "width": width,
        "height": height,
        "fps": 30,
        "intrinsics": (FOCAL, FOCAL, (width - 1) / 2, (height - 1) / 2),
        "unit": UNIT,
        "crop_width": width,
        "crop_height": height,
        "crop_x": 0,
        "crop_y": 0,
        "min_area": MIN_AREA,
        "max_area": MAX_AREA,
        "min_valid": MIN_VALID,
    }
    return Manifest.model_validate(
        {
            "schema": 2,
            "product": product,
            "version": version,
            "system": "tiny",
            "preset": "test",
            "presence": presence,
            "camera": {**contract, **camera},
            "inputs": input_specs(height, width, presence, adapts),
            "outputs": output_specs(height, width, adapts),
            **normal,
            "plane": PLANE if presence else None,
            "provenance": {
                "created_at": "2026-01-01T00:00:00Z",
                "data": "drawn",
                "data_sha256": "0" * 64,
                "train_parts": 0,
                "validation_parts": len(NORMAL_DEFECTS),
                "seed": 0,
                "code": "tests",
                "packages": {},
            },
            "files": list_files(folder),
        }
    )


def manifest_fields(folder: Path) -> dict[str, Any]:
    """The manifest inside a tiny bundle, as its JSON has it."""
    key = make_key(folder)
    with open_bundle(make_tiny_bundle(folder, key), [read_public_key(key.public)]) as inside:
        fields: dict[str, Any] = json.loads(inside.manifest.model_dump_json(by_alias=True))
    return fields
