"""From a board, a BSP and a fleet to the steps of one flash, in order. Nothing is changed here."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.bundle.key_files import read_public_key
from edge.config import PLACE, SIZE_LIMIT, parse_config
from edge.errors import ConfigError
from edge.files import read_text, write_atomically
from edge.install.rootfs import check_rootfs
from edge.provision.package import read_package
from edge.station.store import Store
from jetson.account import allow_key, has_user, require_no_wizard
from jetson.boards import Board, Storage
from jetson.bsp import Bsp, configuration
from jetson.first_boot import STATIONS, UNIT, write_stations
from jetson.fleet import Fleet, StationLine, read_ssh_key, require_serials
from jetson.identity import place_in, write_identity
from jetson.nvidia_tools import create_user, flash, flash_images, make_images
from jetson.power import commission, disable_unit, files_with_mode, set_default_mode, write_unit
from jetson.steps import Act, Step


class Prepare(Protocol):
    """Puts package, trusted keys and bundle into a root file system that is not running."""

    def __call__(
        self,
        rootfs: Path,
        package: Path | None,
        bundle: Path,
        trust: Sequence[Path],
        station: str | None,
    ) -> object:
        """As edge.install.rootfs.prepare_rootfs. station: its name; None: it gets one later."""


@dataclass(frozen=True)
class Order:
    """What is flashed. folder: of provision.toml, which its paths are relative to. stations: one,
    or with `together` all that get one image.
    """

    board: Board
    bsp: Bsp
    fleet: Fleet
    folder: Path
    bundle: Path
    stations: Sequence[StationLine]
    together: bool = False

    @property
    def storage(self) -> Storage:
        """Where the system goes."""
        return self.fleet.storage or self.board.storages[0]

    @property
    def trust(self) -> list[Path]:
        """The .pub files."""
        return [self.folder / name for name in self.fleet.trust]

    @property
    def package(self) -> Path:
        """The .deb file."""
        return self.folder / self.fleet.package

    @property
    def configuration(self) -> str:
        """NVIDIA's name of the board."""
        return configuration(self.bsp, self.board, self.fleet.super_clocks)


def check_order(order: Order) -> None:
    """Every check that needs no board. Raises: ConfigError naming what does not fit."""
    fleet, board = order.fleet, order.board
    if order.storage not in board.storages:
        raise ConfigError(
            f"storage {order.storage!r}: {board.title} has {', '.join(board.storages)}: correct it"
            " in provision.toml"
        )
    _ = order.configuration
    if fleet.power_mode:
        files_with_mode(order.bsp.rootfs, fleet.power_mode)
    if order.together:
        require_serials(order.stations)
    read_ssh_key(order.folder / fleet.ssh_key)
    _settings(order)
    if not order.package.is_file():
        raise ConfigError(f"package {order.package} is no file: correct it in provision.toml")
    read_package(order.package).require_fits_root(order.bsp.rootfs)
    _require_own_keys(order)
    check_rootfs(order.bsp.rootfs, None, order.bundle, order.trust, None)


def _require_own_keys(order: Order) -> None:
    """Raises: ConfigError if the root file system trusts a key that is not this fleet's."""
    wanted = {read_public_key(path).keyid for path in order.trust}
    rootfs = order.bsp.rootfs
    for key in Store(rootfs).keys.all():
        if key.keyid not in wanted:
            raise ConfigError(
                f"{rootfs} trusts key {key.keyid[:12]}, which is not in `trust`: add it, or run"
                f" `edge trust remove {key.keyid[:12]} --root {rootfs}`"
            )


def steps_of(order: Order, prepare: Prepare, ask: Callable[[str], object]) -> list[Step]:
    """The steps, in order; performed twice they come to the same.

    ask: waits until a person has done what the sentence says.
    """
    return [*_account(order), *_system(order, prepare), *_identity(order), *_flash(order, ask)]


