"""A station that is backed up and restored is the same station, and judges."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from edge.archive.filters import RecordFilter
from edge.archive.labels import PLACE as LABELS
from edge.backup.restore import restore_backup
from edge.backup.staging import SKIPPED
from edge.install.proven import open_proven_engine
from edge.line.outbox import Outbox
from edge.page.users import Users
from edge.page.vault import open_vault
from edge.report.reports import lot_report
from edge.report.verify import verify_file
from edge.station.audit import PLACE as LINE
from edge.station.audit import read_audit
from edge.station.store import Store
from tests.edge.backup.conftest import PASSWORD
from tests.support.backed_up import backed_up, contents, rows
from tests.support.recorded import fields_of
from tests.support.root import run_edge
from tests.support.station import SERIAL, StationRoot, make_station


def test_everything_comes_back_as_it_was(station: StationRoot, fresh: Path) -> None:
    for name in ("engines/0.plan", "update/fetched/half.part", "update/update.lock", ".half"):
        (station.store.data / name).parent.mkdir(parents=True, exist_ok=True)
        (station.store.data / name).write_text("of this machine, or of this moment")
    path = backed_up(station.root)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    restore_backup(Store(fresh), path)
    before, after = contents(station.root), contents(fresh)
    left_out = ("0.plan", "fetched", "half.part", "update.lock", ".half")
    assert after == {name: said for name, said in before.items() if not name.endswith(left_out)}
    assert any("/parts/" in name for name in after)
    for table in ("records", "audit"):
        old, new = (rows(root / LINE, table) for root in (station.root, fresh))
        assert new[: len(old)] == old
        assert len(new) - len(old) == (table == "audit")
    assert rows(fresh / LABELS, "labels") == rows(station.root / LABELS, "labels")
    assert not list((fresh / "var/lib/edge").glob(".*"))


def test_the_restored_station_judges_with_the_same_engine_and_site(
    station: StationRoot, fresh: Path
) -> None:
    restore_backup(Store(fresh), backed_up(station.root))
    old, new = Store(station.root), Store(fresh)
    new.verify(new.active())
    assert new.token() == old.token()
    assert new.geometry_record("washer", SERIAL) == old.geometry_record("washer", SERIAL)
    mine, theirs = (open_proven_engine(one, one.active()) for one in (new, old))
    assert mine.threshold == theirs.threshold
    assert len(read_audit(fresh)) == len(read_audit(station.root)) + 1  # it was not proven again


def test_key_and_users_are_those_of_the_station(station: StationRoot, fresh: Path) -> None:
    report = station.root.parent / "lot.html"
    report.write_bytes(lot_report(station.store, RecordFilter()))
    restore_backup(Store(fresh), backed_up(station.root))
    assert "as it was signed" in verify_file(report, None, fresh)[0]
    vault = open_vault(fresh)
    try:
        assert Users(vault).check("anna", PASSWORD) is not None
        assert Users(vault).check("anna", "another password") is None
    finally:
        vault.close()


def test_no_number_is_given_out_twice(station: StationRoot, fresh: Path) -> None:
    path = backed_up(station.root)
    outbox = Outbox(station.root / LINE)
    try:
        late = [outbox.commit(fields_of)["seq"] for _ in range(5)]  # the archive has them
    finally:
        outbox.close()
    restored = restore_backup(Store(fresh), path)
    assert restored.after == 30 + SKIPPED
    outbox = Outbox(fresh / LINE)
    try:
        seq = outbox.commit(fields_of)["seq"]
        assert seq == restored.after + 1
        assert seq > max(late)
        assert outbox.counts()["dropped"] == 0
    finally:
        outbox.close()
    row = read_audit(fresh)[-1]
    assert (row.act, row.detail["after"]) == ("restore", restored.after)


def test_a_disk_that_knows_no_modes_is_named(
    station: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    """As on a stick with FAT, which takes a mode and keeps its own."""
    path = tmp_path / "cell.backup"
    words = ("backup", path, "--no-pictures", "--root", station.root)
    answer = run_edge(capsys, monkeypatch, *words)
    assert (answer.code, path.stat().st_mode & 0o777) == (0, 0o600)
    assert "every account" not in answer.out
    fchmod = os.fchmod
    monkeypatch.setattr("edge.files.os.fchmod", lambda file, _: fchmod(file, 0o755))
    answer = run_edge(capsys, monkeypatch, *words)
    assert answer.code == 0
    assert f"every account of this machine may read {path}" in answer.out


def test_without_pictures_the_rest_is_there(station: StationRoot, fresh: Path) -> None:
    restored = restore_backup(Store(fresh), backed_up(station.root, with_pictures=False))
    assert not restored.about.has_pictures
    before = contents(station.root)
    assert contents(fresh) == {
        name: said for name, said in before.items() if not name.startswith("var/lib/edge/parts")
    }


def test_a_reflashed_root_is_replaced(station: StationRoot, tmp_path: Path) -> None:
    """Another bundle was laid into it before it was flashed, and a key that the station does not
    trust.
    """
    path = backed_up(station.root)
    other = make_station(tmp_path / "other", calibrated=False, defects=(1.0, 2.0, 3.0))
    leave_log(other.root / LINE)
    open_vault(other.root).close()  # as the page does when it starts
    restore_backup(other.store, path)
    restored = contents(other.root)
    assert rows(other.root / LINE, "records") == rows(station.root / LINE, "records")
    assert {name: restored.get(name) for name in contents(station.root)} == contents(station.root)
    trusted = [key.keyid for key in other.store.keys.all()]
    assert trusted == [key.keyid for key in station.store.keys.all()]
    assert len(other.store.slots("washer")) == 1


def leave_log(database: Path) -> None:
    """As a power cut leaves it: a write-ahead log with a row that is not in the database yet."""
    log = database.with_name(f"{database.name}-wal")
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE audit SET who = 'somebody'")
        kept = log.read_bytes()
    log.write_bytes(kept)


def test_another_name_gets_a_key_of_its_own(station: StationRoot, fresh: Path) -> None:
    restore_backup(Store(fresh), backed_up(station.root), name="cell8")
    text = (fresh / "etc/edge/station.toml").read_text()
    assert text == (station.root / "etc/edge/station.toml").read_text().replace('"s1"', '"cell8"')
    assert not (fresh / "var/lib/edge/station.key").exists()
    assert read_audit(fresh)[-1].detail["as"] == "cell8"


def test_tar_lists_it(station: StationRoot) -> None:
    path = backed_up(station.root)
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True).stdout
    assert "var/lib/edge/line.sqlite" in listed.splitlines()


def test_what_is_not_in_it_is_said(
    station: StationRoot,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "images"
    elsewhere.mkdir()
    station.configure("folder", elsewhere)
    (station.root / "var/lib/edge/shortcut").symlink_to("/etc/passwd")
    path = tmp_path / "b.backup"
    said = run_edge(capsys, monkeypatch, "backup", path, "--root", station.root)
    assert (said.code, said.err) == (0, "")
    assert "shortcut (a link to /etc/passwd)" in said.out
    assert f"not in it: {elsewhere}" in said.out
    fresh = tmp_path / "again"
    said = run_edge(capsys, monkeypatch, "restore", path, "--root", fresh, "--dry-run")
    assert (said.code, "nothing was changed" in said.out) == (0, True)
    assert not fresh.exists()
    said = run_edge(capsys, monkeypatch, "restore", path, "--root", fresh)
    assert (said.code, said.err) == (0, "")
    assert b"root:" not in path.read_bytes()


def test_records_that_a_full_disk_refused_are_in_it(station: StationRoot, fresh: Path) -> None:
    outbox = Outbox(station.root / LINE)
    try:
        waiting = outbox.commit_failed(fields_of)["seq"]
        path = backed_up(station.root)
    finally:
        outbox.close()
    restore_backup(Store(fresh), path)
    with closing(sqlite3.connect(fresh / LINE)) as connection:
        (text,) = connection.execute(
            "SELECT fields FROM records WHERE seq = ?", (waiting,)
        ).fetchone()
    assert json.loads(text)["seq"] == waiting
