"""station.toml: the integrator's settings of one station.

Every key is checked; an unknown key stops the station with a sentence that names it. `edge install`
writes the file once, with a comment at every key. From then on it belongs to the integrator: no
command changes it, except that `--station NAME` names a station that has no name yet. A key's
`description` is its comment in the file and its row in docs/station-toml.md (`python
scripts/write_docs.py`).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from pydantic import Field, ValidationError

from edge.dialect_sections import GpioConfig, ModbusConfig, OpcUaConfig, SparkplugConfig
from edge.errors import ConfigError
from edge.files import is_there, make_folder, read_text, write_atomically
from edge.sections import (
    BrokerConfig,
    CameraConfig,
    CommandsConfig,
    DecisionConfig,
    PageConfig,
    RetentionConfig,
    RuntimeConfig,
    Section,
    StationConfig,
)
from edge.update_sections import UpdateConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # JetPack 6 is Python 3.10

PLACE = Path("etc/edge/station.toml")
SIZE_LIMIT = 256 << 10  # bytes


class EdgeConfig(Section):
    """The whole of station.toml. A missing section or key has its default."""

    station: StationConfig = Field(
        default=StationConfig(),
        description=(
            "Names in the MQTT topic edge/<site>/<line>/<station>/: letters, digits, . _ - (at most"
            " 32 characters)."
        ),
    )
    broker: BrokerConfig = Field(
        default=BrokerConfig(),
        description="Where verdicts and records go (MQTT). A path may be relative to this root.",
    )
    gpio: GpioConfig = Field(
        default=GpioConfig(),
        description=(
            "Discrete lines for trigger and verdict, by the names that the board gives them."
        ),
    )
    opcua: OpcUaConfig = Field(
        default=OpcUaConfig(),
        description=(
            "The OPC UA server, for a PLC that speaks no MQTT. A path may be relative to this root."
        ),
    )
    modbus: ModbusConfig = Field(
        default=ModbusConfig(), description="Registers for a PLC that speaks Modbus TCP."
    )
    camera: CameraConfig = Field(
        default=CameraConfig(),
        description="Which camera, or what stands in for it. A path may be relative to this root.",
    )
    retention: RetentionConfig = Field(
        default=RetentionConfig(),
        description=(
            "What stays on this disk, and for how long; whichever bound is met first decides."
        ),
    )
    decision: DecisionConfig = Field(
        default=DecisionConfig(), description="From frames to one verdict per part."
    )
    commands: CommandsConfig = Field(
        default=CommandsConfig(), description="What the plant may ask of a running station."
    )
    runtime: RuntimeConfig = Field(
        default=RuntimeConfig(), description="What the engine may use of this machine."
    )
    sparkplug: SparkplugConfig = Field(
        default=SparkplugConfig(),
        description="Sparkplug B 3.0, beside or instead of [broker]. Never for verdicts.",
    )
    page: PageConfig = Field(
        default=PageConfig(),
        description="The station's page for people. A path may be relative to this root.",
    )
    update: UpdateConfig = Field(
        default=UpdateConfig(),
        description="New bundles, taken by `edge update`. A path may be relative to this root.",
    )


def read_config(root: Path) -> EdgeConfig:
    """The configuration of the station under `root`; defaults only if it has no station.toml yet.

    Raises: ConfigError naming the file, the key and what is wrong with it.
    """
    path = root / PLACE
    if not is_there(path):
        return EdgeConfig()
    return parse_config(read_text(path, limit=SIZE_LIMIT), str(path))


def parse_config(text: str, where: str = "station.toml") -> EdgeConfig:
    """The configuration in the TOML `text`; `where` names it in errors. Raises: ConfigError."""
    try:
        return EdgeConfig.model_validate(tomllib.loads(text))
    except RecursionError as error:
        raise ConfigError(
            f"{where} is nested too deeply: write [section] and key = value below it"
        ) from error
    except ValidationError as error:
        raise ConfigError(f"{where}: {_complaint(error)}") from error
    except ValueError as error:
        if not isinstance(error, tomllib.TOMLDecodeError):
            raise ConfigError(
                f"{where} holds a number of thousands of digits: correct it there"
            ) from error
        raise ConfigError(
            f"{where} is not TOML: {' '.join(str(error).split())}: correct it there"
        ) from error


def _complaint(error: ValidationError) -> str:
    """The first thing that is wrong, with its key and what to do."""
    first = error.errors(include_url=False)[0]
    *section, last = (_shown(str(key)) for key in first["loc"])
    key = ".".join((*section, last))
    if first["type"] == "extra_forbidden":
        fields = EdgeConfig.model_fields
        known = list(
            getattr(fields[section[0]].annotation, "model_fields", {}) if section else fields
        )
        what = f"[{section[0]}] has the keys" if section else "there are the sections"
        return (
            f"{key}: there is no such key: remove it or correct its name ({what}"
            f" {', '.join(known)})"
        )
    if first["type"] == "model_type":
        return f"{key}: this is a section: write [{key}] and its keys below it"
    return f"{key}: {first['msg']}: correct it".replace(": Value error, ", ": ")


def _shown(key: str) -> str:
    """A key for a sentence: on one line and cut to a readable length."""
    return key if key.isprintable() and len(key) <= 64 else repr(key[:64])


def write_first_config(root: Path, camera: CameraConfig) -> bool:
    """Write station.toml with every key and its meaning, unless there is one; returns whether it
    was written.
    """
    path = root / PLACE
    if path.exists():
        return False
    make_folder(path.parent)
    write_atomically(path, render_config(EdgeConfig(camera=camera)).encode())
    return True


def require_name(config: EdgeConfig, root: Path) -> None:
    """Require a name of a station that connects to a broker: two of one name would disconnect each
    other.

    Raises: ConfigError naming the file and the keys.
    """
    connects = config.broker.enabled or config.sparkplug.enabled
    if connects and config.station.station == StationConfig().station:
        raise ConfigError(
            f"{root / PLACE}: this station has no name yet: set site, line and station in [station]"
            " so that no other station has the same three (or enabled = false in [broker] and"
            " [sparkplug])"
        )


def require_nameable(root: Path, name: str) -> None:
    """Require that the station under `root` has no other name, and that `name` can be a level of an
    MQTT topic.

    Raises: ConfigError.
    """
    require_station_name(name)
    named = read_config(root).station.station
    if named not in (StationConfig().station, name):
        raise ConfigError(
            f"{root / PLACE}: this station is named {named} already: leave --station out, or"
            " change it"
        )


def require_station_name(name: str) -> None:
    """Require that a station's name can be a level of an MQTT topic. Raises: ConfigError."""
    try:
        StationConfig(station=name)
    except ValidationError as error:
        raise ConfigError(
            f"--station {name!r} cannot be a level of an MQTT topic: use letters, digits, . _ - "
            "(at most 32, a letter or digit first)"
        ) from error


def name_station(root: Path, name: str) -> None:
    """Give the station its name, where station.toml still has the default.

    Raises: ConfigError, as require_nameable.
    """
    require_nameable(root, name)
    path = root / PLACE
    text, count = re.subn(
        r'(?m)^station = "station"', f"station = {_toml(name)}", read_text(path), count=1
    )
    if parse_config(text, str(path)).station.station != name:
        raise ConfigError(f"{path}: write station = {_toml(name)} into its section [station]")
    if count:
        write_atomically(path, text.encode())


def render_config(config: EdgeConfig) -> str:
    """station.toml with every key, its value and its description."""
    lines = ["# One station. Read when `edge run` starts; an unknown key stops it and is named."]
    for name, field in EdgeConfig.model_fields.items():
        section: Section = getattr(config, name)
        lines += ["", f"# {field.description}", f"[{name}]"]
        for key, described in type(section).model_fields.items():
            value = getattr(section, key)
            lines.append(f"{key} = {_toml(value)}   # {described.description}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A JSON string is a TOML basic string, and JSON's true, false and numbers are TOML's."""
    return json.dumps(value, ensure_ascii=False)
