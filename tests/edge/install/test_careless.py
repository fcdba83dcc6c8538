"""Bundles that a trusted key signed without care: each is refused with one sentence, or its engine
is truly proven.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.bounded import Limits
from edge.bundle.pack import list_files, pack
from edge.bundle.signature import sign_manifest
from edge.engine.order import ONNXRUNTIME
from edge.errors import EdgeError
from edge.install import install as install_module
from edge.install import measure_engine as measure_module
from edge.install.install import install_bundle
from edge.install.proof_file import read_proof
from edge.station.store import Store
from tests.support.root import snapshot, trusting_root
from tests.support.tiny_bundle import KeyPair, make_tiny_bundle, tiny_bundle_folder, tiny_graph

Manifest = dict[str, Any]
Change = Callable[[Path, Manifest], object]


@pytest.fixture(scope="module")
def content(key: KeyPair) -> Iterator[Path]:
    """An unpacked bundle, newer than what is installed."""
    with tiny_bundle_folder(key.private, version="2.0.0") as folder:
        yield folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Store:
    store = trusting_root(tmp_path_factory.mktemp("station"), key)
    install_bundle(make_tiny_bundle(tmp_path_factory.mktemp("first"), key), store.root)
    return store


@pytest.fixture
def careless(
    content: Path, tmp_path: Path, key: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Change], Path]:
    """The bundle after a change of its files or its manifest, signed again."""
    # what a power cut would leave is not asked here
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def make(change: Change) -> Path:
        folder = shutil.copytree(content, tmp_path / "content")
        manifest = json.loads((folder / "manifest.json").read_text())
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        change(folder, manifest)
        if before != {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}:
            manifest["files"] = list_files(folder)
        data = json.dumps(manifest, indent=2, sort_keys=True).encode()
        (folder / "manifest.json").write_bytes(data)
        (folder / "signature.json").write_bytes(sign_manifest(data, key.private))
        return pack(folder, tmp_path / "washer-2.0.0.bundle")

    return make


def _is_refused(store: Store, bundle: Path, words: str) -> None:
    before = snapshot(store.root)
    with pytest.raises(EdgeError) as refused:
        install_bundle(bundle, store.root)
    after = snapshot(store.root)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 800
    assert list(after) == list(before)
    # the folder's own time
    assert {name for name in after if after[name] != before[name]} <= {"var/lib/edge"}


# --- changes ---


def camera(**values: object) -> Change:
    return lambda _, m: m["camera"].update(values)


def tensor(kind: str, name: str, **values: object) -> Change:
    return lambda _, m: next(spec for spec in m[kind] if spec["name"] == name).update(values)


def without(kind: str, name: str) -> Change:
    return lambda _, m: m.update({kind: [spec for spec in m[kind] if spec["name"] != name]})


def more(kind: str, spec: Manifest) -> Change:
    return lambda _, m: m[kind].append(spec)


def threshold(**values: object) -> Change:
    return lambda _, m: m["thresholds"]["fp32"].update(values)


def graph(change: Callable[[onnx.ModelProto], object], height: int = 96) -> Change:
    def write(folder: Path, _: Manifest) -> None:
        model = tiny_graph(height, 128)
        change(model)
        (folder / "model/fp32.onnx").write_bytes(model.SerializeToString())

    return write


def raw(name: str, change: Callable[[bytes], bytes]) -> Change:
    def write(folder: Path, _: Manifest) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return write


def text(name: str, **values: object) -> Change:
    """A JSON file of the bundle with other values at its top."""
    return raw(name, lambda data: json.dumps({**json.loads(data), **values}).encode())


def golden(change: Callable[[dict[str, np.ndarray]], object], frames: str = "0003") -> Change:
    def write(folder: Path, _: Manifest) -> None:
        for path in (folder / "golden").glob(f"{frames}.npz"):
            arrays = dict(np.load(path))
            change(arrays)
            np.savez(path, **arrays)

    return write


def entry(**values: object) -> Change:
    """The first normal frame's entry in the index."""

    def change(data: bytes) -> bytes:
        index = json.loads(data)
        index["frames"][0].update(values)
        return json.dumps(index).encode()

    return raw("normal/index.json", change)


def given(**inputs: list[float]) -> Change:
    """What the first normal frame gives beside its pictures."""

    def change(data: bytes) -> bytes:
        index = json.loads(data)
        index["frames"][0]["inputs"].update(inputs)
        return json.dumps(index).encode()

    return raw("normal/index.json", change)


