"""The metadata of a repository: read as it was published, changed, signed, published again.

    REPOSITORY/metadata/N.root.json, N.targets.json, N.rings.json, N.snapshot.json, timestamp.json
    REPOSITORY/targets/bundles/SHA256.PRODUCT-VERSION.bundle
    REPOSITORY/targets/packages/SHA256.edge-station_VERSION_CODENAME_ARCH.deb
    REPOSITORY/targets/rings/SHA256.RING.json

It is a folder of plain files for any web server. timestamp.json is written last: until then clients
see what was published before, also when the command is killed.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from edge.errors import ConfigError
from edge.files import make_folder, read_bytes, replaced, write_atomically
from edge.station.lock import locked
from edge.update.clock import MADE_AT
from edge.update.ring import RING_LIMIT, RingFile, address_of, ring_path
from edge.update.roots import KIND, Kind, kind_of
from trainer.release.keys import chosen
from trainer.release.roles import RENEWED_BEFORE, ROLES

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

P = ParamSpec("P")
T = TypeVar("T")
Signers = dict[str, "CryptoSigner"]  # by key id
Keys = Mapping[str, Sequence[Key]]  # by role
MOMENT = "%Y-%m-%dT%H:%M:%SZ"  # sorts by time
LOCK = "release.lock"
LIMIT = 8 << 20  # bytes of one file
METADATA = ("root", "targets", "rings", "snapshot", "timestamp")


def now() -> datetime:
    """The time of what is signed: whole seconds, as TUF has it."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def alone(act: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
    """An act on the repository in the folder that is its first argument, which no other act
    interrupts: both would publish the same versions, and what one of them did would be lost.
    """

    @wraps(act)
    def locking(folder: Path, /, *arguments: P.args, **named: P.kwargs) -> T:
        if not (folder / "metadata").is_dir():
            return act(folder, *arguments, **named)  # which says what is missing
        with locked(folder, LOCK, "trainer release"):
            return act(folder, *arguments, **named)

    return locking


