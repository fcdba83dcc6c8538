"""Bundles from a repository over the network and from a stick; a server that lies is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BusyError, ConfigError, EdgeError, UpdateError
from edge.station.store import Store
from edge.update import apply as apply_module
from edge.update import clock as clock_module
from edge.update import web as web_module
from edge.update.apply import update_once
from edge.update.factory import make_source
from edge.update.source import Offer
from edge.update.state import update_folder
from edge.update_sections import UpdateConfig
from tests.support.released import (
    Released,
    Server,
    dripping,
    endless,
    ends,
    failing,
    sending,
    serving,
)
from tests.support.root import snapshot
from trainer.release.acts import refresh, renew, set_ring
from trainer.release.stick import copy_to_stick

ACCOUNT = 65534  # nobody
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
TIMESTAMP = ("timestamp-1",)


def find(store: Store, server: Server, **more: Any) -> list[Offer]:
    config = UpdateConfig(source="tuf", url=server.url, **more)
    return list(make_source(store, config).find({}))


def update(store: Store, server: Server) -> list[str | None]:
    config = UpdateConfig(source="tuf", url=server.url)
    decided = update_once(store, make_source(store, config), config, lambda _: None)
    return [one.outcome for one in decided]


def current(store: Store) -> str:
    return store.active().manifest.version


def test_a_station_takes_what_its_ring_says(
    released: Released, station: Store, server: Server
) -> None:
    (offer,) = find(station, server)
    bundle = released.folder / "washer-1.1.0.bundle"
    assert (offer.product, offer.version, offer.size) == ("washer", "1.1.0", bundle.stat().st_size)
    assert update(station, server) == [None]  # nothing runs: on trial
    assert current(station) == "1.1.0"
    with pytest.raises(UpdateError, match="has no ring canary"):
        find(station, server, ring="canary")


def test_a_halted_ring_keeps_its_bundle_back(
    released: Released, station: Store, server: Server
) -> None:
    set_ring(released.repository, "stable", "washer", [released.keys], halt=True)
    assert find(station, server)[0].halt
    assert update(station, server) == []
    set_ring(released.repository, "stable", "washer", [released.keys], halt=False)
    assert update(station, server) == [None]


# --- a server that lies ---


def older_timestamp(released: Released) -> None:
    """Rollback: what was published before, with every signature right."""
    released.newest("timestamp").write_bytes((released.folder / "old.json").read_bytes())


def older_snapshot(released: Released) -> None:
    def change(signed: Any) -> None:
        signed.version += 1
        signed.snapshot_meta.version -= 1

    released.forge("timestamp", change, TIMESTAMP)


def older_targets(released: Released) -> None:
    _new_snapshot(released, lambda meta: setattr(meta["targets.json"], "version", 1))


def mixed_targets(released: Released) -> None:
    """The snapshot names a version, the file under its name is of another."""
    version = int(released.newest("targets").name.partition(".")[0])
    _new_snapshot(released, lambda meta: setattr(meta["targets.json"], "version", version + 1))
    released.newest("targets").rename(released.metadata / f"{version + 1}.targets.json")


def without_rings(released: Released) -> None:
    _new_snapshot(released, lambda meta: meta.pop("rings.json"))


def _new_snapshot(released: Released, change: Callable[[Any], object]) -> None:
    version = int(released.newest("snapshot").name.partition(".")[0]) + 1

    def of_snapshot(signed: Any) -> None:
        signed.version = version
        change(signed.meta)

    def of_timestamp(signed: Any) -> None:
        signed.version += 1
        signed.snapshot_meta.version = version

    place = released.metadata / f"{version}.snapshot.json"
    released.forge("snapshot", of_snapshot, ("snapshot-1",), place)
    released.forge("timestamp", of_timestamp, TIMESTAMP)


def expired(role: str, *signers: str) -> Callable[[Released], None]:
    """Freeze: right in everything but its time."""

    def lie(released: Released) -> None:
        def change(signed: Any) -> None:
            signed.version += 1
            signed.expires = LONG_AGO

        released.forge(role, change, signers)

    return lie


def next_root(*signers: str, version: int = 2) -> Callable[[Released], None]:
    def lie(released: Released) -> None:
        def change(signed: Any) -> None:
            signed.version = version

        released.forge("root", change, signers, released.metadata / "2.root.json")

    return lie


def by_other_keys(role: str) -> Callable[[Released], None]:
    return lambda released: released.forge(role, lambda _: None, ("usb-1",))


def changed_unsigned(role: str) -> Callable[[Released], None]:
    def lie(released: Released) -> None:
        released.forge(role, ends(datetime(2040, 1, 1, tzinfo=timezone.utc)))

    return lie


def usb_root(released: Released) -> None:
    """The metadata for sticks, which is good for months, in place of the online one."""
    for path in (released.repository / "usb/metadata").iterdir():
        if "root" not in path.name:
            (released.metadata / path.name).write_bytes(path.read_bytes())


def garbage(role: str, data: bytes) -> Callable[[Released], None]:
    return lambda released: released.newest(role).write_bytes(data) and None


def a_ring_of_strange_bundles(released: Released) -> None:
    """Whoever has the rings key names a bundle of his own, and signs it as a target too."""
    _new_ring(released, "9.0.0")


def a_ring_of_another_digest(released: Released) -> None:
    """A bundle that was signed, under a digest that was not."""
    _new_ring(released, "1.1.0")


def _new_ring(released: Released, version: str) -> None:
    from edge.update.ring import RingEntry, RingFile
    from trainer.release.keys import find_signers
    from trainer.release.repository import Repository

    online = Repository.read(released.repository, find_signers([released.keys / "online"]))
    strange = released.folder / "strange"
    strange.write_bytes(b"x")
    path = f"bundles/washer-{version}.bundle"
    entry = RingEntry(version=version, bundle=path, sha256="0" * 64)
    online.set_ring(RingFile(ring="stable", products={"washer": entry}))
    online.add_target("bundles/washer-9.0.0.bundle", strange)
    online.rings.signed.targets |= online.targets.signed.targets
    online.targets.signed.targets.pop("bundles/washer-9.0.0.bundle")
    online.untouch("targets")
    online.publish()


LIES: dict[str, Callable[[Released], None]] = {
    "rollback of the timestamp": older_timestamp,
    "rollback of the snapshot": older_snapshot,
    "rollback of the targets": older_targets,
    "mix and match": mixed_targets,
    "snapshot without a role": without_rings,
    "expired timestamp": expired("timestamp", *TIMESTAMP),
    "unsigned timestamp": changed_unsigned("timestamp"),
    "timestamp of other keys": by_other_keys("timestamp"),
    "root below its threshold": next_root("root-1"),
    "root of other keys": next_root("usb-root-1", "usb-root-2"),
    "root of a version that is skipped": next_root("root-1", "root-2", version=3),
    "metadata of sticks": usb_root,
    "no JSON": garbage("timestamp", b"<html>"),
    "nothing": garbage("timestamp", b""),
    "bundles signed by the rings key": a_ring_of_strange_bundles,
    "a digest of the rings key": a_ring_of_another_digest,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_lie_is_refused_and_the_old_bundle_stays(
    released: Released, station: Store, server: Server, lie: Callable[[Released], None]
) -> None:
    (released.folder / "old.json").write_bytes(released.newest("timestamp").read_bytes())
    refresh(released.repository, [released.keys])
    find(station, server)  # what is newest is seen
    honest = {path: path.read_bytes() for path in released.metadata.iterdir()}
    lie(released)
    before = snapshot(station.data / "products")
    with pytest.raises(UpdateError) as refusal:
        update(station, server)
    assert "\n" not in str(refusal.value)
    assert snapshot(station.data / "products") == before
    assert current(station) == "1.0.0"
    for path in released.metadata.iterdir():
        path.unlink()
    for path, data in honest.items():
        path.write_bytes(data)
    released.release("1.2.0")  # past the versions that the liar signed
    set_ring(released.repository, "stable", "washer", [released.keys], halt=False)
    assert update(station, server) == [None]  # an honest server is heard again
    assert current(station) == "1.2.0"


@pytest.mark.parametrize(
    ("role", "signers"),
    [
        ("snapshot", ("snapshot-1",)),
        ("targets", ("targets-1",)),
        ("rings", ("rings-1",)),
        ("root", ("root-1", "root-3")),
    ],
)
def test_every_role_expires(
    released: Released, station: Store, server: Server, role: str, signers: tuple[str, ...]
) -> None:
    to = released.metadata / "2.root.json" if role == "root" else None

    def change(signed: Any) -> None:
        signed.expires = LONG_AGO
        signed.version += role == "root"

    released.forge(role, change, signers, to)
    with pytest.raises(UpdateError, match=r"expired.*Renew it with `trainer release refresh`"):
        find(station, server)


@pytest.mark.parametrize(
    ("end", "answer", "words"),
    [
        ("timestamp.json", endless, "more than 16384 bytes"),
        ("timestamp.json", failing(500), "the server answers 500"),
        ("timestamp.json", failing(404), "has no metadata/timestamp.json"),
        ("timestamp.json", dripping, "comes too slowly"),
        ("2.root.json", endless, "more than 512000 bytes"),
        (".stable.json", endless, "more than"),
        (".stable.json", sending(b"{}"), "cannot be trusted"),
    ],
)
def test_endless_slow_and_failing_answers_end(
    station: Store, server: Server, monkeypatch, end: str, answer: Any, words: str
) -> None:
    if answer is dripping:
        monkeypatch.setattr(web_module, "SMALL_S", 3.0)
    server.answers[end] = answer
    with pytest.raises(UpdateError, match=words):
        find(station, server)


def test_a_server_that_is_not_there_is_one_sentence(station: Store) -> None:
    with pytest.raises(UpdateError, match=r"cannot be reached: .*refused"):
        find(station, Server(Path("/"), port=9))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endless, "more than the"),
        (sending(b"short"), "ended after 5 of"),
        (sending(b"short", 10_000_000), "ended after 5 of|cannot be reached"),
        (failing(404), "has no targets/bundles"),
        (dripping, "comes too slowly"),
    ],
)
def test_a_bundle_that_is_not_as_signed_is_not_taken(
    station: Store, server: Server, monkeypatch, answer: Any, words: str
) -> None:
    if answer is dripping:
        monkeypatch.setattr(web_module, "SMALL_S", 3.0)
        monkeypatch.setattr(web_module, "SLOWEST", 1 << 40)
    server.answers["washer-1.1.0.bundle"] = answer
    config = UpdateConfig(source="tuf", url=server.url)
    (decided,) = update_once(station, make_source(station, config), config, lambda _: None)
    assert decided.outcome == "failed"
    assert any(word in decided.why for word in words.split("|"))
    assert current(station) == "1.0.0"
    server.answers.clear()
    assert update(station, server) == [None]


def test_changed_bytes_are_found_by_the_signed_digest(
    released: Released, station: Store, server: Server
) -> None:
    (bundle,) = released.repository.glob("targets/bundles/*1.1.0.bundle")
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    server.answers["1.1.0.bundle"] = sending(bytes(data))
    assert update(station, server) == ["failed"]
    assert not list((update_folder(station) / "fetched").iterdir())  # begun anew next time


def test_an_interrupted_bundle_goes_on_where_it_ended(
    released: Released, station: Store, server: Server
) -> None:
    (bundle,) = released.repository.glob("targets/bundles/*1.1.0.bundle")
    data, ranges = bundle.read_bytes(), []

    def rest(handler: Any) -> None:
        asked = handler.headers["Range"]
        ranges.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - first))
        handler.end_headers()
        handler.wfile.write(data[first:])

    server.answers["1.1.0.bundle"] = sending(data[:300_000])
    assert update(station, server) == ["failed"]
    server.answers["1.1.0.bundle"] = rest
    assert update(station, server) == [None]
    assert ranges == ["bytes=300000-"]


def test_a_whole_bundle_that_could_not_be_installed_is_not_fetched_again(
    station: Store, server: Server, monkeypatch
) -> None:
    def busy(*_: object) -> None:
        raise BusyError("another command changes this root")

    with monkeypatch.context() as patch:
        patch.setattr(apply_module, "install_bundle", busy)
        assert update(station, server) == ["failed"]
    assert update(station, server) == [None]
    assert current(station) == "1.1.0"
    assert sum(path.endswith("1.1.0.bundle") for path in server.asked) == 1


# --- keys that were stolen or lost ---


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "rings", "targets", "root"])
def test_keys_are_replaced_and_the_station_follows(
    released: Released, station: Store, server: Server, role: str
) -> None:
    find(station, server)
    (released.folder / "old.json").write_bytes(released.newest("timestamp").read_bytes())
    renew(released.repository, [released.keys], role)
    released.release("1.2.0")
    assert [offer.version for offer in find(station, server)] == ["1.2.0"]
    older_timestamp(released)
    with pytest.raises(UpdateError):
        find(station, server)


def test_a_fast_forward_ends_with_new_keys(
    released: Released, station: Store, server: Server
) -> None:
    """Whoever has the timestamp key can make a version that no honest one will reach, and a time in
    the far future: new keys void both.
    """

    def change(signed: Any) -> None:
        signed.version = 2**31
        signed.expires = datetime(2090, 1, 1, tzinfo=timezone.utc)
        signed.unrecognized_fields[clock_module.MADE_AT] = "2080-01-01T00:00:00Z"

    honest = released.newest("timestamp").read_bytes()
    released.forge("timestamp", change, TIMESTAMP)
    find(station, server)
    with pytest.raises(UpdateError, match="expired"):  # by that clock, everything is over
        find(station, server)
    released.newest("timestamp").write_bytes(honest)
    refresh(released.repository, [released.keys])
    with pytest.raises(UpdateError):
        find(station, server)
    renew(released.repository, [released.keys], "timestamp")
    assert [offer.version for offer in find(station, server)] == ["1.1.0"]


# --- what the station keeps ---


def damage_nothing(cache: Path) -> None:
    pass


def damage_files(cache: Path) -> None:
    for path in cache.rglob("*.json"):
        if not path.is_symlink():
            path.write_bytes(b"")


def damage_with_folders(cache: Path) -> None:
    (cache / "root.json").unlink()
    (cache / "root.json").mkdir()


def damage_all(cache: Path) -> None:
    import shutil

    shutil.rmtree(cache)


@pytest.mark.parametrize("damage", [damage_nothing, damage_files, damage_with_folders, damage_all])
def test_a_damaged_cache_begins_again_with_the_root_and_opens_no_way_back(
    released: Released, station: Store, server: Server, damage: Callable[[Path], None]
) -> None:
    old = released.newest("timestamp").read_bytes()
    refresh(released.repository, [released.keys])
    find(station, server)
    folder = update_folder(station) / "tuf"
    damage((folder / "current").resolve())
    new = released.newest("timestamp").read_bytes()
    released.newest("timestamp").write_bytes(old)
    with pytest.raises(UpdateError):
        find(station, server)
    released.newest("timestamp").write_bytes(new)
    assert [offer.version for offer in find(station, server)] == ["1.1.0"]


def test_without_a_trusted_root_nothing_is_asked(
    released: Released, station: Store, server: Server
) -> None:
    (station.trust_folder / "update-online.json").unlink()
    with pytest.raises(ConfigError, match="run `edge update trust"):
        find(station, server)
    assert server.asked == []


# --- sticks ---


def from_stick(store: Store, stick: Path) -> list[Offer]:
    return list(make_source(store, UpdateConfig(), stick).find({}))


def test_a_stick_brings_what_the_rings_name_and_is_good_for_months(
    released: Released, station: Store, tmp_path: Path
) -> None:
    until = copy_to_stick(released.repository, tmp_path / "stick", [released.keys])
    assert until - datetime.now(timezone.utc) > timedelta(days=150)
    source = make_source(station, UpdateConfig(), tmp_path / "stick")
    decided = update_once(station, source, UpdateConfig(), lambda _: None)
    assert [one.outcome for one in decided] == [None]
    assert current(station) == "1.1.0"
    released.release("1.2.0")
    copy_to_stick(released.repository, tmp_path / "stick", [released.keys])
    assert [offer.version for offer in from_stick(station, tmp_path / "stick")] == ["1.2.0"]


def whole_or_refused(store: Store, stick: Path, folder: Path) -> bytes | None:
    """The bundle that the stick gives; None where it is refused with a sentence."""
    folder.mkdir(exist_ok=True)
    source = make_source(store, UpdateConfig(), stick)
    try:
        (offer,) = source.find({})
        return source.fetch(offer, folder).read_bytes()
    except EdgeError as error:
        return None if str(error) else b""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another account")
def test_what_root_does_belongs_to_the_account_of_the_station(
    released: Released, station: Store, tmp_path: Path
) -> None:
    copy_to_stick(released.repository, tmp_path / "stick", [released.keys])
    for path in (station.data, *station.data.rglob("*")):
        os.lchown(path, ACCOUNT, ACCOUNT)
    source = make_source(station, UpdateConfig(), tmp_path / "stick")
    decided = update_once(station, source, UpdateConfig(), lambda _: None)
    assert [one.outcome for one in decided] == [None]
    assert os.geteuid() == 0
    owners = {path.lstat().st_uid for path in (station.data, *station.data.rglob("*"))}
    assert owners == {ACCOUNT}


def test_half_a_stick_at_any_file_is_refused_or_whole(
    released: Released, station: Store, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    copy_to_stick(released.repository, stick, [released.keys])
    files = [path for path in stick.rglob("*") if path.is_file()]
    for path in files:
        data = path.read_bytes()
        for half in (data[: len(data) // 2], None):
            path.unlink() if half is None else path.write_bytes(half)
            fetched = whole_or_refused(station, stick, tmp_path / "fetched")
            assert fetched in (None, (released.folder / "washer-1.1.0.bundle").read_bytes())
        path.write_bytes(data)
    assert [offer.version for offer in from_stick(station, stick)] == ["1.1.0"]


def test_a_stick_of_the_online_repository_is_refused_and_the_other_way_round(
    released: Released, station: Store
) -> None:
    with pytest.raises(UpdateError, match="cannot be trusted"):
        from_stick(station, released.repository)
    with (
        serving(released.repository / "usb") as server,
        pytest.raises(UpdateError, match="cannot be trusted"),
    ):
        find(station, server)


def test_a_path_out_of_the_stick_is_refused(tmp_path: Path) -> None:
    from edge.update.stick import StickReach

    (tmp_path / "secret").write_text("x")
    (tmp_path / "stick").mkdir()
    for path in ("../secret", "/etc/passwd", "a\\..\\b"):
        with pytest.raises(UpdateError, match="no path of a repository"):
            StickReach(tmp_path / "stick").read(path, 10)
