"""The sections of station.toml that every station has; those of the dialects beside MQTT are in
edge/dialect_sections.py. What a key may be, what it is without the file, and what it means.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

PrecisionChoice = Literal["auto", "fp32", "fp16", "int8"]
PLAYED = ("virtual", "folder", "recording")  # kinds of camera that play files


CommandName = Literal[  # as edge.line.commands.Verb
    "select", "calibrate", "rollback", "restart_camera", "reset", "pause", "resume"
]


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
            "its key, PEM without a password; mode 0600, owned by the user of the service, or"
            " `credential:broker-key`"
        ),
    )
    username: str = Field(default="", description='"" = the broker wants none')
    password_file: str = Field(
        default="",
        description=(
            "its first line is the password; mode 0600, owned by the user of the service, or"
            " `credential:broker-password`"
        ),
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


# A time of the day.
Clock = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


# A name of this machine in a network, as it stands in an address of the browser.
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$")]


class PageConfig(Section):
    """Section [page]."""

    enabled: bool = Field(
        default=False,
        description=(
            "true: people can look at this station with a browser; `systemctl enable --now"
            " edge-page` starts its server"
        ),
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=255,
        description=(
            "address of this machine to listen on; 127.0.0.1 = this machine alone, 0.0.0.0 = every"
            " one"
        ),
    )
    port: int = Field(default=8443, ge=1, le=65535, description="TCP port")
    tls: bool = Field(
        default=True, description="false: without TLS, only at an address of this machine alone"
    )
    certificate: str = Field(
        default="", description='PEM file of the site\'s certificate; "" = one is made here'
    )
    key: str = Field(
        default="",
        description=(
            "its key, PEM without a password; mode 0600, owned by the user of the service, or"
            " `credential:page-key`"
        ),
    )
    hosts: tuple[HostName, ...] = Field(
        default=(),
        max_length=16,
        strict=False,
        description=(
            "further names by which browsers reach this station; its addresses and own name need"
            " not be listed"
        ),
    )
    wall_view: bool = Field(
        default=False,
        description=(
            "true: everybody who reaches the page may see picture, verdict and counters at /wall"
            " without logging in"
        ),
    )

    shifts: tuple[Clock, ...] = Field(
        default=("06:00", "14:00", "22:00"),
        max_length=12,
        strict=False,
        description=(
            "when shifts begin, by this machine's clock, for the counters of the live view; [] ="
            " they count from the start of `edge run`"
        ),
    )

    @model_validator(mode="after")
    def _closed_or_encrypted(self) -> PageConfig:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("of certificate and key one is set and the other is not")
        if not self.tls and not _is_loopback(self.host):
            raise ValueError(
                f"tls is false and host is {self.host}: passwords would cross the network in clear"
            )
        if not self.tls and self.certificate:
            raise ValueError("certificate is set but tls is false")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
