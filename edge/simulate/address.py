"""Where the station is, from its station.toml and what the command line says instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.config import PLACE, EdgeConfig, read_config
from edge.errors import ConfigError
from edge.sections import StationConfig
from edge.simulate.link import StationAddress


def address_of(
    root: Path, host: str | None, port: int | None, names: str | None, username: str | None,
    password_file: Path | None,
) -> StationAddress:  # fmt: skip
    """root: read for whatever the others leave open; they are None where they say nothing.

    names: SITE/LINE/STATION. username: of the PLC at the broker; without one of its own it
    connects as the station does.
    Raises: ConfigError; also if it is the station.toml under root that counts and says that the
        station takes no triggers.
    """
    config = read_config(root)
    if host is None and names is None:
        _require_triggered(config, root)
    broker: dict[str, Any] = {}
    if username is not None:
        file = "" if password_file is None else str(password_file.absolute())
        broker = {"username": username, "password_file": file}
    elif password_file is not None:
        raise ConfigError("--password-file is given and --username is not: name the user, too")
    changes: dict[str, Any] = {"broker": config.broker.model_copy(update=broker)}
    if names is not None:
        changes["station"] = _names(names)
    return StationAddress(config.model_copy(update=changes), root, host, port)


def _require_triggered(config: EdgeConfig, root: Path) -> None:
    if not config.decision.is_triggered:
        raise ConfigError(
            f"mode is free_run in [decision] of {root / PLACE}: the station takes no triggers; set"
            ' mode = "triggered" and restart it, or name another station by --root or --names'
        )


def _names(names: str) -> StationConfig:
    try:
        site, line, name = names.split("/")
        return StationConfig(site=site, line=line, station=name)
    except (ValueError, ValidationError) as error:
        raise ConfigError(
            f"--names {names}: write the station's three names of station.toml, SITE/LINE/STATION"
        ) from error
