"""Where systemd finds the station's units: this machine's own, which win, and the package's."""

from __future__ import annotations

from pathlib import Path

UNITS = Path("etc/systemd/system")  # `edge install` writes them there without the package
PACKAGED_UNITS = Path("usr/lib/systemd/system")


def has_unit(root: Path, name: str) -> bool:
    """Whether a unit such as edge.service is installed under `root`."""
    return any((root / place / name).exists() for place in (UNITS, PACKAGED_UNITS))
