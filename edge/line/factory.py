"""Which line a station speaks: the registry of the dialects.

A new dialect is one file beside edge/line/mqtt.py, with a class that offers edge.line.base.Line and
a function that makes it from a LineSetup, and one entry in DIALECTS; `dialect_of` says when a
station uses it. It reads its records from a consumer of its own, `setup.outbox.consumer(NAME)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edge.config import EdgeConfig
from edge.errors import ConfigError
from edge.line.base import Line, LineSetup, TriggeredLine
from edge.line.mqtt import make_mqtt_line
from edge.line.none import make_no_line

NO_TRIGGERS = (
    "mode is triggered in [decision] of station.toml, and enabled is false in [broker]: triggers"
    " come from a broker, so name one, or set mode to free_run"
)

DIALECTS: Mapping[str, Callable[[LineSetup], Line]] = MappingProxyType(
    {"mqtt": make_mqtt_line, "none": make_no_line}
)


def dialect_of(config: EdgeConfig) -> str:
    """The name, in DIALECTS, of what station.toml asks for."""
    return "mqtt" if config.broker.enabled else "none"


def require_triggers(line: Line) -> TriggeredLine:
    """The same line. Raises: ConfigError if it hears no triggers."""
    if not isinstance(line, TriggeredLine):
        raise ConfigError(NO_TRIGGERS)
    return line


def make_line(setup: LineSetup) -> Line:
    """The line that the station is configured for; it sends nothing before start().

    Raises: ConfigError if a file that station.toml names for it cannot be used.
    """
    return DIALECTS[dialect_of(setup.config)](setup)
