"""What every runtime keeps to, and which of them a machine has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.engine.order import ONNXRUNTIME, TENSORRT, runtime_name, unproven_openers
from edge.engine.protocol import Inputs, check_feeds, outputs_of
from edge.errors import EngineError, MissingDependency

INPUTS: Inputs = {"color": ((1, 4, 6, 3), np.dtype(np.uint8)), "lift": ((1,), np.dtype(np.float32))}
FEEDS = {"color": np.zeros((1, 4, 6, 3), np.uint8), "lift": np.zeros(1, np.float32)}


def test_this_machine_opens_the_cpu_without_tensorrt_and_says_what_is_wrong_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.engine.order.tensorrt_is_installed", lambda: False)
    openers = unproven_openers(tmp_path)
    assert list(openers) == [ONNXRUNTIME]
    with pytest.raises(EngineError, match=r"fp32\.onnx does not exist"):
        openers[ONNXRUNTIME](tmp_path / "fp32.onnx", "fp32")


def test_tensorrt_is_preferred_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.engine.order.tensorrt_is_installed", lambda: True)
    assert list(unproven_openers(tmp_path)) == [TENSORRT, ONNXRUNTIME]


def test_a_runtime_is_named_with_its_version() -> None:
    assert re.fullmatch(r"onnxruntime \d+\.\d+.*", runtime_name(ONNXRUNTIME))
    with pytest.raises(MissingDependency, match="cannot import no_such_runtime"):
        runtime_name("no_such_runtime")


def test_feeds_that_fit_pass_and_others_are_not_looked_at() -> None:
    check_feeds(INPUTS, {**FEEDS, "intrinsics": np.zeros(9)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lift": None}, "'lift' is missing"),
        ({"lift": np.zeros(2, np.float32)}, r"'lift' is float32 \(2,\).*\(1,\)"),
        ({"lift": np.zeros(1)}, "'lift' is float64"),
        ({"color": np.zeros((1, 4, 6, 3), np.float32)}, "'color' is float32"),
    ],
)
def test_feeds_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    feeds = {name: value for name, value in {**FEEDS, **change}.items() if value is not None}
    with pytest.raises(EngineError, match=message):
        check_feeds(INPUTS, feeds)


def test_outputs_lose_their_batch_axis_and_keep_float32() -> None:
    raw = {
        "map": np.ones((1, 1, 2, 3), np.float32),
        "score": np.float32([0.1]),
        "area": np.float32([0.5]),
        "valid": np.float32([1]),
        "place": np.float32([[20, 30, 4, 5, -1, 0.25]]),
        "features": np.zeros(1),
    }
    outputs = outputs_of(raw)
    assert outputs.map.shape == (2, 3)
    assert outputs.score.dtype == np.float32
    assert (outputs.area, outputs.valid) == (0.5, 1.0)
    assert outputs.place.dtype == np.float32
    assert outputs.place.tolist() == [20, 30, 4, 5, -1, 0.25]


@pytest.mark.parametrize("name", ["map", "score", "area", "valid", "place"])
def test_an_output_that_the_engine_does_not_give_is_named(name: str) -> None:
    outputs = {
        "map": np.ones((1, 1, 2, 3)),
        **dict.fromkeys(("score", "area", "valid"), np.zeros(1)),
    }
    whole = {**outputs, "place": np.zeros((1, 6))}
    with pytest.raises(EngineError, match=f"no {name}:"):
        outputs_of({other: value for other, value in whole.items() if other != name})
