"""How long the whole graph takes, sensor bytes to map and score, as a ratio to the complete
EfficientNet-Lite0.

    python tests/benchmarks/graph_speed.py model/fp32.onnx --row MATS "washer, 480x480" 2.5

--row SYSTEM GRAPH LIMIT puts the ratios into the table of docs/figures/results.json. Both run in
onnxruntime fp32 on the CPU with 2 threads: Lite0 at 256 px from a float32 input through its
classifier. Each measurement is a process of its own, 20 warm-up and 200 timed runs, the two
alternated three times. The limit for a compact system is a ratio of 2.5 at the median.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.figures import write_row

WARM_UP, TIMED, ROUNDS, THREADS = 20, 200, 3, 2


def export_lite0(path: Path) -> None:
    """The complete tf_efficientnet_lite0 as ONNX: (1, 3, 256, 256) float32 to 1000 logits."""
    import timm
    import torch

    model = timm.create_model("tf_efficientnet_lite0").eval()
    example = torch.zeros(1, 3, 256, 256)
    torch.onnx.export(
        model,
        (example,),
        str(path),
        input_names=["image"],
        opset_version=18,
        dynamo=True,
        verbose=False,
    )


def time_model(path: Path) -> list[float]:
    """Milliseconds of each timed run, in this process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    feeds = {node.name: example_input(node, generator) for node in session.get_inputs()}
    samples_ms = []
    for i in range(WARM_UP + TIMED):
        start_ns = time.perf_counter_ns()
        session.run(None, feeds)
        if i >= WARM_UP:
            samples_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return samples_ms


def example_input(node, generator: np.random.Generator) -> np.ndarray:
    """A plausible value: a tilted part 3 mm to 15 mm over a table 0.3 m away, so that every branch
    has work to do.
    """
    shape = tuple(node.shape)
    named = {
        "unit": np.array([1e-4], np.float32),
        "intrinsics": np.array([430, 430, 240, 240], np.float32),
        "plane": np.array([0, 0, 1, 0.3], np.float32),
        "lift": np.array([0.002], np.float32),
    }
    if node.name in named:
        return named[node.name]
    if node.name == "depth":
        counts = generator.integers(2850, 2970, shape[:3]).astype("<u2")
        return counts.view(np.uint8).reshape(shape)
    if node.name == "region":
        return np.full(shape, 255, np.uint8)
    if node.type == "tensor(uint8)":
        return generator.integers(0, 256, shape).astype(np.uint8)
    return generator.random(shape).astype(np.float32)


def measure_in_a_process(path: Path) -> list[float]:
    """Run this file with --time in a fresh interpreter."""
    answer = subprocess.run(
        [sys.executable, __file__, "--time", str(path)], check=True, capture_output=True, text=True
    )
    return json.loads(answer.stdout)


def main() -> None:
    """Print p50 and p99 of both per round, and the ratio of the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", help="model/fp32.onnx of a bundle or an export"
    )
    parser.add_argument("--row", nargs=3, metavar=("SYSTEM", "GRAPH", "LIMIT"))
    parser.add_argument("--time", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.time:
        print(json.dumps(time_model(arguments.time)))
        return
    with tempfile.TemporaryDirectory() as folder:
        lite0 = Path(folder) / "lite0.onnx"
        export_lite0(lite0)
        ours, theirs, ratios = [], [], []
        for round_number in range(1, ROUNDS + 1):
            theirs.append(measure_in_a_process(lite0))
            ours.append(measure_in_a_process(arguments.model))
            ratios.append(report(f"round {round_number}", ours[-1], theirs[-1]))
    ratio = report("all rounds", list(chain(*ours)), list(chain(*theirs)))
    if arguments.row:
        system, graph, limit = arguments.row
        write_row("results.json", "speed", [system, graph, ratio, ratios, limit])


def report(label: str, ours: list[float], theirs: list[float]) -> float:
    """One line: medians, tails, ratio. Returns the ratio."""
    (a50, a99), (b50, b99) = np.percentile(ours, [50, 99]), np.percentile(theirs, [50, 99])
    print(
        f"{label}: graph p50 {a50:.2f} ms p99 {a99:.2f} ms, "
        f"Lite0 p50 {b50:.2f} ms p99 {b99:.2f} ms, ratio at p50 {a50 / b50:.2f}"
    )
    return float(a50 / b50)


if __name__ == "__main__":
    main()
