"""The one builder, run for real with tensorrt_rtx; and what other versions lack, with stand-ins for
their modules.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.engine import plan as build
from edge.engine.plan import (
    EngineKey,
    attach_timing_cache,
    build_plan,
    cached_plan,
    describe_error,
    find_cached_plan,
    network_flags,
)
from edge.errors import EngineError, MissingDependency
from edge.files import sha256_of


@pytest.fixture(scope="module")
def rtx() -> ModuleType:
    return pytest.importorskip(
        "tensorrt_rtx", reason="tensorrt_rtx is not installed: pip install tensorrt-rtx (x86-64)"
    )


def save_graph(
    path: Path, half: bool = False, operator: str = "Relu", quantized: bool = False
) -> Path:
    """bytes -> float -> (half) -> operator -> 1x1 convolution -> float, optionally with Q/DQ around
    the convolution.
    """
    element, kind = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    nodes = [
        helper.make_node("Cast", ["color"], ["x"], to=element, name="cast"),
        helper.make_node(operator, ["x"], ["r"], name="middle"),
    ]
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(kind)
    constants = [numpy_helper.from_array(weight, "w")]
    if quantized:
        constants += [
            numpy_helper.from_array(np.array(0.5, kind), "s"),
            numpy_helper.from_array(np.array(0, np.int8), "z"),
        ]
        nodes += [
            helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("QuantizeLinear", ["w", "s", "z"], ["wq"]),
            helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wd"]),
        ]
    nodes += [
        helper.make_node("Conv", ["d", "wd"] if quantized else ["r", "w"], ["y"], name="conv"),
        helper.make_node("Cast", ["y"], ["map"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("color", TensorProto.UINT8, (1, 3, 8, 8)),
            helper.make_tensor_value_info("intrinsics", TensorProto.FLOAT, (4,)),
        ],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, (1, 4, 8, 8))],
        constants,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10),
        str(path),
    )
    return path


def key_of(path: Path) -> EngineKey:
    return EngineKey(sha256_of(path), "fp32", "1.7.1.116", "89", "x86_64 bench")


@pytest.mark.parametrize(
    ("half", "quantized"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_compiles_every_precision_without_a_gpu(
    rtx: ModuleType, tmp_path: Path, half: bool, quantized: bool
) -> None:
    if quantized and rtx.__version__.startswith("1.6."):  # beside torch-tensorrt: docs/gpu.md
        pytest.skip("tensorrt_rtx 1.6 refuses INT8 without a GPU")
    built = build_plan(rtx, save_graph(tmp_path / "graph.onnx", half, quantized=quantized))
    assert len(built.plan) > 1000
    assert built.layers >= 3
    assert built.timing_cache is None


def test_a_refused_operator_is_named_with_the_parsers_own_message(
    rtx: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(
        EngineError,
        match=(
            r"graph\.onnx: tensorrt_rtx 1\..* refuses the graph: operator Det \(node middle\): .."
        ),
    ) as caught:
        build_plan(rtx, save_graph(tmp_path / "graph.onnx", operator="Det"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph_is_refused(
    rtx: ModuleType, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "graph.onnx").write_bytes(content)
    with pytest.raises(EngineError, match=r"graph\.onnx.*refuses"):
        build_plan(rtx, tmp_path / "graph.onnx")


def test_a_missing_file_is_named(rtx: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"graph\.onnx: cannot be read"):
        build_plan(rtx, tmp_path / "graph.onnx")


def test_a_missing_library_comes_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(MissingDependency, match="nvidia-jetpack"):
        build.load_library("tensorrt")


def test_an_unused_contract_input_is_no_warning(
    rtx: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tensorrt"):
        build_plan(rtx, save_graph(tmp_path / "graph.onnx"))
    assert "intrinsics" not in caplog.text


def test_a_plan_is_built_once_per_key(
    rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = save_graph(tmp_path / "graph.onnx"), tmp_path / "engines"
    key = key_of(path)
    assert find_cached_plan(cache, key) is None
    plan = cached_plan(rtx, path, cache, key)
    assert find_cached_plan(cache, key) == plan
    monkeypatch.setattr(build, "build_plan", lambda *_: pytest.fail("built again"))
    assert cached_plan(rtx, path, cache, key) == plan
    assert [file.name for file in cache.iterdir()] == [plan.name]


def test_every_part_of_the_key_is_in_the_name() -> None:
    key = EngineKey("a" * 64, "fp16", "10.3.0", "87", "Jetson AGX Orin")
    others = [
        replace(key, digest="b" * 64),
        replace(key, precision="int8"),
        replace(key, tensorrt="10.3.1"),
        replace(key, sm="110"),
        replace(key, board="Jetson Orin NX"),
    ]
    assert len({key.stem, *(other.stem for other in others)}) == 6
    assert all("/" not in other.stem and " " not in other.stem for other in others)
    # graph and precision share one
    assert len({key.timing_stem, *(other.timing_stem for other in others)}) == 4


def test_a_graph_that_changed_since_it_was_verified_is_not_built(
    rtx: ModuleType, tmp_path: Path
) -> None:
    path = save_graph(tmp_path / "graph.onnx")
    key = key_of(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(EngineError, match="changed since it was verified"):
        cached_plan(rtx, path, tmp_path / "engines", key)


def test_a_build_that_fails_leaves_no_plan(rtx: ModuleType, tmp_path: Path) -> None:
    path = save_graph(tmp_path / "graph.onnx", operator="Det")
    with pytest.raises(EngineError):
        cached_plan(rtx, path, tmp_path / "engines", key_of(path))
    assert not list((tmp_path / "engines").iterdir())


class FakeCache:
    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def serialize(self) -> bytes:
        return self.blob + b"+"


class FakeConfig:
    """A builder config of TensorRT 10 or 11: blobs that begin with "bad" are of another version."""

    def __init__(self) -> None:
        self.cache: FakeCache | None = None

    def create_timing_cache(self, blob: bytes) -> FakeCache:
        return FakeCache(blob)

    def set_timing_cache(self, cache: FakeCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.blob.startswith(b"bad"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> FakeCache | None:
        return self.cache


@pytest.mark.parametrize(("blob", "kept"), [(None, b"+"), (b"old", b"old+"), (b"bad", b"+")])
def test_timing_cache_goes_in_and_out_and_a_foreign_one_is_dropped(
    blob: bytes | None, kept: bytes
) -> None:
    config = FakeConfig()
    assert build.timing_bytes(config, attach_timing_cache(config, blob)) == kept


def test_versions_without_timing_caches_or_strong_typing_are_served() -> None:
    assert attach_timing_cache(SimpleNamespace(), b"x") is None
    assert build.timing_bytes(SimpleNamespace(), None) is None
    flags: Any = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace())
    assert network_flags(flags) == 0
    flags.NetworkDefinitionCreationFlag.STRONGLY_TYPED = 1
    assert network_flags(flags) == 2


def test_parser_errors_of_versions_without_operator_names_still_read() -> None:
    assert (
        describe_error(SimpleNamespace(desc=lambda: "no\n importer", node=lambda: 7))
        == "no importer"
    )
    error = SimpleNamespace(
        desc=lambda: "no importer", node_operator=lambda: "Det", node_name=lambda: "n7"
    )
    assert describe_error(error) == "operator Det (node n7): no importer"
