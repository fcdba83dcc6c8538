"""The systems by name. Adding one is its folder and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from edge.errors import ConfigError
from trainer.systems.seam import System

SYSTEM_MODULES: dict[str, str] = {  # imported when asked for: `trainer --help` stays quick
    "mats": "trainer.systems.mats.system",
    "ntsnet": "trainer.systems.ntsnet.system",
    "aand": "trainer.systems.aand.system",
    "m3dm": "trainer.systems.m3dm.system",
    "vmpfd": "trainer.systems.vmpfd.system",
}


def find_system(name: str) -> System[Any]:
    """The system of that name. Raises: ConfigError naming those there are."""
    if name not in SYSTEM_MODULES:
        raise ConfigError(
            f"there is no system {name!r}: choose one of {', '.join(sorted(SYSTEM_MODULES))}"
        )
    module = importlib.import_module(SYSTEM_MODULES[name])
    create: Callable[[], System[Any]] = module.create_system
    return create()
