"""station.toml: what one station is told by whoever wires it.

Every key is checked; an unknown one stops the station and is named. The file is written once, with
a comment at every key, and belongs to the integrator from then on: no command changes it, but for
the name of a station that has none yet.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from edge.errors import ConfigError
from edge.files import is_there, make_folder, read_text, write_atomically

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # JetPack 6 is Python 3.10

PLACE = Path("etc/edge/station.toml")
SIZE_LIMIT = 256 << 10  # bytes

PrecisionChoice = Literal["auto", "fp32", "fp16", "int8"]

# One level of an MQTT topic.
TopicPart = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]


class Section(BaseModel):
    """Frozen, no unknown keys, no NaN or infinity, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @field_validator("*")
    @classmethod
    def _is_one_line(cls, value: object) -> object:
        if isinstance(value, str) and any(ord(character) < ord(" ") for character in value):
            raise ValueError("it holds a line end, NUL or another control character")
        return value


class StationConfig(Section):
    """Names in the topic `edge/<site>/<line>/<station>/`; station also begins every record's id."""

    site: TopicPart = "site"
    line: TopicPart = "line"
    station: TopicPart = "station"


class BrokerConfig(Section):
    """Where verdicts and records go."""

    enabled: bool = True  # false: verdicts are only stored
    host: str = Field(default="localhost", min_length=1, max_length=255)
    port: int = Field(default=1883, ge=1, le=65535)
    tls: bool = False
    protocol: Literal["5", "3.1.1"] = "5"  # of MQTT
    ca_file: str = ""  # PEM; "" = the system's authorities
    cert_file: str = ""  # PEM: what this station shows to a broker that wants it
    key_file: str = ""
    username: str = ""
    password_file: str = ""  # its first line is the password

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> BrokerConfig:
        if self.password_file and not self.username:
            raise ValueError("password_file is set but username is not")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("of cert_file and key_file one is set and the other is not")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file or cert_file is set but tls is false")
        return self


class CameraConfig(Section):
    """Which camera, or what stands in for it. Paths are relative to the root or absolute."""

    kind: Literal["realsense", "virtual", "folder", "recording"] = "realsense"
    path: str = ""  # virtual, folder: images; recording: the .db3 file
    empty: str = ""  # virtual, folder: the empty table, for `edge calibrate plane`
    serial: str = ""  # realsense: "" = the only one that is plugged in
    max_age_ms: int = Field(default=500, ge=10, le=60_000)
    fps: int = Field(default=30, ge=1, le=120)


class RetentionConfig(Section):
    """How long records and images stay on this disk; whichever bound is met first."""

    days: int = Field(default=90, ge=1, le=3650)
    gb: float = Field(default=20.0, gt=0, le=10_000)
    min_free_gb: float = Field(default=1.0, ge=0, le=10_000)
    keep_ok_every: int = Field(default=100, ge=0)  # images of 1 in N OK parts are kept; 0 = of none


class DecisionConfig(Section):
    """From frames to one verdict per part."""

    deadline_ms: int = Field(default=2000, ge=10, le=600_000)
    max_frames: int = Field(default=30, ge=1, le=10_000)
    min_frames: int = Field(
        default=3, ge=1, le=100
    )  # frames with the part in view that open and close a part
    aggregate: Literal["median", "max", "mean"] = "median"

    @model_validator(mode="after")
    def _frames_in_order(self) -> DecisionConfig:
        if self.min_frames > self.max_frames:
            raise ValueError("min_frames is larger than max_frames")
        return self


class RuntimeConfig(Section):
    """What the engine may use of this machine."""

    threads: int = Field(default=2, ge=1, le=64)
    precision: PrecisionChoice = "auto"


class EdgeConfig(Section):
    """The whole of station.toml. A missing section or key has its default."""

    station: StationConfig = StationConfig()
    broker: BrokerConfig = BrokerConfig()
    camera: CameraConfig = CameraConfig()
    retention: RetentionConfig = RetentionConfig()
    decision: DecisionConfig = DecisionConfig()
    runtime: RuntimeConfig = RuntimeConfig()


