"""Every check, in the order in which a station is set up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from edge.board.model import machine_root
from edge.config import EdgeConfig, read_config
from edge.doctor import (
    board_checks,
    camera_checks,
    disk_checks,
    line_checks,
    package_check,
    station_checks,
)
from edge.doctor.finding import Check, Finding, Row, Subject, unknown, wrong
from edge.errors import ConfigError, EdgeError
from edge.files import sentence_of
from edge.station.store import Store

CHECKS: tuple[Check, ...] = (
    Check("system", board_checks.jetpack),
    Check("TensorRT", board_checks.tensorrt),
    Check("power mode", board_checks.power_mode),
    Check("GPU clock", board_checks.clocks),
    Check("throttling", board_checks.throttling),
    Check("temperature", board_checks.temperature),
    Check("memory", board_checks.free_memory),
    Check("swap", board_checks.swap),
    Check("disk", disk_checks.disk),
    Check("disk wear", disk_checks.wear, needs_root=True),
    Check("time", disk_checks.time_sync),
    Check("camera", camera_checks.camera),
    Check("USB speed", camera_checks.usb_speed),
    Check("USB autosuspend", camera_checks.autosuspend),
    Check("udev", camera_checks.udev),
    Check("camera firmware", camera_checks.firmware),
    Check("kernel metadata", camera_checks.kernel_metadata),
    Check("GPIO", camera_checks.gpio),
    Check("station.toml", station_checks.settings),
    Check("broker", line_checks.broker),
    Check("certificates", line_checks.certificates),
    Check("trusted keys", station_checks.trust),
    Check("bundle", station_checks.bundle),
    Check("engine", station_checks.engine),
    Check("calibration", station_checks.calibration),
    Check("service", station_checks.service),
    Check("package", package_check.package),
)
SEE = "the sentence says what to do"


def examine(root: Path, checks: Sequence[Check] = CHECKS) -> list[Row]:
    """Every row that has a meaning for the station under `root`. Nothing is changed."""
    store = Store(root)
    with store.acting():
        subject = Subject(store, machine_root(root), _config(root))
    return list(rows_of(subject, checks))


def _config(root: Path) -> EdgeConfig:
    try:
        return read_config(root)
    except (ConfigError, OSError):  # the row of station.toml says so
        return EdgeConfig()


def rows_of(subject: Subject, checks: Sequence[Check]) -> Iterator[Row]:
    """Every row that has a meaning, each looked at with the rights that it needs."""
    for check in checks:
        with _rights(check, subject):
            finding = _found(check, subject)
        if finding is not None:
            yield Row(check.name, finding)


def _rights(check: Check, subject: Subject) -> AbstractContextManager[None]:
    """SQLite and the locks: as the account that the station belongs to. No program of another
    system than this one is run with more than that.
    """
    is_own = check.needs_root and subject.is_here
    return nullcontext() if is_own else subject.store.acting()


def _found(check: Check, subject: Subject) -> Finding | None:
    """What cannot be looked at is a finding too: one row must not cost the others."""
    try:
        return check.look(subject)
    except EdgeError as error:
        said, _, remedy = str(error).rpartition(": ")
        return wrong(said, remedy) if said else wrong(str(error), SEE)
    except (OSError, sqlite3.Error) as error:
        said = sentence_of(error) if isinstance(error, OSError) else str(error)
        return unknown(said, "run it with sudo")
