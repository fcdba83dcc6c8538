"""The whole graph on the GPU without TensorRT: torch as it is, and as a captured CUDA graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from trainer.api import TrainedRun
from trainer.gpu_check.answers import Answer, require_alike
from trainer.gpu_check.bench import Bench, Done, Feeds, frames_of
from trainer.graph.deploy import Deployed

WARM_UP = 3  # calls before the capture, as torch's notes on CUDA graphs ask for
Replay = Callable[[], Sequence[Tensor]]  # the answers of what now stands in the inputs


def captured_graph_agrees(system: str, bench: Bench) -> Done:
    """Capture the graph of a trained run once, and replay it on other frames.

    Raises: CheckFailed where it answers otherwise than torch on the CPU.
    """
    run = bench.trained(system, on_cpu=True)
    frames = frames_of(run)
    expected = [run.deployed.run(frame) for frame in frames]
    found = replayed(run, frames, bench.device)
    return require_alike(expected, found, run.info.threshold.value, "the captured graph")


@torch.no_grad()
def replayed(run: TrainedRun, frames: Sequence[Feeds], device: str) -> list[Answer]:
    """Answers to the frames of a graph that was captured on the first of them; on a CPU, where
    nothing can be captured, of the graph on the same unmoving inputs.
    """
    graph = copy.deepcopy(run.deployed).to(device).eval()
    inputs = [tensor.to(device) for tensor in tensors_of(graph, frames[0])]
    replay: Replay = captured(graph, inputs) if device != "cpu" else lambda: graph(*inputs)
    answers: list[Answer] = []
    for frame in frames:
        for mine, given in zip(inputs, tensors_of(graph, frame), strict=True):
            mine.copy_(given)
        outputs = [output.cpu().numpy() for output in replay()]
        answers.append(dict(zip(graph.outputs, outputs, strict=True)))
    return answers


def captured(graph: Deployed, inputs: Sequence[Tensor]) -> Replay:
    """Capture one pass over `inputs`, whose memory every replay reads."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            graph(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        outputs: Sequence[Tensor] = graph(*inputs)

    def replay() -> Sequence[Tensor]:
        recorded.replay()
        return outputs

    return replay


def tensors_of(graph: Deployed, feeds: Feeds) -> list[Tensor]:
    """Graph inputs in order."""
    return [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in graph.inputs]
