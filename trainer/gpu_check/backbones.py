"""The frozen backbone compiled by torch-tensorrt, `pip install '.[tensorrt]'`: its features against
torch's, and whether it is quicker where a training asks for them.

No training uses it yet: it has to be seen on a GPU first that the features are the same and that
compiling pays.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainer.gpu_check.bench import Bench, CheckFailed, Done, NotExecuted, timed
from trainer.layers.backbone import LITE0_LEVELS, build_trunk

BATCH, SIDE_PX = 16, 256  # views that a training sends through together
REPEATS = 10
FEATURES_APART = 0.01  # of a level's range: TF32 on both sides, tactics of another order
Forward = Callable[[Tensor], Sequence[Tensor]]


@torch.no_grad()
def compiled_backbone_agrees(bench: Bench) -> Done:
    """Compile, compare and time. Raises: CheckFailed where features differ."""
    trunk = build_trunk(LITE0_LEVELS, None).to(bench.device)
    generator = torch.Generator().manual_seed(0)
    color = 255 * torch.rand(BATCH, 3, SIDE_PX, SIDE_PX, generator=generator)
    color = color.to(bench.device)
    compiled, compile_s = timed(lambda: _compiled(trunk, color, bench.is_rehearsal))
    share = features_apart(trunk(color), compiled(color))
    plain_s, compiled_s = (_seconds(one, color, bench.device) for one in (trunk, compiled))
    return Done(
        f"features within {share:.1e} of their range; {plain_s / compiled_s:.2f} times torch's"
        f" speed, compiled in {compile_s:.0f} s",
        {
            "features_apart_share": share,
            "compile_s": compile_s,
            "torch_ms": 1e3 * plain_s,
            "compiled_ms": 1e3 * compiled_s,
        },
    )


def features_apart(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Largest difference as a share of its level's range.

    Raises: CheckFailed beyond FEATURES_APART, or for other levels.
    """
    if [one.shape for one in expected] != [one.shape for one in found]:
        raise CheckFailed("the compiled backbone gives other levels than torch")
    shares = []
    for mine, other in zip(expected, found, strict=True):
        spread = float(mine.max() - mine.min())
        shares.append(float((mine - other).abs().max()) / spread)
    if not max(shares) <= FEATURES_APART:
        raise CheckFailed(f"features of the compiled backbone are off by {max(shares):.2%}")
    return max(shares)


def _compiled(trunk: nn.Module, color: Tensor, is_rehearsal: bool) -> Forward:
    program = torch.export.export(trunk, (color,))
    if is_rehearsal:
        return program.module()
    compiled: Forward = torch_tensorrt().dynamo.compile(
        program, arg_inputs=(color,), min_block_size=1, require_full_compilation=True
    )
    return compiled


def torch_tensorrt() -> Any:
    """The library. Raises: NotExecuted where it is missing or refuses this machine."""
    try:
        return importlib.import_module("torch_tensorrt")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise NotExecuted(
            f"cannot import torch_tensorrt ({why}): pip install '.[tensorrt]'"
        ) from error


def _seconds(forward: Forward, color: Tensor, device: str) -> float:
    """Of one batch, after a warm-up."""

    def run(times: int) -> None:
        for _ in range(times):
            forward(color)
        if device != "cpu":
            torch.cuda.synchronize()

    repeats = 1 if device == "cpu" else REPEATS
    run(repeats)
    _, seconds = timed(lambda: run(repeats))
    return seconds / repeats
