"""What shift, scale and moments cost: the time of a graph with them over that of the same graph
without.

    python tests/benchmarks/adaptation_speed.py --write

Every system's compact preset, untrained, whole graphs of a 480x480 crop (with depth the outline
and its silhouette, too), in onnxruntime fp32 on one thread of the CPU, whose own time counts, so
that other work on the machine weighs little. In the graph without them the features pass as they
are and the moments are zeros. Both graphs take turns within one process, ROUNDS times; a ratio is
that of the medians. The limit is 1.02.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.figures import how, write_entry
from tests.benchmarks.graph_speed import example_input
from trainer.export.onnx_file import export_onnx
from trainer.graph.deploy import Deployed
from trainer.graph.preprocess import Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.layers.adaptation import Adaptation
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest

TITLES = {"mats": "MATS", "ntsnet": "NTSNet", "aand": "AAND", "m3dm": "M3DM", "vmpfd": "VMPFD-AD"}
SIDE = 480  # px, of the crop
BANK_ROWS = 256  # of each of M3DM's banks, as most products ship them
WARM_UP, ROUNDS, PARTS = 20, 300, 3  # parts: in which the rounds are told one by one
LIMIT = 1.02


class Unadapted(nn.Module):
    """In the place of an adaptation: features as they are, moments of zero."""

    def __init__(self, own: Adaptation) -> None:
        super().__init__()
        self.inputs, self.count = own.inputs, sum(own.channels)

    def forward(self, groups: Sequence[Tensor], *_: Any) -> tuple[list[Tensor], Tensor]:
        """As Adaptation."""
        return [*groups], torch.zeros(1, 2, self.count)


def deployed_graph(name: str, *, depth: bool, preset: str = "compact") -> Deployed:
    """The whole graph of a system, untrained."""
    system = find_system(name)
    sizes = system.sizes(preset, SIDE, SIDE, depth)
    sizes = WorkingSizes(sizes.color, sizes.depth, (SIDE, SIDE))
    detector: Any = system.build(
        BuildRequest(preset, sizes, random_backbone=name == "vmpfd")  # no teacher for its PDN
    )
    if name == "m3dm":
        for _, bank in detector.named_banks():
            bank.fill(torch.randn(BANK_ROWS, len(bank.center)))
    for buffer, values in detector.named_buffers():
        if "gain" in buffer:  # a factor of 1 would be left out of the graph
            values.fill_(1.5)
    deployed = Deployed(Preprocess(SIDE, SIDE, sizes.color, sizes.depth), detector, 0.01)
    deployed.add_outline()
    return deployed.requires_grad_(False).eval()


def runner(path: Path) -> Callable[[], float]:
    """Runs a graph once; the milliseconds that it took this thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # it would warn of inputs that the graph without them ignores
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    feeds = {node.name: example_input(node, generator) for node in session.get_inputs()}

    def run() -> float:
        start_ns = time.thread_time_ns()
        session.run(None, feeds)
        return (time.thread_time_ns() - start_ns) / 1e6

    return run


def measured(name: str, *, depth: bool) -> tuple[float, list[float]]:
    """The ratio of all rounds, and of every part of them."""
    deployed = deployed_graph(name, depth=depth)
    with tempfile.TemporaryDirectory() as folder:
        adapted = export_onnx(deployed, Path(folder) / "with.onnx")
        deployed.detector.adaptation = Unadapted(deployed.detector.adaptation)
        plain = export_onnx(deployed, Path(folder) / "without.onnx")
        runners = [runner(adapted), runner(plain)]
    ratio, parts = ratios_of(runners)
    print(f"{name}: ratio {ratio:.3f}", flush=True)
    return ratio, parts


def ratios_of(runners: Sequence[Callable[[], float]]) -> tuple[float, list[float]]:
    """The median time of the first over that of the second, both run in turn: of all rounds, and of
    every part of them.
    """
    samples = np.array([[run() for run in runners] for _ in range(WARM_UP + ROUNDS)])[WARM_UP:]
    first, second = np.median(samples, axis=0)
    ratios = [
        float(np.median(part[:, 0]) / np.median(part[:, 1]))
        for part in np.array_split(samples, PARTS)
    ]
    return float(first / second), ratios


def main() -> None:
    """Print every ratio, and with --write put them into docs/figures/results.json."""
    rows = [
        [title, graph, *measured(name, depth=depth), f"{LIMIT:g}"]
        for depth, graph in ((True, "with depth"), (False, "color only"))
        for name, title in TITLES.items()
    ]
    if "--write" in sys.argv:
        conditions = (
            "Time of the whole graph with shift, scale and moments over its time without, at p50;"
            f" compact presets, {SIDE}x{SIDE}, onnxruntime fp32, processor time of one thread;"
            f" {ROUNDS} runs of both in turn, all of them and in {PARTS} parts."
        )
        columns = [
            "system",
            "graph",
            {"title": "time, multiple", "digits": 3},
            {"title": "part by part", "digits": 3},
            "limit",
        ]
        entry = {**how(), "conditions": conditions, "columns": columns, "rows": rows}
        write_entry("results.json", "adaptation_speed", entry)


if __name__ == "__main__":
    main()
