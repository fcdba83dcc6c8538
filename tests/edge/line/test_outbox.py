"""On disk before on the wire: numbers that are never given out twice, and a full disk that is
really full.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.errors import StorageError
from edge.line.outbox import Outbox
from tests.support.line import fields


def fill_disk(outbox: Outbox) -> None:
    """Let SQLite answer SQLITE_FULL, as on a full disk: the file may not grow by another page."""
    connection = outbox._connection()
    connection.execute(
        f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}"
    ).fetchall()


def test_numbers_are_contiguous_and_survive_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        outbox = Outbox(tmp_path / "line.sqlite")
        for _ in range(4):
            outbox.commit(fields)
        outbox.close()
    reader = sqlite3.connect(tmp_path / "line.sqlite")
    assert [row[0] for row in reader.execute("SELECT seq FROM records ORDER BY seq")] == list(
        range(1, 13)
    )
    reader.close()


def test_a_number_without_a_record_is_never_given_out_again(tmp_path: Path) -> None:
    """Also where the process ends without closing anything."""
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.commit(fields)
    outbox.mark_sent([one.seq for one in outbox.unsent(0, 9)])
    assert [outbox.take_number(), outbox.take_number()] == [2, 3]
    again = Outbox(tmp_path / "line.sqlite")
    assert again.counts() == {"seq": 3, "waiting": 0, "dropped": 0}
    assert again.commit(fields)["seq"] == 4
    assert [(one.seq, one.replay) for one in again.unsent(0, 9)] == [(4, False)]
    again.mark_sent([4])
    assert again.counts() == {"seq": 4, "waiting": 0, "dropped": 0}
    again.close()
    outbox.close()


def test_a_number_that_the_disk_does_not_take_is_not_given_out(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.commit(fields)
    outbox._connection().execute("PRAGMA query_only = 1")
    with pytest.raises(StorageError):
        outbox.take_number()
    outbox._connection().execute("PRAGMA query_only = 0")
    assert outbox.take_number() == 2
    outbox.close()


def test_a_commit_is_synchronous_full_in_wal(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    assert outbox._connection().execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._connection().execute("PRAGMA journal_mode").fetchone() == ("wal",)
    outbox.close()


def test_records_leave_in_order_and_only_those_in_flight_are_replays(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    for _ in range(5):
        outbox.commit(fields)
    assert [(one.seq, one.replay) for one in outbox.unsent(0, 3)] == [
        (1, False),
        (2, False),
        (3, False),
    ]
    outbox.mark_sent([1, 3])
    assert [(one.seq, one.replay) for one in outbox.unsent(0, 2)] == [(2, True), (4, False)]
    assert outbox.unsent(5, 9) == []
    outbox.close()
    again = Outbox(tmp_path / "line.sqlite")  # 2 and 4 were in flight when the process ended
    waiting = again.unsent(0, 9)
    assert [(one.seq, one.replay, one.fields["part"]) for one in waiting] == [
        (2, True, "P2"),
        (4, True, "P4"),
        (5, False, "P5"),
    ]
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


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 3 MB of its own."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(b"x" * 4_000_000)
    return ballast


def in_a_thread(work: Callable[[], Any]) -> Any:
    """A thread's first call opens its own connection to the database."""
    found: list[Any] = []
    worker = threading.Thread(target=lambda: found.append(work()))
    worker.start()
    worker.join()
    return found[0]


def outcome(work: Callable[[], Any]) -> str:
    try:
        work()
    except StorageError as error:
        return str(error)
    return "done"


def test_a_really_full_file_system_is_unknown_storage_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        outbox = Outbox(disk / "line.sqlite")
        outbox.commit(fields)
        ballast = fill(disk)
        with pytest.raises(StorageError, match="Free space"):
            outbox.commit(lambda seq: {**fields(seq), "ballast": "x" * 60_000})
        assert outbox.is_failing
        assert outbox.commit_failed(fields)["seq"] == 2
        ballast.unlink()
        outbox.probe()
        assert not outbox.is_failing
        assert outbox.commit(fields)["seq"] == 3
        assert outbox.counts() == {"seq": 3, "waiting": 3, "dropped": 0}
        outbox.close()