def _account(order: Order) -> list[Step]:
    """The account and who may use it."""
    bsp, user = order.bsp, order.fleet.user
    steps: list[Step] = []
    if not has_user(bsp.rootfs, user.name):
        steps.append(create_user(bsp, user, order.stations[0], _password(order)))
    key = read_ssh_key(order.folder / order.fleet.ssh_key)
    free = not user.password_file
    how = "without a password" if free else "with its password"
    steps.append(
        Act(
            f"let the key {order.fleet.ssh_key} in as {user.name}, who may use sudo {how}",
            lambda: allow_key(bsp.rootfs, user.name, key, free),
        )
    )
    what = "see that the board starts without NVIDIA's setup on a screen"
    return [*steps, Act(what, lambda: require_no_wizard(bsp.rootfs))]


def _password(order: Order) -> str:
    """The first line of its file, or a random one that nobody knows."""
    file = order.fleet.user.password_file
    if not file:
        return secrets.token_urlsafe(32)
    lines = read_text(order.folder / file, limit=SIZE_LIMIT).splitlines()
    if not lines or not lines[0]:
        raise ConfigError(f"{order.folder / file} is empty: its first line is the password")
    return lines[0]


def _system(order: Order, prepare: Prepare) -> list[Step]:
    """Power, package, trust and bundle: the same for every station of the fleet."""
    rootfs, fleet, text = order.bsp.rootfs, order.fleet, _settings(order)
    steps: list[Step] = []
    if fleet.power_mode:
        steps.append(
            Act(
                f"make {fleet.power_mode} the power mode of the first start",
                lambda: set_default_mode(rootfs, fleet.power_mode),
            )
        )
    trust = " and ".join(str(path) for path in order.trust)
    whose = fleet.station_toml or "the bundle's defaults"
    return [
        *steps,
        Act(f"write station.toml from {whose}", lambda: _write_settings(rootfs, text)),
        Act(
            f"install {order.package}, trust {trust}, install {order.bundle} in {rootfs}",
            lambda: prepare(rootfs, order.package, order.bundle, order.trust, None),
        ),
        Act(
            f"commission it in power mode {fleet.power_mode or 'of the board'}, clocks"
            f" {fleet.clocks or 'as they are'}",
            lambda: commission(rootfs, fleet.power_mode, fleet.clocks),
        ),
    ]


def _settings(order: Order) -> str | None:
    """The fleet's station.toml, checked; None where the first installation writes it."""
    if not order.fleet.station_toml:
        return None
    path = order.folder / order.fleet.station_toml
    text = read_text(path, limit=SIZE_LIMIT)
    parse_config(text, str(path))
    return text


def _write_settings(rootfs: Path, text: str | None) -> None:
    """Also takes away what another station of the fleet had."""
    path = place_in(rootfs, PLACE)
    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, text.encode())


def _identity(order: Order) -> list[Step]:
    rootfs, stations = order.bsp.rootfs, order.stations
    if not order.together:
        station = stations[0]
        where = station.address or "an address by DHCP"
        what = f"name the board {station.host}, the station {station.name}, with {where}"
        return [Act(what, lambda: _be_one(rootfs, station))]
    names = ", ".join(station.name for station in stations)
    return [
        Act(
            f"leave the lines of {names} for the first start, by serial number",
            lambda: _be_any(rootfs, stations),
        )
    ]


def _be_one(rootfs: Path, station: StationLine) -> None:
    place_in(rootfs, STATIONS).unlink(missing_ok=True)
    disable_unit(rootfs, UNIT)
    write_identity(rootfs, station)


def _be_any(rootfs: Path, stations: Sequence[StationLine]) -> None:
    write_stations(rootfs, stations)
    write_unit(rootfs, UNIT)


def _flash(order: Order, ask: Callable[[str], object]) -> list[Step]:
    bsp, board, name, count = order.bsp, order.board, order.configuration, len(order.stations)
    if not order.together:
        return [flash(bsp, board, name, order.storage)]
    what = f"wait until all {count} boards are in recovery mode, the first one too"
    return [
        make_images(bsp, board, name, order.storage, count),
        Act(what, lambda: ask(f"Put all {count} boards into recovery mode, the first one again")),
        flash_images(bsp, name, count),
    ]
