"""Which device torch trains on."""

from __future__ import annotations

import re

import torch

from edge.errors import ConfigError


def require_device(name: str) -> None:
    """Raises: ConfigError unless torch can train on `name`: cpu, cuda, or cuda:N for one of several
    cards.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"--device {name!r}: cpu, cuda, or cuda:N for one of several cards")
    try:
        torch.empty(0, device=name)
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # no driver, no such card; a torch built without CUDA
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ConfigError(
            f"--device {name} cannot be used ({reason}): use --device cpu, or see nvidia-smi"
        ) from error
