"""`edge install --rootfs`: a root file system made ready before it is flashed or booted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edge.bundle.archive import open_bundle
from edge.bundle.key_files import PublicKey, read_public_key
from edge.config import PLACE, name_station, require_nameable
from edge.errors import ConfigError
from edge.files import link_atomically, make_folder
from edge.install.install import install_bundle
from edge.provision.architecture import architecture
from edge.provision.chroot import check_package, install_package
from edge.provision.package import PACKAGE
from edge.station.store import Store
from edge.station.trust import trust as trust_key
from edge.units import PACKAGED_UNITS, UNITS

SERVICE = "edge.service"
INSTALLED = Path("opt/edge/bin/edge")  # what the package brings


def check_rootfs(
    rootfs: Path, package: Path | None, bundle: Path, trust: Sequence[Path], station: str | None
) -> list[str]:
    """Every check of `prepare_rootfs` that can be made without changing anything; returns what it
    would do.

    Raises: as `prepare_rootfs`.
    """
    if rootfs.resolve() == Path("/"):
        raise ConfigError("--rootfs / is the running system: leave --rootfs out")
    if architecture(rootfs) is None:
        raise ConfigError(
            f"--rootfs {rootfs} holds no system: name a root file system, such as"
            " Linux_for_Tegra/rootfs"
        )
    if station is not None:
        require_nameable(rootfs, station)
    store, keys = Store(rootfs), [read_public_key(path) for path in trust]
    known = {key.keyid for key in keys}
    others = [key for key in store.keys.all() if key.keyid not in known]
    with open_bundle(bundle, [*keys, *others]) as opened:
        opened.check_members()
        what = f"{opened.manifest.product} {opened.manifest.version}"
    plan = [f"{bundle.name}: {what}, signed by a key that this root trusts or will trust"]
    if package is not None:
        plan.append(f"{package.name}: {check_package(rootfs, package)} fits this root")
    elif not (rootfs / INSTALLED).is_symlink() and not (rootfs / INSTALLED).exists():
        plan.append(f"{rootfs} has no {PACKAGE}: give --package, or install it after the boot")
    return plan


def prepare_rootfs(
    rootfs: Path,
    package: Path | None,
    bundle: Path,
    trust: Sequence[Path],
    station: str | None,
    say: Callable[[str], object] = lambda _: None,
    allow_downgrade: bool = False,
) -> None:
    """Install the package, trust the keys, install the bundle, name the station and enable its
    service under `rootfs`.

    Nothing is changed unless every check passes; each step is whole or not made, and the same call
    goes on after one that was interrupted. In a root of another processor the engine is pending:
    the first `edge run` on the board builds and proves it.

    Args:
        rootfs: Linux_for_Tegra/rootfs, or any root of a Debian or Ubuntu system that is not
            running.
        package: the edge-station .deb; None: it is installed already, or will be later.
        trust: .pub files. station: its name; None: as station.toml has it.
        say: is given a line per step. allow_downgrade: as in `install_bundle`.
    Raises: ConfigError if `rootfs` is no such root, the package is for another one, or this is not
        root; MissingDependency if qemu-user is needed and absent; BundleError, StorageError as
        `install_bundle`.
    """
    for line in check_rootfs(rootfs, package, bundle, trust, station):
        say(line)
    if package is not None:
        install_package(rootfs, package)
        say(f"installed {package.name} under {rootfs}")
    store = Store(rootfs)
    for path in trust:
        say(f"{rootfs} trusts key {_trusted(store, path).keyid}")
    for line in install_bundle(bundle, rootfs, allow_downgrade=allow_downgrade).lines():
        say(line)
    if station is not None:
        with store.inside(PLACE.parent):
            name_station(rootfs, station)
        say(f"{rootfs / PLACE}: this station is named {station}")
    if _starts_with_the_system(store):
        say(f"{SERVICE} starts with the system")


def _starts_with_the_system(store: Store) -> bool:
    """Enable the package's service, as `systemctl enable` does: nobody will be there to do it.
    False where the package is not installed.
    """
    unit, wants = PACKAGED_UNITS / SERVICE, store.root / UNITS / "multi-user.target.wants"
    if not (store.root / unit).is_file():
        return False
    with store.inside(UNITS):
        make_folder(wants)
        link_atomically(wants / SERVICE, f"/{unit}")
    return True


def _trusted(store: Store, path: Path) -> PublicKey:
    """Trust the key, if it is not trusted already: what it was limited to stays."""
    key = read_public_key(path)
    return next((one for one in store.keys.all() if one.keyid == key.keyid), None) or trust_key(
        store, path
    )
