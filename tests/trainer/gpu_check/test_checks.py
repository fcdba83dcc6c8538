"""Each check runs here with the CPU in the GPU's place, passes, and finds a planted fault."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import trainer.systems.mats.preset as mats
from edge.engine.stage import HostStage, Rig, compile_host
from tests.support.tiny_product import write_tiny_product
from trainer.evaluate.evaluation import Evaluation, evaluate_run
from trainer.evaluate.judged import open_judged
from trainer.gpu_check import graphs
from trainer.gpu_check.answers import MAP_APART, require_alike
from trainer.gpu_check.backbones import compiled_backbone_agrees, features_apart
from trainer.gpu_check.bench import PRODUCT, Bench, CheckFailed, NotExecuted, frames_of
from trainer.gpu_check.checks import CHECKS
from trainer.gpu_check.engines import captured_engine_agrees, runner_agrees
from trainer.gpu_check.graphs import captured_graph_agrees
from trainer.gpu_check.kernels import kernels_agree, pycuda_agrees, stages_agree
from trainer.gpu_check.trainings import compared, trains_alike
from trainer.systems.registry import SYSTEM_MODULES

SMALL = replace(
    mats.COMPACT, long_side=64, fusion_steps=5, steps_per_epoch=5, batch_size=64, copies=1
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A tiny product, and MATS at a test's size."""
    folder = tmp_path_factory.mktemp("gpu")
    write_tiny_product(folder / PRODUCT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mats.PRESETS, "compact", SMALL)
        yield Bench(folder, "cpu", epochs=1)


def test_every_system_is_trained_and_no_check_is_listed_twice() -> None:
    names = [check.name for check in CHECKS]
    assert {f"train {system}" for system in SYSTEM_MODULES} < set(names)
    assert len(names) == len(set(names))


def test_a_training_is_compared_with_the_cpus(bench: Bench) -> None:
    done = trains_alike("mats", bench)
    assert done.numbers["verdicts_unlike"] == 0, "two trainings on the CPU are the same"
    assert done.numbers["device_i_auroc"] == done.numbers["cpu_i_auroc"]
    assert done.numbers["images"] == 7


def evaluation_of(bench: Bench) -> Evaluation:
    run = bench.trained("mats", on_cpu=True)
    return evaluate_run(run, open_judged(run.info))


def test_another_i_auroc_or_other_verdicts_are_found(bench: Bench) -> None:
    found = evaluation_of(bench)
    rows = [*found.rows[:-1], replace(found.rows[-1], image_auroc=found.overall.image_auroc - 0.06)]
    with pytest.raises(CheckFailed, match="apart"):
        compared(found, replace(found, rows=rows))
    with pytest.raises(CheckFailed, match=r"verdicts differ"):
        compared(found, replace(found, threshold=min(found.scores) - 1))
    images = [replace(found.images[0], score=float("nan")), *found.images[1:]]
    with pytest.raises(CheckFailed, match="no numbers"):
        compared(found, replace(found, images=images))


def test_the_graph_on_unmoving_inputs_answers_as_torch_does(bench: Bench) -> None:
    assert captured_graph_agrees("mats", bench).numbers["frames"] == 4


def test_a_graph_that_keeps_the_first_frame_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a capture that reads other memory than its inputs would."""
    tensors_of, first = graphs.tensors_of, frames_of(bench.trained("mats", on_cpu=True))[0]
    monkeypatch.setattr(graphs, "tensors_of", lambda graph, _: tensors_of(graph, first))
    with pytest.raises(CheckFailed, match="captured graph"):
        captured_graph_agrees("mats", bench)


@pytest.mark.long  # the export takes most of it
def test_engines_are_compared_with_onnxruntime(bench: Bench) -> None:
    assert runner_agrees(bench).numbers["map_apart_share"] == 0


@pytest.mark.parametrize("check", [captured_engine_agrees, pycuda_agrees])
def test_what_has_no_counterpart_on_a_cpu_is_not_executed(check: Any, bench: Bench) -> None:
    with pytest.raises(NotExecuted, match="no counterpart"):
        check(bench)


def answers(score: float = 2.0) -> list[dict[str, NDArray[np.float32]]]:
    anomaly_map = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    return [{"map": anomaly_map, "score": np.float32([score])}]


def test_answers_within_the_tolerance_pass_and_others_are_found() -> None:
    mine, other = answers(), answers()
    other[0]["map"] = other[0]["map"] + np.float32(0.5 * MAP_APART)
    done = require_alike(mine, other, 1.0, "it")
    assert done.numbers["map_apart_share"] == pytest.approx(0.5 * MAP_APART, rel=1e-3)
    other[0]["map"] = mine[0]["map"].transpose(0, 1, 3, 2)
    with pytest.raises(CheckFailed, match="it: the map of frame 0 is off"):
        require_alike(mine, other, 1.0, "it")
    other[0]["map"] = np.full_like(mine[0]["map"], np.nan)
    with pytest.raises(CheckFailed, match="the map of frame 0"):
        require_alike(mine, other, 1.0, "it")
    with pytest.raises(CheckFailed, match="a score is"):
        require_alike(mine, answers(2.1), 1.0, "it")
    with pytest.raises(CheckFailed, match="answered 0 of 1"):
        require_alike(mine, [], 1.0, "it")
    flat = [{**mine[0], "map": np.zeros_like(mine[0]["map"])}]
    with pytest.raises(CheckFailed, match="nothing can be compared"):
        require_alike(flat, flat, 1.0, "it")


def test_features_of_another_backbone_are_found() -> None:
    mine = [
        torch.linspace(0, 1, 24).reshape(1, 2, 3, 4),
        torch.linspace(0, 9, 6).reshape(1, 1, 2, 3),
    ]
    assert features_apart(mine, [mine[0], mine[1] + 0.009]) == pytest.approx(0.001, rel=1e-3)
    with pytest.raises(CheckFailed, match="off by"):
        features_apart(mine, [mine[0], mine[1] + 0.9])
    with pytest.raises(CheckFailed, match="other levels"):
        features_apart(mine, mine[:1])


@pytest.mark.long
def test_an_exported_backbone_is_compared_with_torchs(bench: Bench) -> None:
    assert compiled_backbone_agrees(bench).numbers["features_apart_share"] < 1e-5


def test_the_kernels_are_compiled_and_the_stage_is_compared(bench: Bench) -> None:
    if shutil.which("nvcc") is None:
        with pytest.raises(NotExecuted, match="nvcc is not on the PATH"):
            kernels_agree(bench)
        return
    assert kernels_agree(bench).numbers["cameras"] == 4
    assert b"align_depth" in (bench.folder / "stage.cubin").read_bytes()


def test_a_stage_that_differs_in_one_pixel_is_found(tmp_path: Path) -> None:
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler to build the host side of stage.cu")
    library = tmp_path / "stage.so"
    compile_host(library)

    def off_by_one(rig: Rig, depth: Any, color: Any) -> Any:
        counts, pixels = HostStage(library, rig).run(depth, color)
        counts[5, 7] += 1
        return counts, pixels

    with pytest.raises(CheckFailed, match=r"the same camera: 1 of \d+ values of depth differ"):
        stages_agree(library, off_by_one)
