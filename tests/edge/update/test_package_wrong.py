"""Packages that a station must not take: signed by somebody else, or other than they are called.
dpkg is the real one, in a root of its own, and is not asked to install any of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import UpdateError
from edge.station.store import Store
from edge.update.dpkg import Dpkg
from edge.update.package_state import FETCHED, PREVIOUS, package_folder, read_package_state
from tests.support.offered_package import CODENAME, needs_dpkg, publish, step, version
from tests.support.package import lay_python, make_package
from tests.support.released import Released, Server, serving
from trainer.release.acts import begin, set_ring_package
from trainer.release.keys import find_signers
from trainer.release.repository import Repository

pytestmark = needs_dpkg


@pytest.fixture
def only_looks(dpkg: Dpkg, monkeypatch: pytest.MonkeyPatch) -> Dpkg:
    """A dpkg that fails the test where it is asked to install something."""

    def install(*_: object, **__: object) -> str:
        raise AssertionError("it was given to dpkg")

    monkeypatch.setattr(Dpkg, "install", install)
    return dpkg


def test_a_repository_of_somebody_else_brings_nothing(
    station: Store, only_looks: Dpkg, packages: Callable[..., Path], tmp_path: Path
) -> None:
    """Whole, with a ring and keys of its own."""
    foreign = Released(tmp_path / "foreign")
    begin(foreign.repository, foreign.keys)
    publish(foreign, packages("1.1"))
    with serving(foreign.repository) as server, pytest.raises(UpdateError, match="cannot be trust"):
        step(station, server, only_looks, by_hand=True)
    assert version(only_looks) == "1.0"
    assert not (package_folder(station.root) / FETCHED).exists()


@pytest.mark.parametrize("signer", ["foreign", "snapshot-1", "timestamp-1"])
def test_a_package_that_another_key_signed_is_not_fetched(
    released: Released,
    station: Store,
    server: Server,
    only_looks: Dpkg,
    packages: Callable[..., Path],
    tmp_path: Path,
    signer: str,
) -> None:
    """By a key that nobody trusts, or one of those that lie on the server."""
    publish(released, packages("1.1"))
    if signer == "foreign":
        begin(tmp_path / "foreign", tmp_path / "foreign-keys")
        key = next((tmp_path / "foreign-keys").rglob("targets-1.key"))
        shutil.copy(key, released.keys / "foreign.key")
    released.forge("targets", lambda _: None, signed_by=(signer,))
    with pytest.raises(UpdateError, match="cannot be trusted: UnsignedMetadataError"):
        step(station, server, only_looks)
    assert not (package_folder(station.root) / FETCHED).exists()


WRONG = {
    "name": ({"name": "other"}, "is the package other, not edge-station"),
    "processor": ({"architecture": "s390x"}, "is for s390x"),
    "higher version": ({"version": "1.2"}, "holds version 1.2"),
    "older version": ({"version": "0.9"}, "holds version 0.9"),
    "Python": (
        {"needs": "python3 (>= 3.99), python3 (<< 3.100)"},
        "is for Python 3.99, bookworm has Python 3.11",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_package_whose_fields_say_something_else_than_its_path_is_refused(
    released: Released, station: Store, server: Server, only_looks: Dpkg, tmp_path: Path, what: str
) -> None:
    """Signed by the right keys all the same, as by a release that went wrong."""
    about, words = WRONG[what]
    here = only_looks.processor()
    made = make_package(tmp_path / "x", **{"version": "1.1", "architecture": here, **about})
    refused(released, station, server, only_looks, made, words)


def test_what_is_no_package_is_refused(
    released: Released, station: Store, server: Server, only_looks: Dpkg, tmp_path: Path
) -> None:
    made = tmp_path / "text.deb"
    made.write_text("no package")
    refused(released, station, server, only_looks, made, "is no Debian package")


def refused(
    released: Released, station: Store, server: Server, dpkg: Dpkg, made: Path, words: str
) -> None:
    """Published as version 1.1 of this system; decided once, and nothing is left of it."""
    status = station.root / "var/lib/dpkg/status"
    before = status.read_text()
    lay_python(station.root, "3.11.2-1+b1")
    status.write_text(f"{status.read_text()}\n{before}")
    repository = Repository.read(released.repository, find_signers([released.keys]))
    path = f"packages/edge-station_1.1_{CODENAME}_{dpkg.processor()}.deb"
    repository.add_target(path, made)
    repository.publish()
    set_ring_package(released.repository, "stable", [released.keys], "1.1")
    outcome, told = step(station, server, dpkg)
    assert outcome == "refused", told
    assert words in told[-1]
    assert version(dpkg) == "1.0"
    assert [one.outcome for one in read_package_state(station.root).known] == ["refused"]
    outcome, told = step(station, server, dpkg)
    assert outcome is None
    assert "it was refused here before" in told[-1]
    left = package_folder(station.root)
    assert not (left / FETCHED).exists()
    assert not (left / PREVIOUS).exists()