def flipped(data: bytes) -> bytes:
    return (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0xFF]) + data[len(data) // 2 + 1 :]
    )


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says that it is this large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def external(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")


def ready(kind: str, *inputs: str, **attributes: object) -> Callable[[onnx.ModelProto], None]:
    """The score goes through one more operator."""

    def change(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if "score" in node.output).output[0] = "before"
        model.graph.node.append(
            helper.make_node(kind, ["before", *inputs], ["score"], **attributes)
        )

    return change


def endless(model: onnx.ModelProto) -> None:
    """A Loop of 2^62 turns between the score and its output."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["on_out"]),
            helper.make_node("Sin", ["x"], ["x_out"]),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("on", TensorProto.BOOL, []),
            value("x", TensorProto.FLOAT, [1]),
        ],
        [value("on_out", TensorProto.BOOL, []), value("x_out", TensorProto.FLOAT, [1])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.int64(1 << 62), "turns"))
    next(node for node in model.graph.node if "score" in node.output).output[0] = "before"
    model.graph.node.append(helper.make_node("Loop", ["turns", "", "before"], ["score"], body=body))


def greedy(model: onnx.ModelProto) -> None:
    """Four gigabytes of ones that depend on the input, summed up."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 30]), "size"))
    next(node for node in model.graph.node if "score" in node.output).output[0] = "before"
    model.graph.node.extend(
        [
            helper.make_node("Expand", ["before", "size"], ["many"]),
            helper.make_node("ReduceMean", ["many"], ["score"], keepdims=1),
        ]
    )


REFUSED: dict[str, tuple[Change, str]] = {
    # the manifest alone
    "crop of no width": (camera(crop_width=0), "its crop is 0 pixels wide"),
    "crop larger than the stream": (
        camera(width=100),
        "its crop is 128 pixels wide from 0 on, the camera's image 100",
    ),
    "crop outside": (camera(crop_y=1), "its crop is 96 pixels high from 1 on"),
    "crop before the image": (camera(crop_x=-1), "from -1 on"),
    "crop as a word": (camera(crop_width="128"), "camera.crop_width"),
    "no pixels": (camera(width=0), "its camera has 0x96 pixels"),
    "areas the wrong way round": (camera(min_area=0.7), "at least 0.7 and at most 0.6"),
    "no area at all": (camera(min_area=0, max_area=0), "which no part can"),
    "no focal length": (camera(intrinsics=[0, 300, 64, 48]), "focal lengths of 0 and 300"),
    "no unit": (camera(unit=0), "counts depth in 0 m"),
    "no images a second": (camera(fps=0), "0 images a second"),
    "bits": (camera(color_bits=99), "99 bits"),
    "a model on two lines": (
        camera(model="D435\n"),
        r"a line end or another control character: 'D435\n'",
    ),
    "a folder with NUL": (camera(belt="\0"), "its belt holds"),
    "data that clear the screen": (
        lambda _, m: m["provenance"].update(data="\x1b[2J"),
        "its data holds",
    ),
    "presence in a word": (lambda _, m: m.update(presence="yes"), "presence"),
    "presence denied": (lambda _, m: m.update(presence=False), "measures no presence"),
    "no inputs": (lambda _, m: m.update(inputs=[]), "no input color"),
    "no outputs": (lambda _, m: m.update(outputs=[]), "no output score"),
    "no area output": (without("outputs", "area"), "no output area"),
    "no place output": (without("outputs", "place"), "no output place"),
    "no map output": (without("outputs", "map"), "no output map"),
    "map without a batch": (tensor("outputs", "map", shape=[12, 16]), "no output map"),
    "no plane": (without("inputs", "plane"), "no input plane"),
    "input of another type": (
        tensor("inputs", "color", dtype="float32"),
        "the input color is float32",
    ),
    "input of another size": (tensor("inputs", "color", shape=[1, 128, 96, 3]), "(1, 128, 96, 3)"),
    "input of no size": (tensor("inputs", "color", shape=[]), "the input color is uint8 ()"),
    "input twice": (
        more("inputs", {"name": "color", "dtype": "uint8", "shape": [1]}),
        "the input color twice",
    ),
    "output twice": (
        more("outputs", {"name": "map", "dtype": "float32", "shape": [1]}),
        "the output map twice",
    ),
    "site input that nobody gives": (
        more("inputs", {"name": "shift", "dtype": "float32", "shape": [4]}),
        "its input shift has no default",
    ),
    "lift that nobody gives": (
        tensor("inputs", "lift", default=None),
        "its input lift has no default",
    ),
    "default of another type": (tensor("inputs", "region", default=0.5), "is no uint8"),
    "precision twice": (lambda _, m: m.update(precisions=["fp32", "fp32"]), "a precision twice"),
    "promise too good": (threshold(bound=0.0001), "promises"),
    "rate too good": (threshold(expected=0.0001), "promises"),
    "left out without a name": (threshold(left_out=3), "leaves out 3 parts, the manifest names 0"),
    "more verdicts than frames": (
        lambda _, m: m["verdicts"]["fp32"]["drawn"].update(count=9),
        "verdicts.fp32.drawn: Value error, 9 of 8 frames",
    ),
    # the graph against the manifest
    "graph of another size": (
        graph(lambda _: None, height=80),
        "its manifest says uint8 (1, 96, 128, 3)",
    ),
    "graph without place": (graph(lambda m: m.graph.output.pop()), "has no output 'place'"),
    "graph with another input": (
        graph(
            lambda m: m.graph.input.append(
                helper.make_tensor_value_info("more", TensorProto.FLOAT, [1])
            )
        ),
        "has an input 'more'",
    ),
    "graph with an input of 64 bits": (
        graph(
            lambda m: m.graph.input.append(
                helper.make_tensor_value_info("lift", TensorProto.DOUBLE, [1])
            )
        ),
        "the input 'lift' as float64",
    ),
    "graph with a free size": (
        graph(
            lambda m: m.graph.output[0].CopyFrom(
                helper.make_tensor_value_info("map", 1, [1, 1, "h", 16])
            )
        ),
        "the output 'map' as float32 (1, 1, 0, 16)",
    ),
    "graph with weights elsewhere": (graph(external), "lies in another file"),
    "graph of no bytes": (
        raw("model/fp32.onnx", lambda _: b""),
        "cannot be loaded: the file is empty",
    ),
    "graph cut short": (raw("model/fp32.onnx", lambda data: data[:-200]), "cut short"),
    "graph of another format": (
        raw("model/fp32.onnx", lambda _: b"this is no graph"),
        "not an ONNX graph",
    ),
    # the graph itself
    "graph of a later opset": (
        graph(lambda m: setattr(m.opset_import[0], "version", 99)),
        "cannot be loaded",
    ),
    "operator that nobody knows": (graph(ready("Frobnicate")), "cannot be loaded"),
    "graph of no number": (graph(ready("Asin")), "not finite"),
    "graph of one answer": (graph(ready("Sign")), "every normal part has the same score"),
    # reference frames
    "reference frame cut short": (
        raw("golden/0003.npz", lambda data: data[:-100]),
        "0003.npz: not a reference frame",
    ),
    "reference frame damaged": (raw("golden/0003.npz", flipped), "0003.npz: not a reference frame"),
    "reference frame of no bytes": (
        raw("golden/0003.npz", lambda _: b""),
        "0003.npz: not a reference frame",
    ),
    "reference frame of another size": (
        golden(lambda a: a.update(color=a["color"][:, :80])),
        "color is uint8 (1, 80, 128, 3), the manifest says",
    ),
    "reference frame of another type": (
        golden(lambda a: a.update(map=a["map"].astype(float))),
        "map is float64",
    ),
    "reference map of another size": (
        golden(lambda a: a.update(map=a["map"][:, :, :5])),
        "map is float32 (1, 1, 5, 16)",
    ),
    "reference map without numbers": (
        golden(lambda a: a.update(map=a["map"] * np.nan), "*"),
        "map is not finite",
    ),
    "golden plane without numbers": (
        golden(lambda a: a["plane"].fill(np.inf)),
        "plane is not finite",
    ),
    "reference frame without a score": (golden(lambda a: a.pop("score")), "score.npy is missing"),
    "reference frame with more": (
        golden(lambda a: a.update(more=a["map"])),
        "more.npy is too many",
    ),
    "reference frames below the threshold": (
        golden(lambda a: a["score"].fill(1.0), "*"),
        "0 reference frames are above",
    ),
    "reference frame fewer than counted": (
        lambda folder, _: shutil.copy(folder / "golden/0000.npz", folder / "golden/0008.npz"),
        "counts 8 reference frames",
    ),
    # normal frames
    "index with another n": (
        text("normal/index.json", parts=9),
        "the 8 highest of 9, the manifest says 8 of 8",
    ),
    "index with another highest": (text("normal/index.json", highest=7), "the 7 highest of 8"),
    "index with a rank twice": (entry(rank=2), "ranks are doubled"),
    "index with a rank of none": (entry(rank=0), "rank"),
    "index with a name twice": (entry(name="good/002"), "two frames have one name"),
    "index with a name of no input": (given(plain=[1]), "no input 'plain'"),
    "plane of three numbers": (given(plane=[0, 0, 1]), "plane of good/001 has 3 values"),
    "plane beyond float32": (given(plane=[0, 0, 1, 1e300]), "no float32"),
    "index of no JSON": (raw("normal/index.json", lambda data: data[:-5]), "not JSON"),
    "index nested": (raw("normal/index.json", lambda _: b"[" * 100_000), "nested too deeply"),
    "index with NaN": (
        raw("normal/index.json", lambda data: data.replace(b": 8", b": NaN", 1)),
        "NaN is no number",
    ),
    "index with a huge number": (raw("normal/index.json", lambda _: b"1" * 5000), "not JSON"),
    "picture of another size": (
        lambda folder, _: shutil.copy(
            folder / "normal/0000_depth.png", folder / "normal/0000_color.png"
        ),
        "where color of 128x96 pixels is expected",
    ),
    "picture as large as a house": (
        raw("normal/0000_color.png", lambda _: png_of(99_999, 99_999)),
        "no picture",
    ),
    "picture cut short": (raw("normal/0000_color.png", lambda data: data[:60]), "0000_color.png"),
    # the certificate
    "certificate of no JSON": (raw("parity.json", lambda data: data[:-5]), "parity.json: not JSON"),
    "certificate with a key twice": (
        raw(
            "parity.json", lambda data: data.replace(b'"schema": 2', b'"schema": 2, "schema": 2', 1)
        ),
        "there twice",
    ),
    "certificate of other reference frames": (
        text("parity.json", golden_frames=7),
        "counts 7 reference frames",
    ),
    "certificate of other normal parts": (
        text("parity.json", normal_frames=7),
        "counts 7 normal parts",
    ),
    "certificate of an impossible map": (
        text("parity.json", map_low=5.0, map_high=1.0),
        "maps reach from 5 to 1",
    ),
    "certificate of nothing": (text("parity.json", sections=[]), "no fp32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_one_sentence(
    store: Store, careless: Callable[[Change], Path], name: str
) -> None:
    change, words = REFUSED[name]
    _is_refused(store, careless(change), words)


@pytest.mark.usefixtures("engines_in_child")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (endless, "not proven: it took longer than 5 s"),
        (greedy, "no engine decides as the trained model did"),
    ],
)
def test_a_proof_ends_in_time_and_within_its_memory(
    store: Store,
    careless: Callable[[Change], Path],
    monkeypatch: pytest.MonkeyPatch,
    change,
    words: str,
) -> None:
    monkeypatch.setitem(measure_module.LIMITS, ONNXRUNTIME, Limits(5, 1 << 30))
    _is_refused(store, careless(graph(change)), words)


