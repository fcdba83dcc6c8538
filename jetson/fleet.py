"""provision.toml: what every board of a fleet gets when it is flashed, with one line per station.

Every key is checked; an unknown key is named. A path is relative to the file's folder.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from edge.errors import ConfigError
from edge.files import read_text
from edge.sections import Section, TopicPart
from jetson.boards import Storage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # JetPack 6 is Python 3.10

SIZE_LIMIT = 1 << 20  # bytes
PUBLIC_KEY = re.compile(r"(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/=]+( .*)?")
UNIQUE = ("name", "host", "address", "serial")  # of a station in its fleet

HostName = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class User(Section):
    """The account that people use on the board. Without a password only the key opens it, and it
    may use sudo without one.
    """

    name: UserName = "inspector"
    password_file: str = ""


class StationLine(Section):
    """One line of `stations`.

    name: the station's, in MQTT topics and record ids. hostname: blank: the name in lower case.
    address: "10.0.0.7/24", blank: by DHCP. serial: of the module, as it stands on it and in
    /proc/device-tree/serial-number; only boards that are flashed together need it.
    """

    name: TopicPart
    hostname: HostName = ""
    site: TopicPart | None = None
    line: TopicPart | None = None
    address: str = ""
    gateway: str = ""
    dns: list[str] = Field(default_factory=list)
    serial: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{0,32}$")] = ""

    @property
    def host(self) -> str:
        """The board's name in the network."""
        return self.hostname or re.sub(r"[^a-z0-9-]+", "-", self.name.lower()).strip("-")

    @field_validator("address")
    @classmethod
    def _is_interface(cls, value: str) -> str:
        if value and ("/" not in value or not _parses(ipaddress.ip_interface, value)):
            raise ValueError('write an address with its prefix, such as "10.0.0.7/24"')
        return value

    @field_validator("gateway")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not _parses(ipaddress.ip_address, value):
            raise ValueError('write an address, such as "10.0.0.1"')
        return value

    @field_validator("dns")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        if not all(_parses(ipaddress.ip_address, one) for one in value):
            raise ValueError('write addresses, such as ["10.0.0.1"]')
        return value

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> StationLine:
        if (self.gateway or self.dns) and not self.address:
            raise ValueError("gateway or dns is set but address is not")
        return self


class Fleet(Section):
    """The whole of provision.toml.

    jetpack: the release that the BSP must be; blank: any. storage: where the system goes; blank:
    the board's usual place. power_mode: by the name that NVIDIA gives it; blank: NVIDIA's default.
    clocks: "max" keeps them at the mode's highest. ssh_key: a public key. station_toml: the
    station's settings without its name; blank: those of a first installation. package: the Debian
    package of this software. trust: public keys whose bundles the stations accept.
    """

    jetpack: str = ""
    storage: Storage | Literal[""] = ""
    super_clocks: bool = False
    power_mode: str = ""
    clocks: Literal["", "max"] = ""
    ssh_key: str
    station_toml: str = ""
    package: str
    trust: list[str] = Field(min_length=1)
    user: User = User()
    stations: list[StationLine] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _each_is_one(self) -> Fleet:
        for key in UNIQUE:
            values = [getattr(station, key) for station in self.stations]
            twice = next((one for one in values if one and values.count(one) > 1), None)
            if twice is not None:
                shown = "hostname" if key == "host" else key
                raise ValueError(f"two stations have the {shown} {twice}")
        return self

    def station(self, name: str | None) -> StationLine:
        """The station of this name, or the only one. Raises: ConfigError naming those there are."""
        if name is None and len(self.stations) == 1:
            return self.stations[0]
        for station in self.stations:
            if station.name == name:
                return station
        names = ", ".join(station.name for station in self.stations[:20])
        said = "say which station with --station" if name is None else f"there is no station {name}"
        raise ConfigError(f"{said}: the fleet has {names}")


def read_fleet(path: Path) -> Fleet:
    """The fleet of a provision.toml. Raises: ConfigError naming the file, the key and the fault."""
    try:
        return Fleet.model_validate(tomllib.loads(read_text(path, limit=SIZE_LIMIT)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(level) for level in first["loc"])
        said = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{path}: {f'{key}: ' if key else ''}{said}: correct it") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not TOML: {' '.join(str(error).split())}: correct it there"
        ) from error


def read_ssh_key(path: Path) -> str:
    """The line of a public key of ssh. Raises: ConfigError, above all for a private key."""
    lines = read_text(path, limit=SIZE_LIMIT).strip().splitlines()
    if len(lines) != 1 or not PUBLIC_KEY.fullmatch(lines[0]):
        raise ConfigError(
            f"{path} is not one public key of ssh: name the file that ends in .pub, as"
            " `ssh-keygen -t ed25519` writes it"
        )
    return lines[0]


def require_serials(stations: Sequence[StationLine]) -> None:
    """Require that boards with one and the same image can tell which station each is.

    Raises: ConfigError naming a station without a serial number.
    """
    for station in stations:
        if not station.serial:
            raise ConfigError(
                f"station {station.name} has no serial: boards that are flashed together get one"
                " image, and each finds its line by the serial number of its module"
            )


def _parses(reader: object, text: str) -> bool:
    try:
        reader(text)  # type: ignore[operator]
    except ValueError:
        return False
    return True
