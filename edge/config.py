"""station.toml: the integrator's settings of one station.

Every key is checked; an unknown key stops the station with a sentence that names it. `edge install`
writes the file once, with a comment at every key. From then on it belongs to the integrator: no
command changes it, except that `--station NAME` names a station that has no name yet. A key's
`description` is its comment in the file and its row in docs/station-toml.md (`python
scripts/write_docs.py`).
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Literal, get_args

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
PLAYED = ("virtual", "folder", "recording")  # kinds of camera that play files

CommandName = Literal[  # as edge.line.commands.Verb
    "select", "calibrate", "rollback", "restart_camera", "reset", "pause", "resume"
]

# An identifier of Sparkplug: one level of an MQTT topic, "" where another name is taken.
SparkplugId = Annotated[str, StringConstraints(pattern=r"^[^+/#$]{0,64}$")]
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
    """Section [station]."""

    site: TopicPart = Field(default="site", description="first level after edge/ in every topic")
    line: TopicPart = Field(default="line", description="second level")
    station: TopicPart = Field(
        default="station",
        description=(
            "third level, and the beginning of every record's id. Name it: `edge run` refuses this"
            " default, and no two stations may have the same three names"
        ),
    )


class BrokerConfig(Section):
    """Section [broker]."""

    enabled: bool = Field(
        default=True, description="false: verdicts are stored on this machine only"
    )
    host: str = Field(
        default="localhost",
        min_length=1,
        max_length=255,
        description="name or address of the broker",
    )
    port: int = Field(default=1883, ge=1, le=65535, description="TCP port; 8883 is usual with TLS")
    tls: bool = Field(default=False, description="true: TLS 1.2 or later")
    protocol: Literal["5", "3.1.1"] = Field(
        default="5", description="of MQTT; 3.1.1 for a broker that knows no more"
    )
    ca_file: str = Field(default="", description='PEM file of the authority; "" = the system\'s')
    cert_file: str = Field(
        default="",
        description="PEM file of this station's own certificate, where the broker wants one",
    )
    key_file: str = Field(
        default="",
        description=(
            "its key, PEM without a password; mode 0600, owned by the user of the service"
        ),
    )
    username: str = Field(default="", description='"" = the broker wants none')
    password_file: str = Field(
        default="",
        description="its first line is the password; mode 0600, owned by the user of the service",
    )

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> BrokerConfig:
        if self.password_file and not self.username:
            raise ValueError("password_file is set but username is not")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("of cert_file and key_file one is set and the other is not")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file or cert_file is set but tls is false")
        return self


GpioRole = Literal["trigger", "ready", "ok", "ng", "busy", "unknown", "valid", "fault"]
GPIO_OUTPUTS = ("ready", "ok", "ng", "busy", "unknown", "valid", "fault")


class GpioConfig(Section):
    """Section [gpio]."""

    enabled: bool = Field(default=False, description="true: verdicts on discrete lines")
    chip: str = Field(
        default="",
        description=(
            'label or device of the GPIO chip, as `gpiodetect` shows them; "" = the one that has'
            " the lines"
        ),
    )
    trigger: str = Field(
        default="",
        description=(
            "name, as `gpioinfo` shows it, of the input that triggers a part, with mode ="
            ' "triggered" in [decision]; "" = none'
        ),
    )
    ready: str = Field(
        default="", description="output: a part would be judged now and its verdict shown"
    )
    ok: str = Field(
        default="", description="output: the part is OK; wire it so that a released line rejects"
    )
    ng: str = Field(default="", description="output: the part is NG; never active with `ok`")
    busy: str = Field(default="", description="output: from an accepted trigger to its verdict")
    unknown: str = Field(
        default="", description="output: the part is UNKNOWN; `ok` and `ng` are then released"
    )
    valid: str = Field(
        default="", description="output: a verdict is shown, also UNKNOWN; the last to be set"
    )
    fault: str = Field(default="", description="output: the station is in the state fault")
    active_low: list[GpioRole] = Field(
        default=[], description='keys of lines that are active at 0 V, such as ["trigger", "ok"]'
    )
    mode: Literal["pulse", "level"] = Field(
        default="pulse",
        description=(
            "pulse: a verdict is shown for pulse_ms; level: until the next trigger. In free run it"
            " is always a pulse"
        ),
    )
    pulse_ms: int = Field(
        default=100,
        ge=5,
        le=10_000,
        description="length of a pulse, and in free run of the pause after it",
    )
    deadline_ms: int = Field(
        default=2000,
        ge=50,
        le=600_000,
        description="of the verdict, from the edge of the trigger; a later one is not shown",
    )
    delay_ms: int = Field(
        default=0, ge=0, le=60_000, description="from the edge until the part is in view"
    )
    frames: int = Field(default=1, ge=1, le=30, description="how many are judged together")
    answer_ms: int = Field(
        default=0,
        ge=0,
        le=600_000,
        description=(
            "from the edge until the verdict is shown, for a machine that counts on a constant"
            " time; 0: as soon as there is one"
        ),
    )
    debounce_us: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="microseconds that the trigger must be stable; 0: every edge counts",
    )

    @property
    def brings_triggers(self) -> bool:
        """Whether a part can be triggered on a line."""
        return bool(self.trigger)

    @property
    def outputs(self) -> dict[str, str]:
        """Names of the outputs in use, by their keys."""
        return {key: name for key in GPIO_OUTPUTS if (name := getattr(self, key))}

    @model_validator(mode="after")
    def _lines_can_be_told_apart(self) -> GpioConfig:
        if self.enabled and not self.ok:
            raise ValueError("enabled is true but ok is empty: no part would ever be let through")
        names = [*self.outputs.values(), *filter(None, [self.trigger])]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two keys have the line {twice}: each needs a line of its own")
        return self


PLAIN_BROKER = BrokerConfig()


class SparkplugConfig(BrokerConfig):
    """Section [sparkplug]."""

    enabled: bool = Field(
        default=False,
        description="true: records and the state also go to a Sparkplug B host application",
    )
    host: str = Field(
        default="",
        max_length=255,
        description=(
            'name or address of its broker; "" = the broker of [broker], with all its settings'
        ),
    )
    group: SparkplugId = Field(default="", description='group id; "" = site of [station]')
    node: SparkplugId = Field(
        default="", description='edge node id; "" = line and station of [station], LINE:STATION'
    )
    device: SparkplugId = Field(
        default="inspection", min_length=1, description="device id, below which the records are"
    )
    primary_host: SparkplugId = Field(
        default="",
        description=(
            'id of the primary host application: while it is not online nothing is sent; "" = send'
            " always"
        ),
    )

    @model_validator(mode="after")
    def _broker_is_named(self) -> SparkplugConfig:
        shared = BrokerConfig.model_fields.keys() - {"enabled", "host"}
        named = [key for key in sorted(shared) if getattr(self, key) != getattr(PLAIN_BROKER, key)]
        if not self.host and named:
            raise ValueError(f"{named[0]} is set and host is not: name the broker that it is for")
        return self


class OpcUaConfig(Section):
    """Section [opcua]."""

    enabled: bool = Field(
        default=False,
        description=(
            "true: a PLC can take verdicts and trigger by OPC UA; `systemctl enable --now"
            " edge-opcua` starts the server"
        ),
    )
    host: str = Field(
        default="0.0.0.0",
        min_length=1,
        max_length=255,
        description="address of this machine to listen on; 0.0.0.0 = every one",
    )
    port: int = Field(default=4840, ge=1, le=65535, description="TCP port")
    certificates: str = Field(
        default="var/lib/edge/opcua",
        min_length=1,
        description=(
            "folder of the server's certificate and key, which are made at the first start, and of"
            " the clients': trusted/ and rejected/"
        ),
    )
    users_file: str = Field(
        default="var/lib/edge/opcua/users.json",
        min_length=1,
        description="the users, as `edge opcua user NAME` writes them",
    )
    publishing_ms: int = Field(
        default=10,
        ge=5,
        le=1000,
        description="shortest publishing interval that a client's subscription gets",
    )


class ModbusConfig(Section):
    """Section [modbus]."""

    enabled: bool = Field(
        default=False, description="true: a PLC may poll this station's registers"
    )
    host: str = Field(
        default="127.0.0.1",
        description=(
            "the address of this machine at which it listens, in the network of the PLC; 0.0.0.0 or"
            " :: (all of them) only with an allow list"
        ),
    )
    port: int = Field(
        default=502,
        ge=1,
        le=65535,
        description="TCP port; below 1024 the system has to permit it to the user of the service",
    )
    unit_id: int = Field(
        default=1, ge=1, le=247, description="unit of the requests; 0 and 255 are answered, too"
    )
    allow: tuple[str, ...] = Field(
        default=(),
        max_length=16,
        strict=False,
        description="addresses of the clients that may connect, beside this machine itself",
    )
    word_swap: bool = Field(
        default=False, description="true: of a 32 bit value the low word comes first"
    )
    commands: bool = Field(
        default=False,
        description=(
            "true: whoever may connect may also select a product, pause or reset: Modbus has no"
            " passwords. Needs an allow list"
        ),
    )

    @field_validator("host")
    @classmethod
    def _is_address(cls, host: str) -> str:
        return _address(host)

    @field_validator("allow")
    @classmethod
    def _are_addresses(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_address, allow))

    @model_validator(mode="after")
    def _not_open_to_all(self) -> ModbusConfig:
        if ipaddress.ip_address(self.host).is_unspecified and not self.allow:
            raise ValueError(f"host is {self.host}, every address of this machine, and allow is []")
        if self.commands and not self.allow:
            raise ValueError("commands is true and allow is []: name the PLC's address")
        return self


def _address(text: str) -> str:
    """An address of IP version 4 or 6, and no name: nothing is asked of a name server."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is no IP address") from error