class Repository:
    """One repository, with the signers that are at hand. `publish` ends a change."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    rings: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]

    def __init__(self, folder: Path, signers: Signers) -> None:
        """folder: of the repository. Nothing is read yet: `read` or `begin` makes a whole one."""
        self.folder, self.signers = folder, signers
        self._changed: set[str] = set()
        self._root_before: Root | None = None

    @classmethod
    def read(cls, folder: Path, signers: Signers) -> Repository:
        """The repository as it was published last.

        Raises: ConfigError if there is none, or it is damaged.
        """
        self = cls(folder, signers)
        try:
            self.timestamp = self._load("timestamp")
            self.snapshot = self._load("snapshot", self.timestamp.signed.snapshot_meta.version)
            meta = self.snapshot.signed.meta
            self.targets = self._load("targets", meta["targets.json"].version)
            self.rings = self._load("rings", meta["rings.json"].version)
            self.root = self._load("root", last_root(folder))
        except (KeyError, ValueError, RepositoryError) as error:
            raise ConfigError(f"{folder} is no whole repository ({error}): restore it") from error
        self._root_before = copy.deepcopy(self.root.signed)
        return self

    @classmethod
    def begin(cls, folder: Path, signers: Signers, keys: Keys, kind: Kind) -> Repository:
        """A new one without bundles. keys: of each role that its root names, and of `rings`."""
        self = cls(folder, signers)
        self.root = Metadata(Root(consistent_snapshot=True, unrecognized_fields={KIND: kind}))
        rings = DelegatedRole("rings", [], 1, terminating=True, paths=["rings/*.json"])
        self.targets = Metadata(Targets(delegations=Delegations({}, {"rings": rings})))
        self.rings, self.snapshot = Metadata(Targets()), Metadata(Snapshot())
        self.snapshot.signed.meta["rings.json"] = MetaFile(1)
        self.timestamp = Metadata(Timestamp())
        for role, those in keys.items():
            self.set_keys(role, those)
        for name in ("root", "targets", "rings", "snapshot"):
            self.touch(name)
        return self

    # --- changes ---

    def touch(self, name: str) -> None:
        """The metadata of a role is signed anew at `publish`."""
        self._changed.add(name)

    def untouch(self, *names: str) -> None:
        """Their metadata stays as it is signed."""
        self._changed -= set(names)

    def set_keys(self, role: str, keys: Sequence[Key], threshold: int | None = None) -> None:
        """These keys, and no others, sign for a role from now on.

        threshold: how many of them must; by default as ROLES says.
        """
        delegator = self._delegator_of(role)
        about = delegator.get_delegated_role(role)
        for keyid in list(about.keyids):
            delegator.revoke_key(keyid, role)
        for key in keys:
            delegator.add_key(key, role)
        about.threshold = threshold or ROLES[role].threshold
        self.touch("targets" if role == "rings" else "root")
        self.touch(role)

    def keys_of(self, role: str) -> tuple[list[Key], int]:
        """The keys that sign for a role, and how many of them must."""
        delegator = self._delegator_of(role)
        about = delegator.get_delegated_role(role)
        return [delegator.get_key(keyid) for keyid in about.keyids], about.threshold

    def add_target(self, path: str, source: Path) -> TargetFile:
        """Take a file in as a target; its content lies beside the others from now on."""
        target = TargetFile.from_file(path, str(source), ["sha256"])
        place = self.folder / address_of(path, target.hashes["sha256"])
        make_folder(place.parent)
        with source.open("rb") as file, replaced(place) as copied:
            shutil.copyfileobj(file, copied)
        self.targets.signed.targets[path] = target
        self.touch("targets")
        return target

    def set_ring(self, ring: RingFile) -> None:
        """Give a ring this content."""
        data = (ring.model_dump_json(indent=2, exclude_none=True) + "\n").encode()
        path = ring_path(ring.ring)
        target = TargetFile.from_data(path, data, ["sha256"])
        place = self.folder / address_of(path, target.hashes["sha256"])
        make_folder(place.parent)
        write_atomically(place, data)
        self.rings.signed.targets[path] = target
        self.touch("rings")

    def ring(self, name: str) -> RingFile:
        """The content of a ring, empty where there is none yet."""
        target = self.rings.signed.targets.get(ring_path(name))
        if target is None:
            return RingFile(ring=name)
        place = self.folder / address_of(target.path, target.hashes["sha256"])
        return RingFile.model_validate_json(read_bytes(place, limit=RING_LIMIT))

    def rings_there(self) -> list[RingFile]:
        """Every ring, by name."""
        names = sorted(Path(path).stem for path in self.rings.signed.targets)
        return [self.ring(name) for name in names]

    def touch_what_ends(self) -> None:
        """Renew the online roles of which less than RENEWED_BEFORE of their time is left."""
        for name in ("rings", "snapshot"):
            if self.of(name).signed.expires - now() < ROLES[name].valid * RENEWED_BEFORE:
                self.touch(name)

    # --- publishing ---

    def publish(self, valid: Mapping[str, timedelta] = MappingProxyType({})) -> None:
        """Sign what was changed, and what follows from it, and write it.

        valid: for how long, by role, where it is not as ROLES says.
        Raises: ConfigError if a key that must sign is not at hand, or the clock went back; then
            nothing was published.
        """
        if self._changed & {"targets", "rings"}:
            self.touch("snapshot")
        self._require_later()
        files = [self._signed(n, valid) for n in ("root", "targets", "rings") if n in self._changed]
        if "snapshot" in self._changed:
            for name in ("targets", "rings"):
                self.snapshot.signed.meta[f"{name}.json"] = MetaFile(self.of(name).signed.version)
            files.append(self._signed("snapshot", valid))
        self.timestamp.signed.snapshot_meta = MetaFile(self.snapshot.signed.version)
        self.timestamp.signed.unrecognized_fields[MADE_AT] = f"{now():{MOMENT}}"
        files.append(self._signed("timestamp", valid))
        make_folder(self.folder / "metadata")
        for file, data in files:
            write_atomically(self.folder / "metadata" / file, data)
        self._changed.clear()

    def _require_later(self) -> None:
        """Stations take no time before that of a timestamp which they have verified, unless its key
        was replaced.
        """
        before = str(self.timestamp.signed.unrecognized_fields.get(MADE_AT, ""))
        if self._root_before is None or before <= f"{now():{MOMENT}}":
            return
        role = "timestamp"
        keys = self._root_before.get_delegated_role(role).keyids
        if set(keys) & set(self.root.signed.get_delegated_role(role).keyids):
            replaced_as = "usb" if kind_of(self.root) == "usb" else role
            raise ConfigError(
                f"{self.folder} was signed at {before}, and it is {now():{MOMENT}} here: correct"
                " this machine's clock; if it was wrong then, stations refuse what is signed now"
                f" until `trainer release renew --replace {replaced_as}`"
            )

    def _signed(self, name: str, valid: Mapping[str, timedelta]) -> tuple[str, bytes]:
        """(file, content) of a role's next version."""
        metadata = self.of(name)
        metadata.signed.version += 1 if metadata.signatures else 0
        metadata.signed.expires = now() + valid.get(name, ROLES[name].valid)
        metadata.signatures.clear()
        for signer in self._signers_of(name):
            metadata.sign(signer, append=True)
        file = f"{name}.json" if name == "timestamp" else f"{metadata.signed.version}.{name}.json"
        return file, metadata.to_bytes(JSONSerializer(validate=True))

    def _signers_of(self, name: str) -> list[CryptoSigner]:
        """Whose keys count; for a root, those of the root before it too."""
        role = self._delegator_of(name).get_delegated_role(name)
        signers = chosen(name, role.keyids, role.threshold, self.signers)
        if name == "root" and self._root_before is not None:
            before = self._root_before.get_delegated_role(name)
            others = chosen(name, before.keyids, before.threshold, self.signers)
            signers += [one for one in others if one not in signers]
        return signers

    def _delegator_of(self, name: str) -> Root | Targets:
        return self.targets.signed if name == "rings" else self.root.signed

    def of(self, name: str) -> Metadata[Any]:
        """The metadata of a role."""
        found: Metadata[Any] = getattr(self, name)
        return found

    def _load(self, name: str, version: int | None = None) -> Metadata[Any]:
        file = f"{name}.json" if version is None else f"{version}.{name}.json"
        path = self.folder / "metadata" / file
        metadata: Metadata[Any] = Metadata.from_bytes(read_bytes(path, limit=LIMIT))
        return metadata


def last_root(folder: Path) -> int:
    """The newest version of root.json that a repository has; 1 where it has none."""
    versions = [path.name.partition(".")[0] for path in (folder / "metadata").glob("*.root.json")]
    return max((int(version) for version in versions if version.isdecimal()), default=1)
