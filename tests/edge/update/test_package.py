"""The package edge-station from a repository: offered, verified by root itself, kept to go back to.
dpkg is the real one, in a root of its own; tests/packaging/booted has the whole way.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import ConfigError, EdgeError, UpdateError
from edge.station.audit import read_audit
from edge.station.store import Store
from edge.update import package_pass
from edge.update.apply import update_once
from edge.update.dpkg import Dpkg
from edge.update.factory import make_source
from edge.update.package_pass import PackagePass
from edge.update.package_request import REQUEST
from edge.update.package_state import (
    PackageState,
    PackageTrial,
    package_folder,
    read_package_state,
    write_package_state,
)
from edge.update.package_step import forget_packages
from edge.update.state import UpdateState, read_update_state, write_update_state
from edge.update_sections import UpdateConfig
from tests.support.offered_package import (
    CODENAME,
    config_of,
    needs_dpkg,
    offered,
    publish,
    step,
    version,
)
from tests.support.package import make_package
from tests.support.released import Released, Server
from trainer.release.acts import add_package, set_ring, set_ring_package
from trainer.release.stick import copy_to_stick

pytestmark = needs_dpkg


def test_it_is_taken_only_if_that_is_asked_for(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    assert offered(station, server) == ""
    publish(released, packages("1.1"))
    said = offered(station, server, package=False)
    assert "not taken by itself (package is false); `sudo edge update package` takes it" in said
    assert not (station.root / REQUEST).exists()
    assert step(station, server, dpkg, package=False)[0] is None
    assert version(dpkg) == "1.0"
    assert "would be taken" in offered(station, server, only_shown=True)
    assert not (station.root / REQUEST).exists()
    assert "is asked to take it" in offered(station, server)
    assert (station.root / REQUEST).exists()
    outcome, told = step(station, server, dpkg)
    assert (outcome, version(dpkg)) == ("installed", "1.1"), told
    assert [row.act for row in read_audit(station.root)][-2:] == [
        "package update",
        "package update installed",
    ]
    assert offered(station, server) == ""
    assert step(station, server, dpkg)[0] is None


def test_by_hand_it_is_taken_whatever_is_set(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    publish(released, packages("1.1"))
    assert step(station, server, dpkg, by_hand=True, package=False)[0] == "installed"


def test_one_that_cannot_be_installed_is_taken_back_and_stays_away(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    publish(released, packages("1.1", fails=True))
    outcome, told = step(station, server, dpkg)
    assert (outcome, version(dpkg)) == ("rolled_back", "1.0"), told
    assert (station.root / "opt/edge/version").read_text() == "1.0"
    assert "it was rolled back here before" in offered(station, server)
    assert step(station, server, dpkg)[0] is None
    assert [one.version for one in forget_packages(station.root)] == ["1.1"]
    assert "is asked to take it" in offered(station, server)


def test_versions_only_go_up_and_a_halted_one_waits(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    publish(released, packages("0.9"))
    assert "versions only go up" in offered(station, server)
    assert step(station, server, dpkg)[0] is None
    publish(released, packages("1.10"))
    set_ring_package(released.repository, "stable", [released.keys], halt=True)
    assert "kept back" in offered(station, server)
    assert step(station, server, dpkg)[0] is None
    assert version(dpkg) == "1.0"
    set_ring_package(released.repository, "stable", [released.keys], halt=False)
    assert step(station, server, dpkg)[0] == "installed"


def test_another_distributions_package_is_not_taken(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    path = packages("1.1")
    publish(released, path.rename(path.with_name(path.name.replace(CODENAME, "jammy"))))
    assert "the repository has none for bookworm" in offered(station, server)
    assert step(station, server, dpkg)[0] is None


def test_what_was_changed_on_the_way_is_refused(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    publish(released, packages("1.1"))
    (target,) = (released.repository / "targets/packages").iterdir()
    whole = target.read_bytes()
    for wrong in (whole[:-1] + b"?", whole + b"?", whole[:-1]):
        target.write_bytes(wrong)
        with pytest.raises(UpdateError):
            step(station, server, dpkg)
    assert version(dpkg) == "1.0"
    target.write_bytes(whole)
    assert step(station, server, dpkg)[0] == "installed"


def test_a_package_that_only_the_ring_names_is_none(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    """Whoever has the online keys can choose among what the offline key signed, no more."""
    publish(released, packages("1.1"))
    newest = released.newest("targets")
    released.forge("targets", lambda signed: signed.targets.clear())
    station_said = pytest.raises(UpdateError, match="cannot be trusted")
    with station_said:
        step(station, server, dpkg)
    assert newest.exists()
    assert version(dpkg) == "1.0"


def test_what_root_installs_does_not_come_from_the_stations_folder(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    publish(released, packages("1.1"))
    assert "is asked" in offered(station, server)
    shutil.rmtree(station.data / "update")
    outcome, _ = step(station, server, dpkg)
    assert outcome == "installed"
    assert not list((station.data / "update").rglob("*.deb"))


def test_a_bundle_on_trial_comes_first_and_a_package_on_trial_too(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    config = config_of(server)
    publish(released, packages("1.1"))
    update_once(station, make_source(station, config), config, lambda _: None)
    assert read_update_state(station).trial is not None, "no station is at work"
    outcome, told = step(station, server, dpkg)
    assert (outcome, version(dpkg)) == (None, "1.0")
    assert "a bundle is on trial" in told[-1]
    write_update_state(station, UpdateState())
    trial = PackageTrial(version="1.1", before="1.0", previous="x.deb")
    write_package_state(station.root, PackageState(trial=trial))
    set_ring(released.repository, "stable", "washer", [released.keys], "1.1.0")
    assert update_once(station, make_source(station, config), config, told.append) == []
    assert "a package is on trial" in told[-1]


def test_killed_before_dpkg_began_it_is_tried_again(
    released: Released,
    station: Store,
    server: Server,
    dpkg: Dpkg,
    packages: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(released, packages("1.1"))

    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Dpkg, "install", kill)
        with pytest.raises(Killed):
            step(station, server, dpkg)
    assert read_package_state(station.root).trial is not None
    assert "on trial" in offered(station, server)
    assert step(station, server, dpkg)[0] == "failed"
    asked = len(server.asked)
    assert step(station, server, dpkg)[0] == "installed"
    assert not [path for path in server.asked[asked:] if path.endswith(".deb")], "it was there"


def test_a_station_that_does_not_judge_with_it_gets_the_one_before(
    released: Released,
    station: Store,
    server: Server,
    dpkg: Dpkg,
    packages: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(released, packages("1.1"))
    slot = station.link("washer", "current")
    said = {"state": "online", "reason": "", "ready": True, "pid": 7, "uptime_s": 1, "ok": 1}
    told = iter([said, {**said, "pid": 8, "bundle": slot, "reason": "engine", "state": "fault"}])
    last: dict[str, object] = {}

    def look(_: Store) -> dict[str, object]:
        last.update(next(told, {}))
        return dict(last)

    monkeypatch.setattr(package_pass, "said_now", look)
    monkeypatch.setattr("edge.update.watch.LOOK_S", 0.0)
    monkeypatch.setattr("edge.update.trial.TROUBLE_S", 0.01)
    outcome, lines = step(station, server, dpkg)
    assert (outcome, version(dpkg)) == ("rolled_back", "1.0"), lines
    assert "reason engine" in lines[-1]


def test_an_installation_that_was_changed_by_hand_could_not_be_gone_back_to(
    released: Released, station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    publish(released, packages("1.1"))
    info = station.root / "var/lib/dpkg/info/edge-station.md5sums"
    info.write_text(f"{'0' * 32}  opt/edge/version\n")
    with pytest.raises(UpdateError, match="is not as its package was"):
        step(station, server, dpkg)
    assert version(dpkg) == "1.0"


def test_only_a_package_of_ours_is_published(
    released: Released, packages: Callable[..., Path], tmp_path: Path
) -> None:
    keys, path = [released.keys], packages("1.1")
    add_package(released.repository, path, keys)
    add_package(released.repository, path, keys)  # again: nothing new
    other = path.with_name(path.name.replace("1.1", "1.2"))
    shutil.copy(path, other)
    with pytest.raises(ConfigError, match="which its name does not say"):
        add_package(released.repository, other, keys)
    wrong = make_package(tmp_path / "x", name="other", version="1.1")
    with pytest.raises(EdgeError, match="is not named"):
        add_package(released.repository, wrong, keys)
    with pytest.raises(ConfigError, match="no package 7 was added"):
        set_ring_package(released.repository, "stable", keys, "7")


def test_a_stick_brings_it_too(
    released: Released, station: Store, dpkg: Dpkg, packages: Callable[..., Path], server: Server
) -> None:
    publish(released, packages("1.1"))
    stick = released.folder / "stick"
    copy_to_stick(released.repository, stick, [released.keys])
    package_folder(station.root).mkdir()
    program = PackagePass(station, UpdateConfig(), lambda _: None, dpkg)
    assert program.run(by_hand=True, usb=stick) == "installed"
    assert version(dpkg) == "1.1"
