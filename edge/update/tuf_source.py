"""A repository that `trainer release` keeps, behind an address or on a stick (The Update Framework,
specification 1.0; python-tuf's client verifies), as a source of updates.

Whatever a server or a stick says is refused unless it is signed, whole, not older than what was
seen, and not expired. Nothing of the station changes before that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge.errors import UpdateError
from edge.files import make_folder, remove_tree
from edge.optional import optional_module
from edge.schema import parse_json
from edge.station.installed import Installed
from edge.station.store import Store
from edge.update.clock import MADE_AT, Seen, read_seen, time_at_least, wall_clock, write_seen
from edge.update.metadata_cache import worked_on
from edge.update.reach import NotThere, Reach, TooLong
from edge.update.ring import (
    PACKAGE_LIMIT,
    RING_LIMIT,
    RingFile,
    RingPackage,
    address_of,
    package_path,
    ring_path,
)
from edge.update.roots import REMEDY, Kind, kind_of, parse_root, read_root
from edge.update.source import Offer, Outcome
from edge.update.state import update_folder

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import Updater

STAYS = "nothing is taken from it, and what is installed stays"


class TufSource:
    """See edge.update.source.Source."""

    def __init__(
        self,
        store: Store,
        name: Literal["tuf", "usb"],
        reach: Reach,
        ring: str,
        folder: Path | None = None,
    ) -> None:
        """ring: of this station. folder: root's, where it keeps what it has verified itself; by
        default that is kept with the station's updates. Nothing is asked yet.
        """
        self.name: str = name
        self._kept = update_folder(store) if folder is None else folder
        self._store, self._reach, self._ring = store, reach, ring
        # the account's records tell nothing to root, which keeps its own memory
        self._records = store.root if folder is None else None
        self._kind: Kind = "online" if name == "tuf" else "usb"
        self._targets: dict[tuple[str, str], TargetFile] = {}
        self._packages: dict[str, TargetFile] = {}

    @property
    def _folder(self) -> Path:
        return self._kept / self.name

    def find(self, current: Mapping[str, Installed]) -> Sequence[Offer]:
        """As Source.find: what the station's ring says of every product."""
        del current
        with self._as_update_error(), worked_on(self._folder) as cache:
            updater = self._refreshed(cache)
            ring = self._ring_of(updater)
            offers = []
            for product, entry in sorted(ring.products.items()):
                target = updater.get_targetinfo(entry.bundle)
                if target is None or target.hashes.get("sha256") != entry.sha256:
                    raise UpdateError(
                        f"{self._reach.where}: ring {self._ring} names {entry.bundle}, and the"
                        f" repository's own key did not sign that one: {STAYS}"
                    )
                self._targets[product, entry.version] = target
                offers.append(
                    Offer(product, entry.version, target.length, entry.sha256, halt=entry.halt)
                )
        return offers

    def fetch(self, offer: Offer, folder: Path) -> Path:
        """As Source.fetch, for an offer that `find` gave."""
        return self._bring(self._targets[offer.product, offer.version], folder)

    def find_package(self, codename: str, processor: str) -> tuple[RingPackage, str | None] | None:
        """The package edge-station that the station's ring names, and its path among the targets,
        None where there is none for this distribution and processor; None where the ring names
        none.

        Raises: as `find`.
        """
        with self._as_update_error(), worked_on(self._folder) as cache:
            updater = self._refreshed(cache)
            named = self._ring_of(updater).package
            if named is None:
                return None
            path = package_path(named.version, codename, processor)
            target = updater.get_targetinfo(path)
            if target is None:
                return named, None
            if target.length > PACKAGE_LIMIT:
                raise UpdateError(f"{self._reach.where}: {path} is too large: {STAYS}")
            self._packages[path] = target
            return named, path

    def size_of(self, path: str) -> int:
        """Bytes of the package that `find_package` named."""
        return self._packages[path].length

    def fetch_package(self, path: str, folder: Path) -> Path:
        """Bring the package that `find_package` named into `folder`, with the length and digest
        that the repository's own key signed; as Source.fetch.
        """
        return self._bring(self._packages[path], folder)

    def _bring(self, target: TargetFile, folder: Path) -> Path:
        digest = target.hashes["sha256"]
        whole, half = folder / target.path.rpartition("/")[2], folder / f"{digest}.part"
        if whole.is_file():  # it was fetched before, and could not be installed then
            whole.rename(half)
        for other in [path for path in folder.iterdir() if path != half]:
            remove_tree(other)
        with self._as_update_error():
            self._reach.copy(address_of(target.path, digest), half, target.length)
            try:
                with half.open("rb") as file:
                    target.verify_length_and_hashes(file)
            except Exception:
                half.unlink()  # the next call begins anew
                raise
        return half.rename(whole)

    def report(self, offer: Offer, outcome: Outcome, details: Sequence[str]) -> None:
        """Nobody reads reports here: the station's audit table and `edge update status` have
        them.
        """

    # --- what is verified ---

    def _refreshed(self, cache: Path) -> Updater:
        """A client that has verified the four top-level roles."""
        exceptions: Any = optional_module("tuf.api.exceptions", REMEDY)
        seen = read_seen(self._folder)
        try:
            updater = self._refresh(cache, seen)
        except exceptions.ExpiredMetadataError:
            if seen is None or seen.keys == self._timestamp_keys(cache):
                raise
            seen = None  # a timestamp of keys that were replaced since: its date is void
            updater = self._refresh(cache, seen)
        self._require_newest(cache, seen)
        return updater

    def _refresh(self, cache: Path, seen: Seen | None) -> Updater:
        root = read_root(self._store, self._kind)
        try:
            updater = self._client(cache, root)
        except OSError:  # something else than files lies there: begin with the root again
            remove_tree(cache)
            make_folder(cache)
            updater = self._client(cache, root)
        # python-tuf takes the wall clock, which may be in 1970 here
        updater._trusted_set.reference_time = self._time(seen)
        updater.refresh()
        return updater

    def _client(self, cache: Path, root: bytes) -> Updater:
        client: Any = optional_module("tuf.ngclient", REMEDY)
        updater: Updater = client.Updater(
            str(cache), "metadata/", fetcher=_Fetcher(self._reach), bootstrap=root
        )
        return updater

    def _time(self, seen: Seen | None) -> datetime:
        with self._store.acting():
            return time_at_least(self._records, seen)

    def _timestamp_keys(self, cache: Path) -> tuple[str, ...]:
        """Whose timestamps count, by the newest root that was verified."""
        root = parse_root((cache / "root.json").read_bytes(), self._reach.where)
        if kind_of(root) != self._kind:
            raise UpdateError(
                f"{self._reach.where} is not a repository for {self._kind} use: {STAYS}"
            )
        return tuple(sorted(root.signed.roles["timestamp"].keyids))

    def _require_newest(self, cache: Path, seen: Seen | None) -> None:
        """A second memory of the newest timestamp, beside the client's own, and the clock's.

        Raises: UpdateError if the repository is of another kind, or shows an older timestamp.
        """
        keys = self._timestamp_keys(cache)
        signed = json.loads((cache / "timestamp.json").read_bytes())["signed"]
        new = Seen(version=signed["version"], made_at=signed[MADE_AT], keys=keys)
        if seen is not None and seen.keys == keys:
            if new.version < seen.version:
                raise UpdateError(
                    f"{self._reach.where} shows timestamp {new.version}, this station has seen"
                    f" {seen.version}: {STAYS}"
                )
            new = new.model_copy(update={"made_at": max(new.made_at, seen.made_at)})
        write_seen(self._folder, new)

    def _ring_of(self, updater: Updater) -> RingFile:
        path = ring_path(self._ring)
        target = updater.get_targetinfo(path)
        if target is None:
            raise UpdateError(
                f"{self._reach.where} has no ring {self._ring}: correct ring in [update] of"
                " station.toml, or make it with `trainer release ring`"
            )
        address = address_of(path, target.hashes["sha256"])
        data = self._reach.read(address, min(target.length, RING_LIMIT))
        target.verify_length_and_hashes(data)
        ring = RingFile.model_validate(parse_json(data))
        if ring.ring != self._ring:
            raise UpdateError(f"{self._reach.where}: {path} is of ring {ring.ring}: {STAYS}")
        return ring

    @contextmanager
    def _as_update_error(self) -> Iterator[None]:
        """What python-tuf refuses, as one sentence."""
        exceptions: Any = optional_module("tuf.api.exceptions", REMEDY)
        where = self._reach.where
        try:
            yield
        except exceptions.ExpiredMetadataError as error:
            now = self._time(read_seen(self._folder))
            else_do = "or correct this station's clock"
            if now > wall_clock():
                else_do = (
                    "or look at the clock that signed it: this station's own is earlier, but that"
                    " time is in a timestamp or record that it has"
                )
            raise UpdateError(
                f"{where}: {_one_line(error)}, and it is {now:%Y-%m-%d %H:%M} UTC here: {STAYS}."
                f" Renew it with `trainer release refresh`, {else_do}"
            ) from error
        except exceptions.DownloadHTTPError as error:
            raise UpdateError(
                f"{_one_line(error)}: name the folder that `trainer release` keeps"
            ) from error
        except exceptions.DownloadLengthMismatchError as error:
            raise UpdateError(f"{_one_line(error)}: {STAYS}") from error
        except (exceptions.RepositoryError, KeyError, ValueError) as error:
            raise UpdateError(
                f"{where} cannot be trusted: {type(error).__name__}, {_one_line(error)}: {STAYS}"
            ) from error


class _Fetcher:
    """python-tuf's FetcherInterface, as far as its client uses it for metadata."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def download_bytes(self, path: str, limit: int) -> bytes:
        """The content of a file. Raises: DownloadHTTPError, by which python-tuf finds the last
        root; DownloadLengthMismatchError; UpdateError.
        """
        exceptions: Any = optional_module("tuf.api.exceptions", REMEDY)
        try:
            return self._reach.read(path, limit)
        except NotThere as error:
            raise exceptions.DownloadHTTPError(str(error), 404) from error
        except TooLong as error:
            raise exceptions.DownloadLengthMismatchError(str(error)) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
