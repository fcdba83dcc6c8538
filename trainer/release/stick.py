"""A copy of a repository on a stick, for stations without a network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from edge.files import make_folder, replaced, sha256_of, write_atomically
from edge.update.ring import address_of, ring_path
from trainer.release.acts import USB, packages_of, publish_for_sticks
from trainer.release.keys import find_signers
from trainer.release.repository import METADATA, Repository, alone


@alone
def copy_to_stick(folder: Path, stick: Path, keys: Sequence[Path]) -> datetime:
    """Write what the rings name, signed for sticks, to `stick`; returns until when it is good.

    What a stick has already, whole, is not copied again; its timestamp.json is written last, so
    that half a copy shows what was there before, or nothing.
    """
    signers = find_signers(keys)
    online, sticks = Repository.read(folder, signers), Repository.read(folder / USB, signers)
    publish_for_sticks(online, sticks)
    for address in _named(online):
        _copy(folder / address, stick / address)
    metadata = sorted((folder / USB / "metadata").iterdir())
    for source in sorted(metadata, key=lambda path: path.name == "timestamp.json"):
        make_folder(stick / "metadata")
        write_atomically(stick / "metadata" / source.name, source.read_bytes())
    until: datetime = min(sticks.of(name).signed.expires for name in METADATA)
    return until


def _named(repository: Repository) -> list[str]:
    """Addresses of the rings, and of every bundle and package that a ring names."""
    found = []
    for ring in repository.rings_there():
        digest = repository.rings.signed.targets[ring_path(ring.ring)].hashes["sha256"]
        found.append(address_of(ring_path(ring.ring), digest))
        found += [address_of(one.bundle, one.sha256) for one in ring.products.values()]
        for path in packages_of(repository, ring.package.version) if ring.package else ():
            digest = repository.targets.signed.targets[path].hashes["sha256"]
            found.append(address_of(path, digest))
    return sorted(set(found))


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and sha256_of(target) == sha256_of(source):
        return
    make_folder(target.parent)
    with source.open("rb") as file, replaced(target) as copy:
        shutil.copyfileobj(file, copy)
