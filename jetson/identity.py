"""What makes a board one certain station: its name in the network, its address, station.toml.

Written into the root file system before it is flashed, or by the board itself at its first start
(jetson/first_boot.py).
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from edge.config import PLACE, name_station, parse_config
from edge.errors import ConfigError
from edge.files import make_folder, read_text, write_atomically
from jetson.fleet import StationLine

CONNECTION = Path("etc/NetworkManager/system-connections/edge.nmconnection")


def folder_in(root: Path, name: str | Path) -> Path:
    """A folder of the system under `root`, made where there is none.

    Raises: ConfigError if a link on the way leads out of `root`, to this machine's own folders.
    """
    folder = (root / name).resolve()
    if root.resolve() not in (folder, *folder.parents):
        raise ConfigError(f"{root / name} leads out of {root} by a link: remove the link there")
    make_folder(folder)
    return folder


def place_in(root: Path, name: str | Path) -> Path:
    """Where a file of the system under `root` lies or will lie. Raises: ConfigError as folder_in,
    and for a link.
    """
    path = folder_in(root, Path(name).parent) / Path(name).name
    if path.is_symlink():
        raise ConfigError(f"{path} is a link, and a file belongs there: remove it")
    return path


def write_identity(root: Path, station: StationLine) -> None:
    """Make the system under `root` this station, whichever it was before. The station's own
    station.toml is there already.
    """
    write_atomically(place_in(root, "etc/hostname"), f"{station.host}\n".encode())
    write_atomically(place_in(root, "etc/hosts"), _hosts(root, station.host).encode())
    _write_connection(place_in(root, CONNECTION), station)
    _name(root, station)


def connection(station: StationLine) -> str:
    """The station's fixed address as NetworkManager's key file, see nm-settings-keyfile(5)."""
    address = ipaddress.ip_interface(station.address)
    ours, other = ("ipv4", "ipv6") if address.version == 4 else ("ipv6", "ipv4")
    route = f",{station.gateway}" if station.gateway else ""
    lines = [
        "[connection]",
        "id=edge",
        "type=ethernet",
        "autoconnect-priority=10",
        "",
        f"[{ours}]",
        "method=manual",
        f"address1={address}{route}",
    ]
    if station.dns:
        lines.append(f"dns={';'.join(station.dns)};")
    return "\n".join([*lines, "", f"[{other}]", "method=disabled", ""])


def _hosts(root: Path, host: str) -> str:
    """etc/hosts with this name at 127.0.1.1, as Debian and Ubuntu have it, and no other there."""
    path = place_in(root, "etc/hosts")
    text = read_text(path) if path.is_file() else "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
    kept = [line for line in text.splitlines() if not re.match(r"127\.0\.1\.1\s", line)]
    return "\n".join([*kept, f"127.0.1.1\t{host}"]) + "\n"


def _write_connection(path: Path, station: StationLine) -> None:
    if station.address:
        write_atomically(path, connection(station).encode(), mode=0o600)  # else it is ignored
    else:
        path.unlink(missing_ok=True)


def _name(root: Path, station: StationLine) -> None:
    path = place_in(root, PLACE)
    if not path.is_file():
        return  # the first installation writes it, and names the station
    text = read_text(path)
    for key in ("site", "line"):
        value = getattr(station, key)
        if value is not None:
            text = re.sub(rf'(?m)^{key} = "[^"]*"', f'{key} = "{value}"', text, count=1)
    parsed = parse_config(text, str(path)).station
    if parsed.site != (station.site or parsed.site) or parsed.line != (station.line or parsed.line):
        raise ConfigError(f"{path}: write site and line into its section [station]")
    write_atomically(path, text.encode())
    name_station(root, station.name)
