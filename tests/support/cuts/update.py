"""Asking a stick what is new: the act that changes what a station has verified of a repository."""

from __future__ import annotations

from pathlib import Path

from edge.station.store import Store
from edge.update.factory import make_source
from edge.update.roots import trust_root
from edge.update.source import Offer
from edge.update.state import update_folder
from edge.update_sections import UpdateConfig
from tests.support.cuts.act import Act, Mark

OLD, NEW = "stick-old", "stick-new"


def ask(root: Path, stick: Path) -> list[Offer]:
    """What the stick offers to a station that had asked before, or had not."""
    store = Store(root)
    with store.inside():
        return list(make_source(store, UpdateConfig(), stick).find({}))


def trusting(root: Path, files: Path) -> None:
    store = Store(root)
    trust_root(store, files / "usb-root.json")
    update_folder(store).mkdir(parents=True)


def asked_once(root: Path, files: Path) -> None:
    trusting(root, files)
    ask(root, files / OLD)


def ask_new(root: Path, files: Path, mark: Mark) -> None:
    ask(root, files / NEW)


ACTS = {"first question": Act(trusting, ask_new), "next question": Act(asked_once, ask_new)}
