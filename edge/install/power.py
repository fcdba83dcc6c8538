"""Power mode and clocks at `edge install`: set before the engines are timed, recorded after the
bundle is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from edge.board.clocks import are_pinned
from edge.board.model import is_booted, is_jetson, machine_root
from edge.board.power import PLACE, Clocks, Power, power_problem, read_power
from edge.board.power_modes import current_mode, find_mode
from edge.board.set_power import require_mode, set_clocks, set_mode
from edge.bundle.archive import open_bundle
from edge.errors import ConfigError
from edge.files import make_folder, write_json
from edge.station.audit import append_audit, current_user, now_utc
from edge.station.store import Store

COMES_BACK = "`sudo systemctl enable edge-power` lets every boot set it again"


@dataclass(frozen=True)
class WantedPower:
    """What the options ask for. name: of a mode, as it was given; None: nothing."""

    name: str | None = None
    clocks: Clocks | None = None

    @property
    def is_any(self) -> bool:
        """Whether anything is asked for."""
        return self.name is not None or self.clocks is not None


def wanted_power(root: Path, name: str | None, clocks: str | None) -> WantedPower:
    """The options --power-mode and --clocks, checked against the board.

    Raises: ConfigError for a mode that the board has not, another word than max or default, or a
        machine that is no Jetson. In a root that was never started the name cannot be checked.
    """
    if clocks is not None and clocks not in get_args(Clocks):
        raise ConfigError(f"--clocks {clocks}: say max or default")
    wanted = WantedPower(name, "max" if clocks == "max" else None if clocks is None else "default")
    machine = machine_root(root)
    if wanted.is_any and not is_jetson(machine):
        raise ConfigError(
            f"the machine of {root} is no Jetson: leave --power-mode and --clocks out"
        )
    if name is not None and is_booted(machine):
        require_mode(machine, name)
    return wanted


def set_power(bundle: Path, root: Path, wanted: WantedPower) -> None:
    """Let the board change to what is asked for, once the bundle is known to be sound. Nothing in a
    root that was never started: the first boot does it there.

    Raises: BundleError if the bundle is refused, ConfigError if the board does not change.
    """
    machine = machine_root(root)
    if not wanted.is_any or not is_booted(machine):
        return
    with open_bundle(bundle, Store(root).keys.all()) as opened:
        opened.check_members()
    if wanted.name is not None:
        set_mode(machine, require_mode(machine, wanted.name))
    if wanted.clocks is not None:
        set_clocks(machine, wanted.clocks)


def keep_power(root: Path, wanted: WantedPower) -> list[str]:
    """Record in which power this station is commissioned: what was asked for; else, at the first
    time on a Jetson, what the board is in. Returns what to tell of it.

    Raises: StorageError if the audit table does not take it.
    """
    machine, before = machine_root(root), read_power(root)
    if not is_jetson(machine):
        return []
    power = _power_of(machine, wanted, before) if before is None or wanted.is_any else None
    notes = [] if power is None else _write(root, power)
    problem = power_problem(root)
    return [*notes, *([COMES_BACK] if wanted.is_any else []), *([problem] if problem else [])]


def _write(root: Path, power: Power) -> list[str]:
    store = Store(root)
    with store.inside(PLACE.parent):
        make_folder((root / PLACE).parent)
        write_json(root / PLACE, power.model_dump(by_alias=True))
    append_audit(root, "power", {"mode": power.mode, "clocks": power.clocks})
    said = f"power mode {power.mode or 'not told by the board'}, clocks {power.clocks}: `edge run`"
    return [f"{said} compares at each start"]


def _power_of(machine: Path, wanted: WantedPower, before: Power | None) -> Power | None:
    """None where nothing is asked for and the board tells nothing."""
    known = None if wanted.name is None else find_mode(machine, wanted.name)
    name = wanted.name if known is None else known.name
    if before is not None:
        mode, clocks = name or before.mode, wanted.clocks or before.clocks
    else:
        found: Clocks = "max" if are_pinned(machine) else "default"
        mode, clocks = name or current_mode(machine), wanted.clocks or found
    if mode is None and not wanted.is_any:
        return None
    return Power(mode=mode, clocks=clocks, who=current_user(), when=now_utc())
