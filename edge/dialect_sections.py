"""The sections of station.toml for the dialects beside MQTT, one each, off by default."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from edge.sections import BrokerConfig, Section

# An identifier of Sparkplug: one level of an MQTT topic, "" where another name is taken.
SparkplugId = Annotated[str, StringConstraints(pattern=r"^[^+/#$]{0,64}$")]


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
