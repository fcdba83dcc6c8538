"""TensorRT on a real GPU: pytest -m gpu tests/hardware. Never run so far."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.engine.order import tensorrt_is_installed
from tests.support.tiny_bundle import make_key, tiny_bundle_folder

pytestmark = pytest.mark.gpu


def feeds_for(engine: OnnxCpuEngine, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    feeds = {
        name: (
            random.integers(0, 256, shape, np.uint8)
            if dtype == np.uint8
            else np.zeros(shape, dtype)
        )
        for name, (shape, dtype) in engine.inputs.items()
    }
    return {
        **feeds,
        "unit": np.float32([1e-4]),
        "plane": np.float32([0, 0, 1, 0.5]),
        "lift": np.float32([0.005]),
    }


def test_tensorrt_answers_as_onnxruntime_does_from_any_thread_and_reuses_its_plan(
    tmp_path: Path,
) -> None:
    if not tensorrt_is_installed():
        pytest.skip(
            "tensorrt or pycuda is not installed: run this on a Jetson after `edge install`"
        )
    from edge.engine.tensorrt import TensorRtEngine

    with tiny_bundle_folder(make_key(tmp_path).private) as folder:
        model = folder / "model" / "fp32.onnx"
        oracle = OnnxCpuEngine(model)
        engine = TensorRtEngine.from_onnx(model, "fp32", tmp_path / "engines")
        answers = {}

        def judge(seed: int) -> None:
            answers[seed] = engine.run(feeds_for(oracle, seed))

        for seed in range(3):
            thread = threading.Thread(target=judge, args=(seed,))
            thread.start()
            thread.join()
        for seed, answer in answers.items():
            for name, expected in oracle.run(feeds_for(oracle, seed)).items():
                assert np.allclose(answer[name], expected, rtol=1e-3, atol=1e-4), (seed, name)
        assert len(answers) == 3
        engine.close()
        before = [file.stat().st_mtime_ns for file in (tmp_path / "engines").glob("*.plan")]
        TensorRtEngine.from_onnx(model, "fp32", tmp_path / "engines").close()
        assert before == [file.stat().st_mtime_ns for file in (tmp_path / "engines").glob("*.plan")]