def test_a_record_that_a_full_disk_refused_survives_the_process(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        outbox = Outbox(disk / "line.sqlite")
        outbox.commit(fields)
        ballast = fill(disk)
        for _ in range(3):
            with pytest.raises(StorageError):
                outbox.commit(lambda seq: {**fields(seq), "ballast": "x" * 60_000})
            outbox.commit_failed(lambda seq: {**fields(seq), "reason": "storage"})
        assert outbox.unwritten == 3
        ballast.unlink()  # the process is killed: no goodbye
        again = Outbox(disk / "line.sqlite")
        waiting = again.unsent(0, 9)
        assert [(one.seq, one.fields.get("reason"), one.replay) for one in waiting] == [
            (1, None, False),
            (2, "storage", False),
            (3, "storage", False),
            (4, "storage", False),
        ]
        again.mark_sent([1, 2, 3, 4])
        third = Outbox(disk / "line.sqlite")
        assert third.counts() == {"seq": 4, "waiting": 0, "dropped": 0}, "it is taken over once"
        for one in (outbox, again, third):
            one.close()


def test_a_station_starts_while_its_disk_is_full(tmp_path: Path) -> None:
    large = {"ballast": "x" * 60_000}
    with small_disk(tmp_path / "disk") as disk:
        outbox = Outbox(disk / "line.sqlite")
        outbox.commit(fields)
        ballast = fill(disk)
        assert outcome(lambda: outbox.commit(lambda seq: {**fields(seq), **large})) != "done"
        outbox.commit_failed(lambda seq: {**fields(seq), **large})
        again = Outbox(disk / "line.sqlite")  # the first one was killed
        assert again.is_failing
        assert again.counts() == {"seq": 2, "waiting": 2, "dropped": 0}
        assert again.commit_failed(fields)["seq"] == 3
        ballast.unlink()
        again.probe()
        assert [(one.seq, one.replay) for one in again.unsent(0, 9)] == [
            (1, False),
            (2, False),
            (3, False),
        ]
        assert (again.unwritten, again.is_failing) == (0, False)
        outbox._database.close()
        again.close()


def test_a_clean_stop_commits_what_waited(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.commit_failed(fields)
    outbox.close()
    with sqlite3.connect(tmp_path / "line.sqlite") as reader:
        assert reader.execute("SELECT seq FROM records").fetchall() == [(1,)]
    reader.close()


def test_what_was_told_replaces_what_a_failing_sync_left_behind(tmp_path: Path) -> None:
    """The commit of an OK failed on its last sync, the part was told UNKNOWN, the process died:
    UNKNOWN counts.
    """
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.commit_failed(lambda seq: {**fields(seq), "code": 3})
    with outbox._database.transaction() as connection:
        connection.execute(
            "INSERT INTO records (seq, fields, committed_at) VALUES (1, '{\"code\": 1}', 0)"
        )
    again = Outbox(tmp_path / "line.sqlite")
    assert [one.fields.get("code") for one in again.unsent(0, 9)] == [3]
    assert again.counts()["waiting"] == 1
    outbox._database.close()
    again.close()


def test_what_finds_no_place_at_all_is_counted_and_its_numbers_are_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.outbox.UNWRITTEN_LIMIT", 3)
    outbox = Outbox(tmp_path / "line.sqlite")
    assert [outbox.commit_failed(fields)["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
    assert outbox.counts() == {"seq": 5, "waiting": 3, "dropped": 2}
    again = Outbox(tmp_path / "line.sqlite")  # killed
    assert again.counts() == {"seq": 5, "waiting": 3, "dropped": 2}
    assert again.commit(fields)["seq"] == 6
    outbox._database.close()
    again.close()


def test_a_damaged_record_in_the_reserve_is_left_out_and_counted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    for _ in range(3):
        outbox.commit_failed(fields)
    reserve = tmp_path / "line.seq"
    reserve.write_bytes(reserve.read_bytes().replace(b'"part":"P3"', b'"part":"P8"'))
    again = Outbox(tmp_path / "line.sqlite")
    assert [one.seq for one in again.unsent(0, 9)] == [1, 2]
    assert again.counts() == {"seq": 3, "waiting": 2, "dropped": 1}
    outbox._database.close()
    again.close()


def test_a_disk_too_small_for_the_reserve_still_gives_out_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (disk / "ballast").write_bytes(b"x" * 2_500_000)
        outbox = Outbox(disk / "line.sqlite")
        assert "wait in memory only" in caplog.text
        assert (disk / "line.seq").stat().st_size == 8192
        assert outbox.commit_failed(fields)["seq"] == 1
        assert outbox.commit(fields)["seq"] == 2
        assert outbox.counts() == {"seq": 2, "waiting": 2, "dropped": 0}
        outbox.close()


def test_a_connection_that_was_opened_while_the_disk_was_read_only_works_again_with_the_disk(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        outbox = Outbox(disk / "line.sqlite")
        outbox.commit(fields)

        def decide() -> list[str]:
            """A thread whose connection is opened while the disk refuses; it lives on."""
            subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", str(disk)], check=True)
            refused = outcome(lambda: outbox.commit(fields))
            subprocess.run(["umount", "-l", str(disk)], check=True)
            return [refused, outcome(lambda: outbox.commit(fields))]

        refused, then = in_a_thread(decide)
        outbox.close()
        assert refused != "done"
        assert then == "done"


@pytest.mark.parametrize(
    "message", ["disk I/O error", "attempt to write a readonly database", "unable to open"]
)
def test_after_an_error_of_the_disk_the_next_call_has_a_new_connection(
    tmp_path: Path, message: str
) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.commit(fields)
    broken = outbox._connection()
    with pytest.raises(StorageError), outbox._database.errors("use"):
        raise sqlite3.OperationalError(message)
    assert outbox._connection() is not broken
    assert outbox.commit(fields)["seq"] == 2
    with pytest.raises(sqlite3.ProgrammingError):
        broken.execute("SELECT 1")
    outbox.close()


def test_what_the_line_is_about_to_take_is_marked_with_its_commit_and_is_no_replay(
    tmp_path: Path,
) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    assert outbox.unsent(0, 2) == []  # the line is idle: it will take two more
    for _ in range(3):
        outbox.commit(fields)
    marked = (
        outbox._connection()
        .execute("SELECT seq FROM records WHERE attempted ORDER BY seq")
        .fetchall()
    )
    assert marked == [(1,), (2,)]
    assert [(one.seq, one.replay) for one in outbox.unsent(0, 1)] == [(1, False)]
    killed = Outbox(tmp_path / "line.sqlite")
    assert [(one.seq, one.replay) for one in killed.unsent(0, 3)] == [
        (1, True),
        (2, True),
        (3, False),
    ]
    killed._database.close()
    outbox.close()


def test_what_was_never_handed_over_is_no_replay_after_a_clean_stop(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.unsent(0, 5)
    outbox.commit(fields)
    outbox.commit(fields)
    outbox.unsent(0, 1)
    outbox.close()
    again = Outbox(tmp_path / "line.sqlite")
    assert [(one.seq, one.replay) for one in again.unsent(0, 5)] == [(1, True), (2, False)]
    again.close()


def test_commits_a_busy_line_and_retention_at_once_keep_the_counts_right(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    done = threading.Event()
    sent: list[int] = []

    def carry() -> None:
        while not done.is_set() or outbox.counts()["waiting"]:
            waiting = outbox.unsent(sent[-1] if sent else 0, 7)
            assert not any(one.replay for one in waiting)
            sent.extend(one.seq for one in waiting)
            outbox.mark_sent([one.seq for one in waiting])

    def clean() -> None:
        while not done.is_set():
            outbox.retain(1e9, 20)
            outbox.checkpoint()
            outbox.probe()

    workers = [threading.Thread(target=work) for work in (carry, clean)]
    for worker in workers:
        worker.start()
    for _ in range(300):
        outbox.commit(fields)
    done.set()
    for worker in workers:
        worker.join()
    dropped = outbox.counts()["dropped"]
    assert sent == sorted(set(sent))
    assert 300 - dropped <= len(sent) <= 300
    assert outbox.counts() == {"seq": 300, "waiting": 0, "dropped": dropped}
    outbox.close()


def write_bytes() -> int:
    """What this process has caused to be written to disks so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/io")
def test_a_record_costs_the_disk_at_most_16_kb(tmp_path: Path) -> None:
    """At steady state, one at a time: committed, handed over, acknowledged, moved into the
    database, and deleted.
    """
    records = 300
    content = json.loads(
        next(
            line
            for line in Path("docs/mqtt.md").read_text(encoding="utf-8").splitlines()
            if line.startswith('{"schema"')
        )
    )
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.unsent(0, 20)
    frames = [0]

    def steady(count: int) -> None:
        for number in range(count):
            outbox.commit(lambda seq: {**content, "seq": seq})
            outbox.mark_sent([one.seq for one in outbox.unsent(0, 20)])
            if number % 100 == 99:  # as often as housekeeping does at 3 parts a second
                outbox.retain(1e9, 100)
                frames[0] += (
                    outbox._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
                )

    steady(200)
    frames[0], before = 0, write_bytes()
    steady(records)
    counted = write_bytes() - before
    page = outbox._connection().execute("PRAGMA page_size").fetchone()[0]
    outbox.close()
    assert 0 < frames[0] * page / records < 8_000, "pages in the write-ahead log"
    assert counted / records < 16_000 + 500  # the counter is of the whole process


def test_retention_removes_the_oldest_and_counts_what_was_never_acknowledged(
    tmp_path: Path,
) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    for _ in range(10):
        outbox.commit(fields)
    outbox.unsent(0, 4)
    outbox.mark_sent([1, 2, 3])
    # 1..3 had been acknowledged, 4 and 5 had not
    assert outbox.retain(max_age_s=3600, max_records=5) == 2
    assert outbox.counts() == {"seq": 10, "waiting": 5, "dropped": 2}
    assert outbox.retain(max_age_s=0, max_records=5) == 5
    assert outbox.commit(fields)["seq"] == 11  # an emptied table starts no number again
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