class CameraConfig(Section):
    """Section [camera]."""

    kind: Literal["realsense", "virtual", "folder", "recording"] = Field(
        default="realsense",
        description=(
            "realsense: a camera; virtual: images through librealsense's software device; folder:"
            " images as they are; recording: a .db3 file"
        ),
    )
    path: str = Field(
        default="", description="virtual, folder: images of the belt; recording: the .db3 file"
    )
    empty: str = Field(
        default="",
        description="virtual, folder: images of the empty table, for `edge calibrate plane`",
    )
    serial: str = Field(default="", description='realsense: "" = the only one that is plugged in')
    max_age_ms: int = Field(
        default=500, ge=10, le=60_000, description="an older frame is UNKNOWN stale"
    )
    fps: int = Field(default=30, ge=1, le=120, description="frames per second")
    resets: int = Field(
        default=2,
        ge=0,
        le=10,
        description=(
            "realsense: hardware resets of a camera whose process was started again twice in vain,"
            " before its USB port is restarted; 0: neither is done"
        ),
    )

    @property
    def is_live(self) -> bool:
        """Whether it sees what happens now, and plays no files."""
        return self.kind not in PLAYED


class RetentionConfig(Section):
    """Section [retention]."""

    days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="while the station was on: hours without power do not count",
    )
    gb: float = Field(
        default=20.0, gt=0, le=10_000, description="gigabytes of images and records together"
    )
    min_free_gb: float = Field(
        default=1.0,
        ge=0,
        le=10_000,
        description="gigabytes that stay free on the disk of the images",
    )
    keep_ok_every: int = Field(
        default=100,
        ge=0,
        description=(
            "images of 1 in N OK parts are kept, 0 = of none; those of NG and UNKNOWN always are"
        ),
    )


