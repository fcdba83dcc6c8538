"""Secrets that systemd hands to a service: `credential:NAME` in station.toml in place of a path.

`LoadCredential=NAME:FILE` in a unit makes systemd read FILE as root and show its content to this
service alone, in a folder in memory (systemd.exec(5), "Credentials"). So the file can belong to
root, and the service's account need not be able to read it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from edge.errors import ConfigError

PREFIX = "credential:"
FOLDER = "CREDENTIALS_DIRECTORY"  # the variable in which systemd tells it
SOURCE = Path("etc/edge/credentials")  # under the root; the units look there for the files
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def secret_place(value: str, root: Path, key: str) -> Path:
    """Where the secret lies that `value` names: a path, which may be relative to the root, or
    `credential:NAME`. A process that no service manager started takes the file itself, if it may
    read it: commands of root do.

    key: of station.toml, for errors.
    Raises: ConfigError for a credential that this process cannot get.
    """
    if not value.startswith(PREFIX):
        return root / value
    name = value.removeprefix(PREFIX)
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{key}: {value} is no name of a credential: it has letters, digits, dots, hyphens and"
            " underscores"
        )
    source, folder = root / SOURCE / name, os.environ.get(FOLDER)
    if not folder and os.access(source, os.R_OK):
        return source
    if not folder:
        raise ConfigError(
            f"{key}: {value} is handed over by systemd to a service alone, and this account cannot"
            f" read {source}: use sudo, or name a file"
        )
    place = Path(folder) / name
    if not place.is_file() or not place.read_bytes().strip():
        raise ConfigError(
            f"{key}: systemd handed over no {value}: write it into {source} (root, mode 0600), then"
            f" restart the service; a name that its unit does not know needs"
            f" LoadCredential={name}:{source} there (systemctl edit)"
        )
    return place


def is_handed_over(place: Path) -> bool:
    """Whether a file is a credential of this process, to which systemd lets nobody else."""
    return str(place.parent) == os.environ.get(FOLDER)
