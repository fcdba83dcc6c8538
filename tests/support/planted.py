"""Engines with planted faults: wrong outputs, or other run times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.proof import prove
from edge.proof.certificate import BoardSection

Arrays = Mapping[str, NDArray[Any]]
Fault = Callable[[Arrays], Arrays]


def plant_fault(
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    precision: str = "",
    feeds: Fault = lambda given: given,
) -> None:
    """From now on onnxruntime's outputs go through `fault` and its inputs through `feeds`;
    precision: of that file.
    """
    run = OnnxCpuEngine.run

    def faulty(engine: OnnxCpuEngine, given: Arrays) -> Arrays:
        if precision not in ("", engine.precision):
            return run(engine, given)
        return fault(run(engine, feeds(given)))

    monkeypatch.setattr(OnnxCpuEngine, "run", faulty)


def plant_times(monkeypatch: pytest.MonkeyPatch, times_ms: Mapping[str, float]) -> None:
    """From now on a proof finds these times, by precision."""
    measured = prove.prove_engine

    def prove_engine(engine: Any, precision: str, *more: Any, **options: Any) -> BoardSection:
        section = measured(engine, precision, *more, **options)
        return section.model_copy(update={"time_ms": times_ms[precision]})

    monkeypatch.setattr(prove, "prove_engine", prove_engine)


def with_score(change: Callable[[float], float]) -> Fault:
    """A fault of the score alone, a function of the true one."""
    return lambda outputs: {
        **outputs,
        "score": np.array([change(float(outputs["score"][0]))], np.float32),
    }


def swapped_depth(feeds: Arrays) -> Arrays:
    """The two bytes of every depth count the wrong way round."""
    return {**feeds, "depth": np.ascontiguousarray(feeds["depth"][..., ::-1])}


def noisy(deviation: float) -> Fault:
    """Noise on the score that belongs to the frame: the same frame gets the same error, spread
    evenly.
    """

    def fault(outputs: Arrays) -> Arrays:
        seed = int(
            np.ascontiguousarray(outputs["map"]).view(np.uint32).sum(dtype=np.uint64) % 2**32
        )
        error = np.random.default_rng(seed).normal(0, deviation)
        return {**outputs, "score": outputs["score"] + np.float32(error)}

    return fault
