"""The checks in the order in which they run: what nothing else can show comes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from edge.errors import ConfigError
from trainer.gpu_check.backbones import compiled_backbone_agrees
from trainer.gpu_check.bench import Bench, Done
from trainer.gpu_check.engines import captured_engine_agrees, runner_agrees
from trainer.gpu_check.graphs import captured_graph_agrees
from trainer.gpu_check.kernels import kernels_agree, pycuda_agrees
from trainer.gpu_check.trainings import trains_alike
from trainer.systems.registry import SYSTEM_MODULES

TRAINING_LIMIT_S, ENGINE_LIMIT_S, SHORT_LIMIT_S = 150.0, 120.0, 60.0


@dataclass(frozen=True)
class Check:
    """act: raises CheckFailed or NotExecuted. limit_s: after which it counts as hanging. least_s:
    it is not begun with less time left.
    """

    name: str
    act: Callable[[Bench], Done]
    limit_s: float
    least_s: float


def training_of(system: str) -> Check:
    """The check of a system's training."""
    return Check(f"train {system}", partial(trains_alike, system), TRAINING_LIMIT_S, 30.0)


_FIRST, *_OTHERS = SYSTEM_MODULES  # whose run the graph and the engine are made of
CHECKS = (
    training_of(_FIRST),
    Check("stage kernels", kernels_agree, SHORT_LIMIT_S, 10.0),
    Check("pycuda stage", pycuda_agrees, SHORT_LIMIT_S, 10.0),
    Check("tensorrt runner", runner_agrees, ENGINE_LIMIT_S, 20.0),
    Check("tensorrt cuda graph", captured_engine_agrees, ENGINE_LIMIT_S, 20.0),
    Check("torch cuda graph", partial(captured_graph_agrees, _FIRST), SHORT_LIMIT_S, 10.0),
    Check("compiled backbone", compiled_backbone_agrees, ENGINE_LIMIT_S, 20.0),
    *(training_of(system) for system in _OTHERS),
)


def find_check(name: str) -> Check:
    """The check of that name. Raises: ConfigError naming those there are."""
    for check in CHECKS:
        if check.name == name:
            return check
    raise ConfigError(f"there is no check {name!r}: {', '.join(one.name for one in CHECKS)}")
