"""What the station's account lays in the way of root, which takes a package: root says a sentence,
installs what is signed and nothing else, and neither waits nor follows.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from edge.clock import boot_time_s
from edge.database import open_database
from edge.errors import ConfigError, EdgeError, StorageError, UpdateError
from edge.station import audit
from edge.station.lock import RUN, locked
from edge.station.store import Store
from edge.update import package_pass
from edge.update.dpkg import Dpkg
from edge.update.factory import make_source
from edge.update.metadata_cache import worked_on
from edge.update.package_pass import what_judges
from edge.update.package_request import REQUEST, leave_request, take_request
from edge.update.package_state import (
    PREVIOUS,
    PackageState,
    PackageTrial,
    package_folder,
    write_package_state,
)
from edge.update.package_step import update_package
from edge.update.state import TrialRecord, read_update_state, update_folder, updating
from edge.update.stick import StickReach
from edge.update.trial import TROUBLE_S, Bounds, Look, Trial
from edge.update.watch import said_now
from edge.update.web import WebReach
from tests.support.offered_package import config_of, needs_dpkg, publish, step, version
from tests.support.released import Released, Server

pytestmark = needs_dpkg
ACCOUNT = 4321
STATUS = Path("run/edge/status.json")


@pytest.fixture
def owned(station: Store, dpkg: Dpkg) -> Store:
    """The station's folders belong to an account, as on a device; the rest is root's."""
    (station.root / REQUEST.parent).mkdir(parents=True)
    own(station)
    return station


def own(station: Store) -> None:
    folders = [station.data, station.root / REQUEST.parent]
    there = [folder for folder in folders if folder.exists()]
    subprocess.run(["chown", "-hR", f"{ACCOUNT}:{ACCOUNT}", *there], check=True)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder of root, which must stay as it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "secret").write_text("root's own")
    before = (folder / "secret").stat()
    yield folder
    for root in ("bare", "root"):
        remove(tmp_path / root)
    assert [path.name for path in folder.iterdir()] == ["secret"]
    after = (folder / "secret").stat()
    assert (after.st_mtime_ns, after.st_uid) == (before.st_mtime_ns, before.st_uid)


def lay(path: Path, kind: str, elsewhere: Path) -> None:
    """Something else than the file that belongs at `path`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        (path / "in/it").mkdir(parents=True)
    elif kind == "closed folder":
        (path / "in/it").mkdir(parents=True)
        path.chmod(0)
    elif kind == "deep folder":
        deep(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        short = Path("/tmp") / f"edge-{os.getpid()}"  # a socket's name has 107 characters at most
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(short))
        shutil.move(short, path)
    elif kind == "huge":
        path.touch()
        os.truncate(path, 256 << 20)
    else:
        targets = {
            "link": elsewhere / "secret",
            "link to a folder": elsewhere,
            "link to nothing": elsewhere / "new",
            "link to itself": path,
        }
        path.symlink_to(targets[kind])


def deep(path: Path) -> None:
    """More folders than Python's stack has room for."""
    here = os.open(path.parent, os.O_RDONLY)
    name = path.name
    for _ in range(1200):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, name = inner, "d"
    os.close(here)


KINDS = [
    "folder",
    "closed folder",
    "deep folder",
    "fifo",
    "socket",
    "huge",
    "link",
    "link to a folder",
    "link to nothing",
    "link to itself",
]


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_lies_in_place_of_the_request_is_gone_afterwards(
    bare: Store, elsewhere: Path, kind: str
) -> None:
    lay(bare.root / REQUEST, kind, elsewhere)
    own(bare)
    take_request(bare)
    assert not os.path.lexists(bare.root / REQUEST)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "deep folder"])
def test_asking_follows_nothing_that_lies_there(bare: Store, elsewhere: Path, kind: str) -> None:
    """Root asks too: `sudo edge update`."""
    lay(bare.root / REQUEST, kind, elsewhere)
    own(bare)
    leave_request(bare)
    assert os.path.lexists(bare.root / REQUEST)


