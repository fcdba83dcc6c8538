"""Which station a backup is of, and a backup restored as another station."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from edge.backup.seal import About
from edge.config import PLACE, parse_config, read_config
from edge.errors import ConfigError
from edge.sections import StationConfig

NAMED = re.compile(r'(?m)^([ \t]*station[ \t]*=[ \t]*)("[^"\n]*"|\'[^\'\n]*\')')


def require_same_station(root: Path, about: About, name: str | None) -> None:
    """Require that the root has no name yet, or that of the backup, or the one that it is to be
    restored as.

    name: of --as. Raises: ConfigError.
    """
    if name is not None:
        _require_name(name)
    known = read_config(root).station
    told = f"{known.site}/{known.line}/{known.station}"
    if known.station == StationConfig().station or told == about.station:
        return
    if name is None:
        raise ConfigError(
            f"the backup is of {about.station}, and {root / PLACE} names this station {told}: name"
            f" the file of this one, or say --as {known.station} if this board is to do the work"
            " of that one under its own name"
        )
    if name != known.station:
        raise ConfigError(
            f"{root / PLACE} names this station {known.station}, and --as says {name}: use one name"
        )


def _require_name(name: str) -> None:
    try:
        StationConfig(station=name)
    except ValidationError as error:
        raise ConfigError(
            f"--as {name!r} cannot be a level of an MQTT topic: use letters, digits, . _ - (at most"
            " 32, a letter or digit first)"
        ) from error


def is_renamed(about: About, name: str | None) -> bool:
    """Whether the backup is restored under another name than its own."""
    return name is not None and name != about.station.rpartition("/")[2]


def renamed(text: str, name: str) -> str:
    """The text of a station.toml with another name of the station, and nothing else changed.

    Raises: ConfigError if the place of the name is not found.
    """
    before = parse_config(text, "station.toml of the backup")
    new = NAMED.sub(lambda found: f'{found[1]}"{name}"', text, count=1)
    after = parse_config(new, "station.toml of the backup")
    station = before.station.model_copy(update={"station": name})
    if after != before.model_copy(update={"station": station}):
        raise ConfigError(
            "the name of the station is not found in the backup's station.toml: restore it under"
            " its own name, and change that in [station] afterwards"
        )
    return new
