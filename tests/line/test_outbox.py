"""On disk before on the wire: numbers that are never given out twice, and a full disk that is really full."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from edge.errors import StorageError
from edge.line.outbox import Outbox


def fields(seq: int) -> dict[str, Any]:
    return {"seq": seq, "part": f"P{seq}"}


def fill_disk(outbox: Outbox) -> None:
    """Let SQLite answer SQLITE_FULL, as on a full disk: the file may not grow by another page."""
    connection = outbox._connection()
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}").fetchall()


def test_numbers_are_contiguous_and_survive_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        outbox = Outbox(tmp_path / "line.sqlite")
        for _ in range(4):
            outbox.commit(fields)
        outbox.close()
    reader = sqlite3.connect(tmp_path / "line.sqlite")
    assert [row[0] for row in reader.execute("SELECT seq FROM records ORDER BY seq")] == list(range(1, 13))
    reader.close()


def test_a_commit_is_synchronous_full_in_wal(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    assert outbox._connection().execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._connection().execute("PRAGMA journal_mode").fetchone() == ("wal",)
    outbox.close()


def test_records_leave_in_order_and_only_those_in_flight_are_replays(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    for _ in range(5):
        outbox.commit(fields)
    assert [(one.seq, one.replay) for one in outbox.unsent(0, 3)] == [(1, False), (2, False), (3, False)]
    outbox.mark_sent([1, 3])
    assert [(one.seq, one.replay) for one in outbox.unsent(0, 2)] == [(2, True), (4, False)]
    assert outbox.unsent(5, 9) == []
    outbox.close()
    again = Outbox(tmp_path / "line.sqlite")          # 2 and 4 were in flight when the process ended
    waiting = again.unsent(0, 9)
    assert [(one.seq, one.replay, one.fields["part"]) for one in waiting] == [
        (2, True, "P2"), (4, True, "P4"), (5, False, "P5"),
    ]  # fmt: skip
    again.mark_sent([2, 4, 5])
    assert again.unsent(0, 9) == []
    assert again.counts() == {"seq": 5, "waiting": 0, "dropped": 0}
    again.close()


def test_a_probe_commits_what_waited_for_the_disk(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    fill_disk(outbox)
    with pytest.raises(StorageError, match="full"):
        outbox.commit(lambda seq: {**fields(seq), "ballast": "x" * 100_000})
    outbox.commit_failed(lambda seq: {**fields(seq), "ballast": "x" * 100_000})
    with pytest.raises(StorageError, match="full"):
        outbox.probe()
    outbox._connection().execute("PRAGMA max_page_count = 1000000").fetchall()
    outbox.probe()
    assert [one.seq for one in outbox.unsent(0, 9)] == [1]
    outbox.close()


def test_a_full_disk_is_a_storage_error_and_its_number_is_never_reused(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.commit(fields)
    fill_disk(outbox)
    with pytest.raises(StorageError, match=r"full.*Free space"):
        outbox.commit(lambda seq: {**fields(seq), "ballast": "x" * 100_000})
    last = outbox.counts()["seq"]
    told = outbox.commit_failed(fields)
    assert told["seq"] == last + 1
    outbox.close()
    after = Outbox(tmp_path / "line.sqlite")
    assert after.commit(fields)["seq"] == last + 2
    after.close()


def test_what_a_full_disk_refused_is_committed_in_order_once_there_is_space(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.commit(fields)
    outbox.commit_failed(fields)
    outbox.commit_failed(fields)
    assert outbox.counts()["waiting"] == 3
    outbox.commit(fields)
    assert [one.seq for one in outbox.unsent(0, 9)] == [1, 2, 3, 4]
    outbox.close()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_really_full_file_system_is_unknown_storage_and_recovers(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        outbox = Outbox(disk / "line.sqlite")
        outbox.commit(fields)
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(b"x" * 600_000)
        with pytest.raises(StorageError, match="Free space"):
            outbox.commit(lambda seq: {**fields(seq), "ballast": "x" * 60_000})
        assert outbox.commit_failed(fields)["seq"] == 2
        ballast.unlink()
        assert outbox.commit(fields)["seq"] == 3
        assert outbox.counts() == {"seq": 3, "waiting": 3, "dropped": 0}
        outbox.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_retention_removes_the_oldest_and_counts_what_was_never_acknowledged(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    for _ in range(10):
        outbox.commit(fields)
    outbox.unsent(0, 4)
    outbox.mark_sent([1, 2, 3])
    assert outbox.retain(max_age_s=3600, max_records=5) == 2      # 1..3 had been acknowledged, 4 and 5 had not
    assert outbox.counts() == {"seq": 10, "waiting": 5, "dropped": 2}
    assert outbox.retain(max_age_s=0, max_records=5) == 5
    assert outbox.commit(fields)["seq"] == 11                     # an emptied table starts no number again
    outbox.close()


def test_threads_share_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    seen: list[int] = []

    def commit_many() -> None:
        seen.extend(outbox.commit(fields)["seq"] for _ in range(25))

    workers = [threading.Thread(target=commit_many) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(seen) == list(range(1, 101))
    outbox.close()


def test_another_process_that_holds_the_database_is_a_storage_error(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    other = sqlite3.connect(tmp_path / "line.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        outbox.commit(fields)
    other.execute("ROLLBACK")
    other.close()
    assert outbox.commit(fields)["seq"] == 1
    outbox.close()


def test_a_damaged_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "line.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match=r"line\.sqlite"):
        Outbox(tmp_path / "line.sqlite")