def test_a_request_is_the_accounts_also_where_root_leaves_it(bare: Store) -> None:
    leave_request(bare)
    leave_request(bare)
    assert (bare.root / REQUEST).stat().st_uid == ACCOUNT
    take_request(bare)
    take_request(bare)
    assert not (bare.root / REQUEST).exists()


@pytest.fixture
def bare(tmp_path: Path) -> Store:
    """A root in which only the account's folders are."""
    station = Store(tmp_path / "bare")
    station.data.mkdir(parents=True)
    (station.root / REQUEST.parent).mkdir(parents=True)
    own(station)
    return station


def set_up(station: Store, server: Server) -> None:
    config = config_of(server)
    text = f'[update]\nsource = "tuf"\nurl = "{config.url}"\npackage = true\n'
    (station.root / "etc/edge/station.toml").write_text(text)


def test_a_request_that_is_a_folder_is_no_reason_not_to_take_the_package(
    released: Released,
    owned: Store,
    server: Server,
    dpkg: Dpkg,
    packages: Callable[..., Path],
    elsewhere: Path,
) -> None:
    set_up(owned, server)
    publish(released, packages("1.1"))
    lay(owned.root / REQUEST, "folder", elsewhere)
    told: list[str] = []
    assert update_package(owned.root, told.append) == "installed", told
    assert version(dpkg) == "1.1"
    (owned.root / REQUEST.parent).chmod(0o500)  # the account's own folder, in which it may nothing
    (owned.root / REQUEST).touch()
    assert update_package(owned.root, told.append) is None
    assert any("the request stays" in line for line in told)


def places(station: Store) -> dict[str, Path]:
    """What root reads of the account's, or has removed."""
    product = station.products_folder / "washer"
    slot = station.link("washer", "current") or "none"
    return {
        "status": station.root / STATUS,
        "state": update_folder(station) / "state.json",
        "half": update_folder(station) / ".half",
        "lock": update_folder(station) / "update.lock",
        "active": station.active_file,
        "current": product / "current",
        "manifest": product / "slots" / slot / "manifest.json",
        "products": station.products_folder,
        "records": station.root / audit.PLACE,
        "wal": station.root / f"{audit.PLACE}-wal",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_account_lays_anywhere_is_a_sentence_at_most(
    station: Store, elsewhere: Path, tmp_path: Path, kind: str
) -> None:
    """Each place in turn, while a station seems to be at work."""
    kept = tmp_path / "kept"
    station.data.rename(kept)
    # a folder is walked through where it is removed, and nowhere else
    names = ["half"] if kind == "deep folder" else list(places(station))
    for name in names:
        shutil.copytree(kept, station.data, symlinks=True)
        lay(places(station)[name], kind, elsewhere)
        own(station)
        began_s = time.monotonic()
        with suppress(StorageError), locked(station.data, RUN, "a test"):
            for look in (said_now, read_state, look_at_bundle, tell):
                with suppress(EdgeError):
                    look(station)
        assert time.monotonic() - began_s < audit.BUSY_S, name
        remove(station.data)
        remove(station.root / STATUS)


def read_state(store: Store) -> object:
    with store.acting():
        return read_update_state(store)


def look_at_bundle(store: Store) -> object:
    return what_judges(store, said_now(store) or {})


def tell(store: Store) -> object:
    with updating(store):
        return audit.append_audit(store.root, "package update", {})


def remove(path: Path) -> None:
    """Also what is nested more deeply than Python can walk."""
    subprocess.run(["rm", "-rf", path], check=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"pid": -1},
        {"pid": 0},
        {"pid": True},
        {"pid": 7.0},
        {"pid": "7"},
        {"pid": 10**400},
        {"pid": [7]},
        {"ok": "many"},
        {"ng": -1},
        {"unknown": [1]},
        {"uptime_s": 10**400},
        {"boottime_s": 10**400},
        {"boottime_s": "nan"},
        {"boottime_s": True},
        {"reason": "x" * 65},
        {"reason": 1},
        {"why": {"a": "b"}},
        {"state": "\x1b[2J"},
    ],
    ids=str,
)
def test_a_status_that_no_station_writes_says_nothing(bare: Store, changed: dict[str, Any]) -> None:
    said = {"state": "online", "reason": "", "ready": True, "pid": 7, "ok": 1, "uptime_s": 1.5}
    path = bare.root / STATUS
    with locked(bare.data, RUN, "a test"):
        path.write_text(json.dumps({**said, "boottime_s": boot_time_s()}))
        assert (said_now(bare) or {})["pid"] == 7
        path.write_text(json.dumps({**said, "boottime_s": boot_time_s(), **changed}))
        assert said_now(bare) == {}


