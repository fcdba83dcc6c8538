"""How the time of the selective scan grows with the number of tokens, as ratios to 64 tokens.

    python tests/benchmarks/scan_length.py --write

The states of a block of VMPFD-AD's compact preset, both directions, batch 1: in the parallel form
in torch and as an ONNX graph in onnxruntime, and token by token in torch. One thread; the lengths
take turns, ROUNDS times, and the shortest time of each counts, so that other work on the machine
weighs little.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.figures import how, write_entry
from trainer.systems.vmpfd.preset import COMPACT
from trainer.systems.vmpfd.scan import prefix, recurrence

LENGTHS = (64, 128, 256, 512, 1024)
ROUNDS = 30


class Prefix(nn.Module):
    """The parallel form as a graph."""

    def forward(self, decay: Tensor, drive: Tensor) -> Tensor:
        """States of (N, L, M)."""
        return prefix(decay, drive)


def session_of(decay: Tensor, drive: Tensor) -> Callable[[], object]:
    """The parallel form in onnxruntime, ready to run on these."""
    import onnxruntime

    buffer = io.BytesIO()
    names = ["decay", "drive"]
    program = torch.onnx.export(
        Prefix().eval(),
        (decay, drive),
        dynamo=True,
        opset_version=18,
        input_names=names,
        verbose=False,
    )
    assert program is not None  # without a file name there is one
    program.save(buffer)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        buffer.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {"decay": decay.numpy(), "drive": drive.numpy()}
    return lambda: session.run(None, feeds)


def forms(length: int) -> dict[str, Callable[[], object]]:
    """What is timed at one length."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, length, COMPACT.states * COMPACT.inner)
    decay, drive = torch.rand(shape, generator=generator), torch.randn(shape, generator=generator)
    return {
        "parallel, torch": lambda: prefix(decay, drive),
        "parallel, onnxruntime": session_of(decay, drive),
        "token by token, torch": lambda: recurrence(decay, drive),
    }


@torch.no_grad()
def main() -> None:
    """Print a table, and with --write put its ratios into docs/figures/results.json."""
    torch.set_num_threads(1)
    timed = {length: forms(length) for length in LENGTHS}
    seconds = {(name, length): [np.inf] for length in LENGTHS for name in timed[length]}
    for _ in range(ROUNDS):
        for length in LENGTHS:
            for name, run in timed[length].items():
                start = time.perf_counter()
                run()
                seconds[name, length].append(time.perf_counter() - start)
    print(f"{'tokens':24}" + "".join(f"{length:>8}" for length in LENGTHS))
    for name in timed[LENGTHS[0]]:
        first = min(seconds[name, LENGTHS[0]])
        print(
            f"{name:24}"
            + "".join(f"{min(seconds[name, length]) / first:8.2f}" for length in LENGTHS)
        )
    if "--write" in sys.argv:
        values = {
            f"{name}, {length} tokens": min(seconds[name, length]) / min(seconds[name, LENGTHS[0]])
            for name in ("parallel, onnxruntime", "token by token, torch")
            for length in LENGTHS[1:]
        }
        write_entry("results.json", "scan", {**how(), "values": values})
    ratios = [
        min(seconds["token by token, torch", length]) / min(seconds["parallel, torch", length])
        for length in LENGTHS
    ]
    print(f"{'by token / parallel':24}" + "".join(f"{ratio:8.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
