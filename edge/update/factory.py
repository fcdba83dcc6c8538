"""The sources of updates that station.toml can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import ConfigError
from edge.station.installed import Installed
from edge.station.store import Store
from edge.update.source import Offer, Outcome, Source
from edge.update_sections import UpdateConfig

if TYPE_CHECKING:
    from edge.update.tuf_source import TufSource


class NoSource:
    """Offers nothing: for a trial that goes on where there is no source to ask, as after a stick
    was pulled.
    """

    name = "off"

    def find(self, current: Mapping[str, Installed]) -> Sequence[Offer]:
        """Nothing."""
        del current
        return []

    def fetch(self, offer: Offer, folder: Path) -> Path:
        """Raises: ConfigError: there is nothing to fetch."""
        raise ConfigError(f"no source has {offer.words} for {folder}")

    def report(self, offer: Offer, outcome: Outcome, details: Sequence[str]) -> None:
        """Nobody is told."""


def is_at_hand(store: Store, config: UpdateConfig) -> bool:
    """Whether the source of [update] can be asked: a stick may be elsewhere."""
    return config.source != "usb" or _is_folder(store.root / config.url / "metadata")


def make_source(store: Store, config: UpdateConfig, usb: Path | None = None) -> Source:
    """The source of [update], or the stick at `usb`.

    Raises: ConfigError if there is none, or what it needs is not there.
    """
    if usb is None and config.source == "hawkbit":
        from edge.update.hawkbit_source import make_hawkbit_source

        return make_hawkbit_source(store, config)
    return make_repository(store, config, usb)


def make_repository(
    store: Store, config: UpdateConfig, usb: Path | None = None, kept: Path | None = None
) -> TufSource:
    """The repository of [update], or the stick at `usb`: the sources that have packages too.

    kept: where what was verified is kept, by default with the station's updates.
    Raises: ConfigError if there is none, or what it needs is not there.
    """
    from edge.update.stick import StickReach
    from edge.update.tuf_source import TufSource

    if usb is not None or config.source == "usb":
        folder = usb if usb is not None else store.root / config.url
        if not _is_folder(folder):
            raise ConfigError(
                f"{folder} is no folder that this account can see: name the one where the stick is"
                " mounted"
            )
        return TufSource(store, "usb", StickReach(folder), config.ring, kept)
    if config.source == "tuf":
        from edge.update.web import WebReach

        ca_file = store.root / config.ca_file if config.ca_file else None
        return TufSource(store, "tuf", WebReach(config.url, ca_file), config.ring, kept)
    raise ConfigError(
        f"source is {config.source} in [update] of station.toml: name a repository there, or a"
        " stick with --usb"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # of another account, or of a stick that was just pulled
        return False
