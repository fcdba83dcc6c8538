"""Which dialects a station speaks: their registry.

A new dialect is one file beside edge/line/mqtt.py, with a class that offers edge.line.base.Line and
a function that makes it from a LineSetup, one entry in DIALECTS, and a section of its name in
station.toml with the key `enabled`. It reads its records from a consumer of its own,
`setup.outbox.consumer(NAME)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import cast

from edge.config import EdgeConfig
from edge.errors import ConfigError
from edge.line.base import Line, LineSetup
from edge.line.mqtt import make_mqtt_line
from edge.line.none import make_no_line
from edge.line.several import SeveralLines


def _later(module: str, name: str) -> Callable[[LineSetup], Line]:
    """The function of that name in edge.line, imported only where a station asks for it: one
    without that dialect pays neither for its memory nor for its library.
    """

    def make(setup: LineSetup) -> Line:
        return cast(Line, getattr(import_module(f"edge.line.{module}"), name)(setup))

    return make


DIALECTS: Mapping[str, Callable[[LineSetup], Line]] = MappingProxyType(
    {
        "mqtt": make_mqtt_line,
        "modbus": _later("modbus", "make_modbus_line"),
        "opcua": _later("opcua", "make_opcua_line"),
        "gpio": _later("gpio", "make_gpio_line"),
        "sparkplug": _later("sparkplug", "new_sparkplug_line"),
    }
)
SECTIONS: Mapping[str, str] = MappingProxyType(  # of station.toml
    {name: name for name in DIALECTS} | {"mqtt": "broker"}
)
TRIGGERING = ("mqtt", "modbus", "opcua", "gpio")  # the dialects in which a PLC can trigger

NO_TRIGGERS = (
    "mode is triggered in [decision] of station.toml, and enabled is false in"
    f" {', '.join(f'[{SECTIONS[name]}]' for name in TRIGGERING)}: nobody could send a trigger, so"
    " switch one of them on, or set mode to free_run"
)


def dialects_of(config: EdgeConfig) -> tuple[str, ...]:
    """The names, in DIALECTS, of what station.toml asks for."""
    return tuple(name for name in DIALECTS if getattr(config, SECTIONS[name]).enabled)


def require_triggers(config: EdgeConfig) -> None:
    """Raises: ConfigError if parts are triggered and no dialect could bring a trigger."""
    if config.decision.is_triggered and not any(map(partial(_can_trigger, config), TRIGGERING)):
        raise ConfigError(NO_TRIGGERS)


def _can_trigger(config: EdgeConfig, name: str) -> bool:
    """Whether that dialect is enabled and, where its section tells, has a way in for triggers."""
    return name in dialects_of(config) and getattr(
        getattr(config, SECTIONS[name]), "brings_triggers", True
    )


def make_line(setup: LineSetup) -> Line:
    """The line that the station is configured for; it sends nothing before start(). What waits in
    the outbox for a dialect that station.toml no longer asks for is forgotten.

    Raises: ConfigError if a file that station.toml names for it cannot be used.
    """
    lines = {name: DIALECTS[name](setup) for name in dialects_of(setup.config)}
    for name in set(DIALECTS) - set(lines):
        setup.outbox.forget_consumer(name)
    if not lines:
        return make_no_line(setup)
    return SeveralLines(lines) if len(lines) > 1 else next(iter(lines.values()))
