"""The disk that the station writes on, and the clock that dates what it writes."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge.board.disk import disk_of, wear_of
from edge.clock import is_clock_synced
from edge.doctor.finding import Finding, Subject, right, unknown, wrong
from edge.files import sentence_of

WORN = 0.8  # of a disk's life
REPLACE = "`edge backup FILE`, replace the disk, `edge restore FILE`"


def disk(subject: Subject) -> Finding:
    """Whether what [retention] keeps free is free."""
    folder = _existing(subject.store.data)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return unknown(sentence_of(error, folder))
    kept = subject.config.retention.min_free_gb
    said = f"{free / 1e9:.1f} GB free at {subject.store.data}"
    if free / 1e9 >= kept:
        return right(said)
    return wrong(
        f"{said}, min_free_gb is {kept:g}", "free some, or lower gb in [retention] of station.toml"
    )


def wear(subject: Subject) -> Finding:
    """How much of the disk's life is used."""
    name = disk_of(_existing(subject.store.data), subject.machine)
    if name is None:
        return unknown(f"{subject.store.data} lies on no disk that the kernel names")
    found = wear_of(name, subject.machine)
    if found.used is None:
        return unknown(
            f"{name} does not tell", "an NVMe disk does: `sudo apt install nvme-cli`, as root"
        )
    said = f"{found.used:.0%} of the life of {name} used"
    return right(said) if found.used < WORN else wrong(said, REPLACE)


def time_sync(subject: Subject) -> Finding:
    """Whether dates in records can be trusted."""
    if not subject.is_here:
        return unknown("the clock of another root is not looked at", "run it on the board")
    if is_clock_synced():
        return right("synchronized")
    return wrong(
        "not synchronized: dates in records may be wrong",
        "let this machine reach a time server: `timedatectl timesync-status`",
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