def read_config(root: Path) -> EdgeConfig:
    """The configuration of the station under `root`; all defaults where it has no station.toml yet.

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
    *section, last = (_shown(str(part)) for part in first["loc"])
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
    """A key as a sentence shows it: on one line, and not endless."""
    return key if key.isprintable() and len(key) <= 64 else repr(key[:64])


def write_first_config(root: Path, camera: CameraConfig) -> bool:
    """Lay down station.toml with every key and its meaning, unless there is one; returns whether it
    was written.
    """
    path = root / PLACE
    if path.exists():
        return False
    make_folder(path.parent)
    write_atomically(path, render_config(EdgeConfig(camera=camera)).encode())
    return True


COMMENTS = {
    "station": (
        "Names in the MQTT topic edge/<site>/<line>/<station>/: letters, digits, . _ - (at most 32"
        " characters)."
    ),
    "station.station": (
        "name it: `edge run` refuses this default, and no two stations may have the same three"
        " names"
    ),
    "broker": "Where verdicts and records go (MQTT). A path may be relative to this root.",
    "broker.enabled": "false: verdicts are stored on this machine only",
    "broker.protocol": "5, or 3.1.1 for a broker that knows no more",
    "broker.ca_file": 'PEM file of the authority; "" = the system\'s',
    "broker.cert_file": "PEM file of this station's own certificate, where the broker wants one",
    "broker.key_file": (
        "its key, PEM without a password; mode 0600, owned by the user of the service"
    ),
    "broker.password_file": (
        "its first line is the password; mode 0600, owned by the user of the service"
    ),
    "camera": "Which camera. A path may be relative to this root.",
    "camera.kind": "realsense | virtual | folder | recording",
    "camera.path": "virtual, folder: images of the belt; recording: the .db3 file",
    "camera.empty": "virtual, folder: images of the empty table, for `edge calibrate plane`",
    "camera.serial": 'realsense: "" = the only one that is plugged in',
    "camera.max_age_ms": "an older frame is UNKNOWN stale",
    "retention": "What stays on this disk, and for how long; whichever bound is met first.",
    "retention.days": "while the station was on: hours without power do not count",
    "retention.gb": "images and records together",
    "retention.min_free_gb": "the disk is never filled further than this",
    "retention.keep_ok_every": (
        "images of 1 in N OK parts are kept, 0 = of none; those of NG and UNKNOWN always are"
    ),
    "decision": "From frames to one verdict per part.",
    "decision.deadline_ms": "a later verdict is not sent; the PLC takes no verdict as a reject",
    "decision.max_frames": "a part is closed after so many frames",
    "decision.min_frames": "frames with a part in view that open it",
    "decision.aggregate": "median | max | mean of the frames' scores",
    "runtime": "What the engine may use of this machine.",
    "runtime.precision": "auto (the fastest that is proven here) | fp32 | fp16 | int8",
}


def require_name(config: EdgeConfig, root: Path) -> None:
    """See that somebody has named the station that is to speak: two of one name throw each other
    off the broker.

    Raises: ConfigError naming the file and the keys.
    """
    if config.broker.enabled and config.station.station == StationConfig().station:
        raise ConfigError(
            f"{root / PLACE}: this station has no name yet: set site, line and station in [station]"
            " so that no other station has the same three (or enabled = false in [broker])"
        )


def require_nameable(root: Path, name: str) -> None:
    """See that the station under `root` may be called `name`: it has no other name, and a topic can
    hold this one.

    Raises: ConfigError.
    """
    try:
        StationConfig(station=name)
    except ValidationError as error:
        raise ConfigError(
            f"--station {name!r} cannot be a level of an MQTT topic: use letters, digits, . _ - "
            "(at most 32, a letter or digit first)"
        ) from error
    named = read_config(root).station.station
    if named not in (StationConfig().station, name):
        raise ConfigError(
            f"{root / PLACE}: this station is named {named} already: leave --station out, or"
            " change it"
        )


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
    """station.toml with every key, its value and its comment."""
    lines = ["# One station. Read when `edge run` starts; an unknown key stops it and is named."]
    for section, values in config.model_dump().items():
        lines += ["", f"# {COMMENTS[section]}", f"[{section}]"]
        for key, value in values.items():
            comment = COMMENTS.get(f"{section}.{key}")
            lines.append(f"{key} = {_toml(value)}" + (f"   # {comment}" if comment else ""))
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A JSON string is a TOML basic string, and JSON's true, false and numbers are TOML's."""
    return json.dumps(value, ensure_ascii=False)