def test_what_a_station_says_of_itself_is_remembered_in_few_words() -> None:
    record = TrialRecord(source="x", offer={"product": "a", "version": "1"}, slot="a")
    trial = Trial(record, Bounds(1, 60.0, 1.0))
    long = {"state": "y" * 9000, "why": "z" * 9000, "reason": "engine", "ready": False, "pid": 7}
    trial.look(Look(0.0, {**long, "bundle": "a"}))
    why = trial.look(Look(TROUBLE_S + 1.0, {**long, "bundle": "a"}))
    assert "reason engine" in why
    assert len(why) < 1000


def test_a_trigger_of_the_accounts_does_not_hold_up_an_audit_row(
    station: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "WORK_S", 0.1)
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    with closing(open_database(station.root / audit.PLACE, 1.0)) as connection:
        connection.execute(
            "CREATE TRIGGER slow BEFORE INSERT ON audit"
            f" BEGIN SELECT count(*) FROM ({endless}); END"
        )
    with pytest.raises(StorageError, match=r"interrupted.*Look at its tables and triggers"):
        audit.append_audit(station.root, "package update", {})


GOVERNED = [
    "etc/edge",
    "etc/edge/station.toml",
    "etc/edge/trust",
    "etc/edge/trust/update-online.json",
    "var/lib",
    "var/lib/edge-package",
    "var/lib/edge-package/state.json",
    "var/lib/edge-package/tuf",
]


@pytest.mark.parametrize("place", GOVERNED)
def test_what_governs_root_is_roots_alone(
    released: Released,
    owned: Store,
    server: Server,
    dpkg: Dpkg,
    packages: Callable[..., Path],
    place: str,
) -> None:
    set_up(owned, server)
    publish(released, packages("1.1"))
    write_package_state(owned.root, PackageState())
    (package_folder(owned.root) / "tuf").mkdir()
    path = owned.root / place
    mode = path.stat().st_mode
    for change, back, words in (
        (lambda: os.chown(path, ACCOUNT, 0), lambda: os.chown(path, 0, 0), "belongs to account"),
        (lambda: path.chmod(mode | 0o20), lambda: path.chmod(mode), "by other accounts"),
        (lambda: path.chmod(mode | 0o02), lambda: path.chmod(mode), "by other accounts"),
        (lambda: swap(path), lambda: swap(path), "is a link"),
    ):
        change()
        with pytest.raises(ConfigError, match=f"{place} .*{words}.*decides what root does"):
            update_package(owned.root, lambda _: None, by_hand=True)
        back()
    assert version(dpkg) == "1.0"


def swap(path: Path) -> None:
    """A link in place of what lies there, and back."""
    aside = path.with_name("aside")
    if path.is_symlink():
        path.unlink()
        aside.rename(path)
    else:
        path.rename(aside)
        path.symlink_to(aside.name)


