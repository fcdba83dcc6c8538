"""Temperatures, and whether the board lowers its clocks because of heat or of its supply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.board.reading import entries, read_number, read_small

THERMAL, HWMON = Path("sys/class/thermal"), Path("sys/class/hwmon")
SLOWS = ("passive", "hot", "critical")  # kinds of trip points at which a system slows down or ends
ALERTS = "throttle"  # in the names of the cooling devices that stand for lowered clocks
EVENTS = {  # counters of soctherm_oc on Orin and Thor, by file
    "oc1_event_cnt": "the supply's voltage was too low",
    "oc2_event_cnt": "the average current was too high",
    "oc3_event_cnt": "the current was too high for a moment",
}


@dataclass(frozen=True)
class Zone:
    """One sensor. now_c, limit_c: degrees Celsius; limit_c: from where on the system slows down,
    None where it does not say.
    """

    name: str
    now_c: float
    limit_c: float | None


def zones(root: Path) -> tuple[Zone, ...]:
    """Sensors that give a temperature; one that is powered down gives none."""
    return tuple(_zones(root))


def _zones(root: Path) -> Iterator[Zone]:
    for folder in entries(root / THERMAL, "thermal_zone*"):
        now = read_number(folder / "temp")
        if now is not None and -40_000 < now < 200_000:
            name = read_small(folder / "type") or folder.name
            yield Zone(name, now / 1000, _limit_c(folder))


def _limit_c(folder: Path) -> float | None:
    limits = [
        read_number(path.with_name(path.name.replace("_type", "_temp")))
        for path in entries(folder, "trip_point_*_type")
        if read_small(path) in SLOWS
    ]
    known = [limit for limit in limits if limit is not None and limit > 0]
    return min(known) / 1000 if known else None


def throttled_by(root: Path) -> tuple[str, ...]:
    """Why clocks are lowered now, or were since the board was switched on, in words; nothing where
    they were not.
    """
    return (*_alerts(root), *_events(root))


def knows_throttling(root: Path) -> bool:
    """Whether this machine tells whether its clocks were lowered."""
    return bool(_counters(root)) or bool(list(_coolers(root)))


def _alerts(root: Path) -> Iterator[str]:
    for folder in _coolers(root):
        if read_number(folder / "cur_state"):
            yield f"{read_small(folder / 'type')} is on"


def _coolers(root: Path) -> Iterator[Path]:
    for folder in entries(root / THERMAL, "cooling_device*"):
        if ALERTS in (read_small(folder / "type") or ""):
            yield folder


def _events(root: Path) -> Iterator[str]:
    for name, what in EVENTS.items():
        count = sum(read_number(path) or 0 for path in _counters(root) if path.name == name)
        if count:
            yield f"{what} {count} times"


def _counters(root: Path) -> list[Path]:
    return entries(root / HWMON, "hwmon*/oc?_event_cnt")
