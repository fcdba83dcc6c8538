"""Exponential moving average normalization (EMAN), NTSNet section 3.3, equations 3 to 8.

Mean and variance of a teacher's BatchNorm follow those of the student's batches, m = 0.99; the
teacher normalizes with them (equation 8) and keeps its own gain and bias. Nothing else of the
teacher moves, and no gradient reaches it.

Settled here: which layers follow which. The paper's networks have the same BatchNorms in both; ours
are paired by name (`same_named`) where they do, otherwise at the level outputs only, by width
(trainer.systems.ntsnet.student). The variance is the biased one, as equation 4 has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

MOMENTUM = 0.99  # m of equations 6 and 7

Pair = tuple[nn.BatchNorm2d, nn.BatchNorm2d]  # student's, teacher's


@contextmanager
def following(pairs: Sequence[Pair], momentum: float = MOMENTUM) -> Iterator[None]:
    """Inside, every batch that meets a student's BatchNorm in training mode moves its teacher's
    statistics.
    """
    handles = [
        student.register_forward_pre_hook(_mover(teacher, momentum)) for student, teacher in pairs
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mover(
    teacher: nn.BatchNorm2d, momentum: float
) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """The hook before a student's BatchNorm."""

    def moved(student: nn.Module, batch: tuple[Tensor, ...]) -> None:
        if student.training:
            move(teacher, batch[0], momentum)

    return moved


@torch.no_grad()
def move(teacher: nn.BatchNorm2d, batch: Tensor, momentum: float = MOMENTUM) -> None:
    """Equations 3, 4, 6 and 7 for one batch (N, C, h, w) of the student's."""
    mean, variance = cast(Tensor, teacher.running_mean), cast(Tensor, teacher.running_var)
    mean.mul_(momentum).add_(batch.mean(dim=(0, 2, 3)), alpha=1 - momentum)
    variance.mul_(momentum).add_(batch.var(dim=(0, 2, 3), correction=0), alpha=1 - momentum)


def same_named(student: nn.Module, teacher: nn.Module) -> list[Pair]:
    """Pairs of BatchNorms that have the same name and width in both networks."""
    own = dict(norms(teacher))
    pairs = ((norm, own.get(name)) for name, norm in norms(student))
    return [
        (norm, other)
        for norm, other in pairs
        if other is not None and other.num_features == norm.num_features
    ]


def norms(network: nn.Module) -> list[tuple[str, nn.BatchNorm2d]]:
    """The BatchNorms of a network with their names, in order."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
