"""A board that was flashed together with others finds out which station it is.

All of them carry one image, and in it etc/edge/stations.json with a line per station. Each takes
the line of its module's serial number, once, and removes the file. Run as root by
edge-first-boot.service, before the network and the station start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edge.errors import ConfigError, EdgeError
from edge.files import read_bytes, write_json
from jetson.fleet import StationLine
from jetson.identity import place_in, write_identity

UNIT = "edge-first-boot.service"
STATIONS = Path("etc/edge/stations.json")
SERIAL = Path("proc/device-tree/serial-number")
SIZE_LIMIT = 1 << 20  # bytes
LINES = TypeAdapter(list[StationLine])


def write_stations(root: Path, stations: Sequence[StationLine]) -> None:
    """Leave the lines for the first start of whichever board gets this root file system."""
    lines = [station.model_dump(exclude_defaults=True) for station in stations]
    write_json(place_in(root, STATIONS), lines)


def become_station(root: Path = Path("/")) -> StationLine:
    """Take the line of this board's serial number and remove the file with the lines.

    Raises: ConfigError if no line has it; the file stays, and the station has no name, so that
        `edge run` refuses to start.
    """
    path = root / STATIONS
    try:
        stations = LINES.validate_json(read_bytes(path, limit=SIZE_LIMIT))
    except ValidationError as error:
        raise ConfigError(f"{path} is damaged: flash this board again") from error
    serial = read_bytes(root / SERIAL, limit=1 << 10).decode(errors="replace").strip("\0\n ")
    for station in stations:
        if station.serial == serial:
            write_identity(root, station)
            path.unlink()
            return station
    raise ConfigError(
        f"this board's serial number {serial!r} is in no line of {path}: add it there and start the"
        " board again, or name the station in station.toml"
    )


def main() -> int:
    """The program of edge-first-boot.service; the exit code."""
    try:
        station = become_station()
    except EdgeError as error:
        print(f"edge: {error}", file=sys.stderr)
        return 1
    print(f"this board is station {station.name}, {station.host}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
