"""What `trainer release` does to a repository."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edge.bundle.archive import open_bundle
from edge.bundle.key_files import read_public_key
from edge.errors import BundleError, ConfigError, EdgeError
from edge.files import make_folder, read_bytes, sha256_of, write_atomically
from edge.provision.package import PACKAGE, read_package
from edge.update.ring import PACKAGE_LIMIT, RING, RingEntry, RingFile, RingPackage, package_path
from trainer.release.keys import find_signers, make_role_keys
from trainer.release.repository import LIMIT, METADATA, Repository, alone, last_root, now
from trainer.release.roles import ROLES, WARN_BEFORE

USB = "usb"  # folder of a repository with the metadata of its copies on sticks
PACKAGE_FILE = re.compile(
    r"edge-station_([A-Za-z0-9][A-Za-z0-9.-]{0,63})_([a-z]+)_([a-z0-9]+)\.deb"
)
MADE = "take it as `make deb` made it"
REPLACED = tuple(name for name in ROLES if name != "usb-root")


def begin(folder: Path, keys: Path) -> list[Path]:
    """A new repository without bundles, and its keys; returns the root files for the stations.

    Raises: ConfigError if there is one already.
    """
    if (folder / "metadata").exists():
        raise ConfigError(f"{folder} holds a repository already: name another folder")
    signers = {role: make_role_keys(keys, role) for role in ROLES}
    by_id = {one.public_key.keyid: one for many in signers.values() for one in many}
    public = {role: [one.public_key for one in many] for role, many in signers.items()}
    own = {role: public[role] for role in METADATA}
    online = Repository.begin(folder, by_id, own, "online")
    online.publish()
    sticks = {**own, "root": public["usb-root"], "snapshot": public["usb"]}
    sticks["timestamp"] = public["usb"]
    Repository.begin(folder / USB, by_id, sticks, "usb").publish()
    return write_roots(folder)


def write_roots(folder: Path) -> list[Path]:
    """The newest roots, as root.json and usb-root.json, for `edge update trust`."""
    written = []
    for place, name in ((folder, "root.json"), (folder / USB, "usb-root.json")):
        newest = place / "metadata" / f"{last_root(place)}.root.json"
        write_atomically(folder / name, read_bytes(newest, limit=LIMIT))
        written.append(folder / name)
    return written


@alone
def add(folder: Path, bundle: Path, trusted: Sequence[Path], keys: Sequence[Path]) -> str:
    """Take a bundle in, signed by the targets key; no ring names it yet. Returns its path among the
    targets.

    trusted: public keys that the stations trust.
    Raises: BundleError if stations would refuse it, or another of this version is there.
    """
    repository = Repository.read(folder, find_signers(keys))
    with open_bundle(bundle, [read_public_key(path) for path in trusted]) as opened:
        opened.check_members()
        manifest = opened.manifest
    words = f"{manifest.product} {manifest.version}"
    path = f"bundles/{manifest.product}-{manifest.version}.bundle"
    return _taken_in(repository, path, bundle, words, BundleError)


@alone
def add_package(folder: Path, package: Path, keys: Sequence[Path]) -> str:
    """Take a package of `make deb` in, signed by the targets key; no ring names it yet. Returns its
    path among the targets.

    Raises: ConfigError if it is no such package, or another of this version, distribution and
        processor is there.
    """
    path = _path_of(package)
    repository = Repository.read(folder, find_signers(keys))
    return _taken_in(repository, path, package, path, ConfigError)


def _taken_in(
    repository: Repository, path: str, file: Path, words: str, error: type[EdgeError]
) -> str:
    """Publish a file as the target `path`, unless it is there already. words: for the error."""
    known = repository.targets.signed.targets.get(path)
    if known is not None and known.hashes["sha256"] != sha256_of(file):
        raise error(
            f"{repository.folder} has another {words}: stations take each version once, so give"
            " this one a new version"
        )
    if known is None:
        repository.add_target(path, file)
        repository.publish()
    return path


def _path_of(package: Path) -> str:
    """Where a package belongs among the targets. Raises: ConfigError if it is none of ours."""
    named, about = PACKAGE_FILE.fullmatch(package.name), read_package(package)
    if named is None or about.name != PACKAGE:
        raise ConfigError(f"{package} is not named {PACKAGE}_VERSION_CODENAME_ARCH.deb: {MADE}")
    version, codename, processor = named.groups()
    if (about.version, about.processor) != (version, processor):
        raise ConfigError(
            f"{package} holds {about.version} for {about.processor}, which its name does not say:"
            f" {MADE}"
        )
    if package.stat().st_size > PACKAGE_LIMIT:
        raise ConfigError(f"{package} has more than {PACKAGE_LIMIT >> 20} MiB: {MADE}")
    return package_path(version, codename, processor)


def packages_of(repository: Repository, version: str) -> list[str]:
    """Paths of the packages of one version among the targets, one for each distribution."""
    begin = f"packages/{PACKAGE}_{version}_"
    return [path for path in repository.targets.signed.targets if path.startswith(begin)]


@alone
def set_ring(
    folder: Path,
    ring: str,
    product: str,
    keys: Sequence[Path],
    version: str | None = None,
    halt: bool | None = None,
    removed: bool = False,
) -> RingFile:
    """Change what one ring says of a product; returns the whole ring.

    version: which of the added bundles. halt: whether stations that do not have it wait; None
    leaves it, and a new version goes. removed: the ring says nothing of the product any more.
    Raises: ConfigError if the bundle was not added, or nothing of the product is there to change.
    """
    repository = Repository.read(folder, find_signers(keys))
    before = _ring_before(repository, ring)
    products = dict(before.products)
    if removed:
        if products.pop(product, None) is None:
            raise ConfigError(f"ring {ring} says nothing of {product!r}: nothing to remove")
    else:
        products[product] = _entry(repository, before, product, version, halt)
    after = before.model_copy(update={"products": products})
    repository.set_ring(after)
    repository.touch_what_ends()
    repository.publish()
    return after


def _ring_before(repository: Repository, ring: str) -> RingFile:
    if not RING.fullmatch(ring):
        raise ConfigError(f"{ring!r} is no name of a ring: letters, digits, . _ - (at most 32)")
    return repository.ring(ring)


def _entry(
    repository: Repository, ring: RingFile, product: str, version: str | None, halt: bool | None
) -> RingEntry:
    known = ring.products.get(product)
    if version is None:
        if known is None or halt is None:
            raise ConfigError(
                f"ring {ring.ring} has no {product} yet: say with --version which bundle it is"
            )
        return known.model_copy(update={"halt": halt})
    path = f"bundles/{product}-{version}.bundle"
    target = repository.targets.signed.targets.get(path)
    if target is None:
        there = ", ".join(sorted(Path(one).stem for one in repository.targets.signed.targets))
        raise ConfigError(
            f"{product} {version} was not added to this repository (there are: {there or 'none'}):"
            " `trainer release add` takes it in"
        )
    return RingEntry(version=version, bundle=path, sha256=target.hashes["sha256"], halt=bool(halt))


@alone
def set_ring_package(
    folder: Path,
    ring: str,
    keys: Sequence[Path],
    version: str | None = None,
    halt: bool | None = None,
    removed: bool = False,
) -> RingFile:
    """Change what one ring says of the package edge-station; arguments and errors as `set_ring`."""
    repository = Repository.read(folder, find_signers(keys))
    before = _ring_before(repository, ring)
    after = None if removed else _package_entry(repository, before, version, halt)
    if removed and before.package is None:
        raise ConfigError(f"ring {ring} says nothing of the package: nothing to remove")
    ring_file = before.model_copy(update={"package": after})
    repository.set_ring(ring_file)
    repository.touch_what_ends()
    repository.publish()
    return ring_file


def _package_entry(
    repository: Repository, ring: RingFile, version: str | None, halt: bool | None
) -> RingPackage:
    if version is None:
        if ring.package is None or halt is None:
            raise ConfigError(
                f"ring {ring.ring} has no package yet: say with --version which one it is"
            )
        return ring.package.model_copy(update={"halt": halt})
    if not packages_of(repository, version):
        raise ConfigError(
            f"no package {version} was added to this repository: `trainer release package` takes"
            " it in"
        )
    return RingPackage(version=version, halt=bool(halt))


@alone
def refresh(folder: Path, keys: Sequence[Path]) -> list[str]:
    """Sign the timestamp anew, and the other online roles where half of their time is over. To be
    run daily.

    Returns: warnings: of offline roles whose time ends.
    """
    repository = Repository.read(folder, find_signers(keys))
    repository.touch_what_ends()
    repository.publish()
    return [
        f"{name} ends on {expires:%Y-%m-%d}: run `trainer release renew` with its offline keys"
        for name in ("root", "targets")
        if (expires := repository.of(name).signed.expires) - now() < WARN_BEFORE
    ]


@alone
def renew(folder: Path, keys: Sequence[Path], replace: str | None = None) -> list[Path]:
    """Sign root and targets anew, and the root of the sticks; with new keys for one role, where one
    was lost or seen by somebody. Returns the root files.

    replace: a role; its new keys lie in the first of `keys`.
    Raises: ConfigError if offline keys are not at hand, or there is no such role.
    """
    if replace is not None and replace not in REPLACED:
        raise ConfigError(f"--replace {replace}: there are {', '.join(REPLACED)}")
    signers = find_signers(keys)
    online, sticks = (Repository.read(place, signers) for place in (folder, folder / USB))
    for repository in (online, sticks):
        repository.touch("root")
    online.touch("targets")
    if replace is not None:
        made = make_role_keys(keys[0], replace)
        signers |= {one.public_key.keyid: one for one in made}
        public = [one.public_key for one in made]
        if replace == "usb":
            for role in ("snapshot", "timestamp"):
                sticks.set_keys(role, public, ROLES["usb"].threshold)
        else:
            online.set_keys(replace, public)
        if replace == "targets":
            sticks.set_keys("targets", public)
    online.publish()
    publish_for_sticks(online, sticks)
    return write_roots(folder)


def publish_for_sticks(online: Repository, sticks: Repository) -> None:
    """Let the sticks' metadata name the bundles and rings of the repository, whose signatures stay
    as they are, for as long as a stick may lie in a drawer.
    """
    make_folder(sticks.folder / "metadata")
    for name in ("targets", "rings"):
        setattr(sticks, name, online.of(name))
        file = f"{online.of(name).signed.version}.{name}.json"
        data = read_bytes(online.folder / "metadata" / file, limit=LIMIT)
        write_atomically(sticks.folder / "metadata" / file, data)
    sticks.untouch("targets", "rings")
    sticks.touch("snapshot")
    sticks.publish(dict.fromkeys(("snapshot", "timestamp"), ROLES["usb"].valid))