def test_a_contradiction_is_told_where_the_engine_stays_pending_too(
    store: Store, careless: Callable[[Change], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_module, "is_of_this_machine", lambda _: False)
    _is_refused(store, careless(without("outputs", "place")), "no output place")


def test_a_member_as_large_as_a_disk_is_refused_by_its_manifest(
    store: Store, careless: Callable[[Change], Path]
) -> None:
    def fat(_: Path, manifest: Manifest) -> None:
        manifest["files"]["model/fp32.onnx"]["size"] = 1_500_000_000

    _is_refused(store, careless(fat), "files.model/fp32.onnx.size")


@pytest.mark.usefixtures("engines_in_child")
@pytest.mark.parametrize(
    "change",
    [
        lambda *_: None,
        camera(fps=None, serial=None, model="unknown", filters=["whatever"]),
        lambda folder, _: (folder / "report.html").write_bytes(b"\xff\xfe\0"),
    ],
)
def test_what_does_no_harm_is_installed_with_a_proven_engine(
    key: KeyPair, tmp_path: Path, careless: Callable[[Change], Path], change: Change
) -> None:
    station = trusting_root(tmp_path / "station", key)
    install_bundle(careless(change), station.root)
    proof = read_proof(station, station.active())
    section = proof.judge(station.active().manifest).section
    assert section.passed
    assert section.engine_sha256 == station.active().manifest.files["model/fp32.onnx"].sha256