def test_the_accounts_records_tell_root_no_time(
    released: Released, owned: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    """A record of the far future would let every signature be out of date."""
    publish(released, packages("1.1"))
    with closing(open_database(owned.root / audit.PLACE, 1.0)) as connection:
        connection.execute("CREATE TABLE records (seq INTEGER, fields TEXT)")
        far = '{"judged_at": "9000-01-01T00:00:00Z", "clock_synced": true}'
        connection.execute("INSERT INTO records VALUES (1, ?)", (far,))
    with pytest.raises(EdgeError, match="9000"):
        make_source(owned, config_of(server)).find({})
    own(owned)
    assert step(owned, server, dpkg)[0] == "installed"


def test_going_back_replaces_no_other_version_than_the_one_on_trial(
    station: Store, server: Server, dpkg: Dpkg, packages: Callable[..., Path]
) -> None:
    """Somebody has installed a third one meanwhile, by hand."""
    previous = package_folder(station.root) / PREVIOUS
    previous.mkdir(parents=True)
    shutil.copy(packages("0.9"), previous / "before.deb")
    trial = PackageTrial(
        version="0.9.5", before="0.9", previous="before.deb", unhealthy="it does not judge"
    )
    write_package_state(station.root, PackageState(trial=trial))
    outcome, told = step(station, server, dpkg)
    assert (outcome, version(dpkg)) == ("rolled_back", "1.0"), told
    assert "somebody installed another one" in told[-1]


def test_a_process_of_another_boot_is_another_one_whatever_its_number(
    station: Store,
    server: Server,
    dpkg: Dpkg,
    packages: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slot = station.link("washer", "current")
    judges = what_judges(station, {})
    said = {"state": "online", "reason": "", "ready": True, "pid": 7, "uptime_s": 1, "ok": 0}
    counted = iter(range(0, 1000, 20))
    monkeypatch.setattr(
        package_pass, "said_now", lambda _: {**said, "bundle": slot, "ok": next(counted)}
    )
    monkeypatch.setattr("edge.update.watch.LOOK_S", 0.0)
    trial = PackageTrial(
        version="1.0", before="0.9", previous="x", is_installed=True, pid=7, judges=judges
    )
    write_package_state(
        station.root, PackageState(trial=trial.model_copy(update={"boot": "another"}))
    )
    assert step(station, server, dpkg)[0] == "installed"


def test_what_a_killed_call_left_is_removed(owned: Store, server: Server, dpkg: Dpkg) -> None:
    set_up(owned, server)
    halves = [package_folder(owned.root) / name for name in (".state.json.x", "previous/.packed-x")]
    for half in halves:
        half.mkdir(parents=True)
    assert update_package(owned.root, lambda _: None) is None
    assert not any(half.exists() for half in halves)


def test_a_disk_without_room_for_all_copies_takes_no_package(
    released: Released,
    station: Store,
    server: Server,
    dpkg: Dpkg,
    packages: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = packages("1.1")
    publish(released, path)
    size = path.stat().st_size
    free = package_pass.SPARE_BYTES + 3 * size + 2 * dpkg.installed_bytes()
    usage = shutil.disk_usage(station.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free - 1))
    with pytest.raises(StorageError, match="make room"):
        step(station, server, dpkg)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    assert step(station, server, dpkg)[0] == "installed"


def test_a_pipe_in_place_of_the_authoritys_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match="a named pipe"):
        WebReach("https://localhost", tmp_path / "ca.pem")


@pytest.mark.parametrize("place", ["a", "a/timestamp.json", "a/root_history"])
def test_root_copies_nothing_of_its_own_to_where_the_account_reads(
    bare: Store, elsewhere: Path, place: str
) -> None:
    """`sudo edge update` may read all, and what it keeps of a repository is the account's."""
    (elsewhere / "secret").chmod(0o600)
    folder = update_folder(bare) / "tuf"
    (folder / "a").mkdir(parents=True)
    (folder / "a/snapshot.json").write_text("{}")
    (folder / "current").symlink_to("a")
    lay(folder / place, "link" if place.endswith(".json") else "link to a folder", elsewhere)
    if place != "a":
        lay(folder / "a/huge", "huge", elsewhere)
    own(bare)
    with bare.inside(), worked_on(folder) as cache:
        copied = [path for path in cache.rglob("*") if not path.is_symlink()]
        assert "root's own" not in [path.read_text() for path in copied if path.is_file()]
        assert [path.name for path in copied] == ([] if place == "a" else ["snapshot.json"])


def test_a_link_on_a_stick_is_no_file_of_it(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick/x").symlink_to(elsewhere / "secret")
    reach = StickReach(tmp_path / "stick")
    with pytest.raises(UpdateError, match="a link where a file is needed"):
        reach.copy("x", tmp_path / "copy", 100)
    with pytest.raises(UpdateError, match="a link where a file is needed"):
        reach.read("x", 100)