class DecisionConfig(Section):
    """Section [decision]."""

    mode: Literal["free_run", "triggered"] = Field(
        default="free_run",
        description=(
            "free_run: presence decides when a part begins and ends; triggered: the PLC says it, on"
            " the topic `trigger`"
        ),
    )
    deadline_ms: int = Field(
        default=2000,
        ge=10,
        le=600_000,
        description=(
            "a later verdict is not sent; the PLC takes no verdict as a reject. A trigger has a"
            " deadline of its own"
        ),
    )
    max_frames: int = Field(
        default=30, ge=1, le=10_000, description="a part is closed after this many frames"
    )
    min_frames: int = Field(
        default=3, ge=1, le=100, description="frames with a part in view that open it"
    )
    aggregate: Literal["median", "max", "mean"] = Field(
        default="median", description="how the scores of a part's frames become one"
    )

    @property
    def is_triggered(self) -> bool:
        """Whether the PLC says when a part is in view."""
        return self.mode == "triggered"

    @model_validator(mode="after")
    def _frames_in_order(self) -> DecisionConfig:
        if self.min_frames > self.max_frames:
            raise ValueError("min_frames is larger than max_frames")
        return self


class CommandsConfig(Section):
    """Section [commands]."""

    enabled: bool = Field(
        default=False,
        description=(
            "true: the plant may send commands, over a connection on which the station itself is"
            " authenticated"
        ),
    )
    allow: list[CommandName] = Field(
        default=list(get_args(CommandName)), description="which of them are carried out"
    )


class RuntimeConfig(Section):
    """Section [runtime]."""

    threads: int = Field(default=2, ge=1, le=64, description="of onnxruntime on the CPU")
    precision: PrecisionChoice = Field(
        default="auto",
        description="which engine judges; auto: the fastest that is proven on this machine",
    )


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
