"""The power mode and clocks that a station was commissioned in, and whether the board is in them.

    etc/edge/power.json    written by `edge install` on a Jetson

An engine is timed and chosen in one power mode; in a lower one the same engine may be too slow for
the line, and nothing else would tell why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edge.board.clocks import are_pinned
from edge.board.model import is_jetson, machine_root
from edge.board.power_modes import current_mode, find_mode
from edge.errors import ConfigError
from edge.files import is_there, read_bytes
from edge.schema import Strict, parse_json

PLACE = Path("etc/edge/power.json")
LIMIT = 4 << 10  # bytes
Clocks = Literal["max", "default"]
AGAIN = "remove it and run `edge install` with --power-mode again"


class Power(Strict):
    """power.json. mode: by the name that nvpmodel.conf gives it; None where the board told none.

    clocks: max: every clock stays at the highest that the mode allows (jetson_clocks); default:
    they follow the load. who, when: of the installation that last set or found it.
    """

    schema_: Literal[1] = Field(alias="schema", default=1)
    mode: str | None = Field(default=None, max_length=64, pattern=r"^\S+$")
    clocks: Clocks = "default"
    who: str
    when: str  # UTC, ISO 8601


def read_power(root: Path) -> Power | None:
    """What the station was commissioned in; None where that is not known.

    Raises: ConfigError if the file is damaged.
    """
    path = root / PLACE
    if not is_there(path):
        return None
    try:
        return Power.model_validate(parse_json(read_bytes(path, limit=LIMIT)))
    except (ValidationError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {AGAIN}") from error


def power_problem(root: Path) -> str:
    """How the board's power differs from what the station was commissioned in, and what to do;
    empty where it does not, and where nothing is known.

    Raises: ConfigError if the file is damaged.
    """
    power, machine = read_power(root), machine_root(root)
    if power is None or not is_jetson(machine):
        return ""
    mode = current_mode(machine)
    if None not in (mode, power.mode) and str(mode).lower() != str(power.mode).lower():
        return (
            f"the board is in power mode {mode}, this station was commissioned in {power.mode}:"
            f" {_way_to(machine, str(power.mode))}"
        )
    if power.clocks == "max" and are_pinned(machine) is False:
        return (
            "the board's clocks follow the load, this station was commissioned with clocks at their"
            " highest: run `sudo jetson_clocks`, then `sudo systemctl restart edge`"
        )
    return ""


def _way_to(machine: Path, name: str) -> str:
    mode = find_mode(machine, name)
    if mode is None:
        return f"this board has no mode {name}, install again with --power-mode"
    return (
        f"run `sudo nvpmodel -m {mode.number}` at the board's console, say yes if it wants to"
        " reboot, then `sudo systemctl restart edge`"
    )
