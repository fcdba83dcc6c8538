"""Restoring a backup: the act that replaces everything a root has."""

from __future__ import annotations

from pathlib import Path

from edge.backup.restore import restore_backup
from edge.install.install import install_bundle
from edge.station.store import Store
from edge.station.trust import trust
from tests.support.cuts.act import Act, Mark

BACKUP, OTHER = "cell.backup", "washer-0.9.0.bundle"


def empty(_root: Path, _files: Path) -> None:
    pass


def reflashed(root: Path, files: Path) -> None:
    """With another bundle, signed with another key."""
    trust(Store(root), files / "other.pub")
    install_bundle(files / OTHER, root)


def restore(root: Path, files: Path, mark: Mark) -> None:
    restore_backup(Store(root), files / BACKUP)


ACTS = {"into an empty root": Act(empty, restore), "into a reflashed root": Act(reflashed, restore)}
