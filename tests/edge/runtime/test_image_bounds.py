"""Bounds of the kept images: at each write, by number and powered-on age; and nothing that is not
the station's.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge.runtime.keeper as keeper_module
import edge.runtime.kept_folders as kept_folders
from edge.clock import PoweredClock, Stamp
from edge.line.outbox import Outbox
from edge.runtime.keeper import Keeper
from edge.runtime.kept_folders import sorted_folders
from edge.sections import RetentionConfig
from tests.support.broker import wait_until
from tests.support.fakes import frame_of
from tests.support.kept import images_of, write_images
from tests.support.machine import DAY_S, NOW_S, Machine
from tests.support.station import BAD

FRAME = frame_of(BAD, 1)
ROOMY = RetentionConfig(min_free_gb=0.0, days=90)


def kept_numbers(data: Path) -> list[int]:
    return [int(folder.name.rpartition("-")[2]) for folder, _ in sorted_folders(data / "parts")]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def disk_usage(data: Path) -> int:
    return sum(
        path.lstat().st_blocks * 512 for path in [data / "parts", *(data / "parts").rglob("*")]
    )


def size_of_one(folder: Path) -> int:
    folder.mkdir()
    Keeper(folder, ROOMY)._write(images_of(1))
    return sorted_folders(folder / "parts")[0][1]


def test_the_bound_of_gigabytes_is_kept_at_every_write(tmp_path: Path) -> None:
    limit = 5.5 * size_of_one(tmp_path / "one")
    data = tmp_path / "data"
    data.mkdir()
    keeper = Keeper(data, replace_config(gb=limit / 1e9))
    worst = 0
    for number in range(1, 31):
        keeper._write(images_of(number))
        worst = max(worst, disk_usage(data))
    assert worst <= limit * 1.1
    assert kept_numbers(data) == [26, 27, 28, 29, 30]
    assert keeper.dropped == 0


def replace_config(**changes: Any) -> RetentionConfig:
    return ROOMY.model_copy(update=changes)


def test_images_that_are_larger_than_the_bound_are_not_kept_and_counted(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, replace_config(gb=1e-6))
    keeper._write(images_of(1))
    assert (keeper.dropped, kept_numbers(tmp_path)) == (1, [])


def test_the_database_counts_in_the_bound_of_gigabytes(tmp_path: Path) -> None:
    one = size_of_one(tmp_path / "one")
    data = tmp_path / "data"
    data.mkdir()
    (data / "line.sqlite").write_bytes(b"x" * 4 * one)
    keeper = Keeper(data, replace_config(gb=6.9 * one / 1e9))
    for number in range(1, 6):
        keeper._write(images_of(number))
    assert kept_numbers(data) == [4, 5]


def test_disk_space_stays_free_at_every_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = size_of_one(tmp_path / "one")
    data = tmp_path / "data"
    total = 10 * one
    data.mkdir()

    def usage(_: object) -> Any:
        taken = sum(size for _, size in sorted_folders(data / "parts"))
        return shutil._ntuple_diskusage(total, taken, total - taken)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", usage)
    keeper = Keeper(data, replace_config(min_free_gb=6.5 * one / 1e9))
    for number in range(1, 9):
        keeper._write(images_of(number))
        assert usage(None).free >= 6.5 * one
    assert kept_numbers(data) == [6, 7, 8]


def test_the_order_of_removal_is_the_number_whatever_the_dates_say(tmp_path: Path) -> None:
    for number, day in (
        (1, "2038-01-19"),
        (2, "1970-01-01"),
        (10, "2026-11-10"),
        (9, "2026-11-11"),
        (3, "2026-11-09"),
    ):
        write_images(tmp_path / f"parts/{day}/s1-{number}", images_of(number))
    assert kept_numbers(tmp_path) == [1, 2, 3, 9, 10]
    size = sorted_folders(tmp_path / "parts")[0][1]
    keeper = Keeper(tmp_path, replace_config(gb=2.5 * size / 1e9))
    keeper.start()
    wait_until(lambda: len(kept_numbers(tmp_path)) == 2, 60, "nothing was removed")
    keeper.stop(10)
    assert kept_numbers(tmp_path) == [9, 10]
    assert not (tmp_path / "parts/2038-01-19").exists()


def test_images_are_as_old_as_their_records_whatever_the_date_of_their_folder(
    tmp_path: Path, machine: Machine
) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    for day in ("1970-01-01", "2038-01-19", "2026-11-10"):
        number = outbox.commit(lambda seq: {"seq": seq})["seq"]
        write_images(tmp_path / f"parts/{day}/s1-{number}", images_of(number))
        machine.run(40 * DAY_S)

    def new_keeper() -> Keeper:
        keeper = Keeper(tmp_path, ROOMY, outbox.clock, outbox.find_stamp)
        for _ in zip(range(3), keeper._work(), strict=False):  # what was kept before is found
            pass
        return keeper

    new_keeper()
    assert kept_numbers(tmp_path) == [2, 3], "80 days are left, 120 are not"
    machine.wall_s = NOW_S + 4000 * DAY_S
    machine.synced = False
    new_keeper()
    assert kept_numbers(tmp_path) == [2, 3]
    assert outbox.retain(90 * DAY_S, 2) == 1
    new_keeper()
    assert kept_numbers(tmp_path) == [2, 3]
    machine.run(40 * DAY_S)
    assert outbox.retain(90 * DAY_S) == 1, "housekeeping may be first"
    new_keeper()
    assert kept_numbers(tmp_path) == [3]
    assert outbox.retain(1e12, 0) == 1
    new_keeper()
    assert kept_numbers(tmp_path) == [3], "without a record it counts from when it was first seen"
    outbox.close()


def test_a_clock_that_is_wrong_for_a_while_removes_no_images(
    tmp_path: Path, machine: Machine
) -> None:
    keeper = Keeper(tmp_path, ROOMY)
    for wall_s, synced in (
        (300.0, False),
        (NOW_S, True),
        (2_150_000_000.0, True),
        (NOW_S - 3600, True),
    ):
        machine.wall_s, machine.synced = wall_s, synced
        keeper._write(images_of(len(kept_numbers(tmp_path)) + 1))
        keeper.clean()
    assert kept_numbers(tmp_path) == [1, 2, 3, 4]
    machine.run(91 * DAY_S)
    keeper.clean()
    assert kept_numbers(tmp_path) == [3], (
        "the wall clock said 2038, and was believed: that one stays longer"
    )


def put_strays(parts: Path, elsewhere: Path) -> list[Path]:
    day = parts / "2026-11-10"
    day.mkdir(parents=True)
    write_images(elsewhere / "s1-1", images_of(1))
    (day / "notes.txt").write_text("mine")
    (day / "s1-777").write_text("a file that is called like a part")
    (day / "s1-778").symlink_to(elsewhere / "s1-1")
    (day / "s1-779").symlink_to(parts / "nowhere")
    (day / "no digits").mkdir()
    (day / "s1-\u00b2").mkdir()
    (day / f"s1-{'9' * 5000}"[:250]).mkdir()
    (day / "empty-1").mkdir()
    (day / "s1-780").mkdir()
    (day / "s1-780/measured.csv").write_text("mine")
    write_images(day / "s1-781", images_of(781))
    (day / "s1-781/notes.txt").write_text("mine, beside the station's")
    os.mkfifo(day / "pipe")
    (parts / "2026-11-11").symlink_to(elsewhere)
    (parts / "2026-11-12").write_text("no folder")
    (parts / "good").mkdir()
    write_images(parts / "good/s1-5", images_of(5))
    beside = [path for path in day.iterdir() if path.name != "s1-781"]
    return [*beside, *elsewhere.rglob("*"), day / "s1-781/notes.txt", parts / "good/s1-5/color.png"]


def test_what_is_not_the_stations_is_neither_counted_nor_followed_nor_removed(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    strays = put_strays(data / "parts", tmp_path / "elsewhere")
    assert kept_numbers(data) == [781]
    keeper = Keeper(data, replace_config(gb=1e-6))  # all that is the station's has to go
    keeper.start()
    wait_until(lambda: kept_numbers(data) == [], 60, "nothing was removed")
    for number in (777, 1):
        keeper.put(images_of(number))
    wait_until(lambda: keeper.dropped == 2, 60, "the thread has ended")
    keeper.stop(10)
    assert [path for path in strays if not os.path.lexists(path)] == []


def test_a_part_whose_place_is_taken_costs_that_parts_images_only(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    strays = put_strays(data / "parts", elsewhere)
    keeper = Keeper(data, ROOMY)
    keeper.start()
    for part in (
        images_of(777),
        images_of(778),
        images_of(790, "2026-11-11"),
        images_of(791, "2026-11-12"),
        images_of(792),
    ):
        keeper.put(part)
    wait_until(lambda: 792 in kept_numbers(data), 60, "the thread has ended")
    keeper.stop(10)
    assert keeper.dropped == 4
    assert [path for path in strays if not os.path.lexists(path)] == []
    assert names_in(elsewhere) == ["s1-1"]
    assert not list((data / "parts").rglob(".writing-*"))


def test_whatever_an_image_raises_costs_that_part_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(images_of(1), frame=replace(FRAME, depth=np.zeros((4, 4), np.complex128)))
    unwritable = replace(images_of(2), record={**images_of(2).record, "score": object()})
    keeper = Keeper(tmp_path, ROOMY)
    keeper.start()
    for part in (broken, unwritable, replace(images_of(3), folder="../outside"), images_of(4)):
        keeper.put(part)
    wait_until(lambda: kept_numbers(tmp_path) == [4], 60, "the thread has ended")
    keeper.stop(10)
    assert keeper.dropped == 3
    for part in ("P1", "P2", "P3"):
        assert f"part={part} images not kept" in caplog.text
    assert names_in(tmp_path / "parts/2026-11-10") == ["s1-4"]


def test_what_a_crash_left_half_written_is_removed_at_the_start(tmp_path: Path) -> None:
    day = tmp_path / "parts/2026-11-10"
    for number in range(1, 6):
        write_images(day / f"s1-{number}", images_of(number))
    (day / "s1-2/record.json").unlink()  # as an older version leaves it
    (day / "s1-3/depth.png").write_bytes(b"")  # a power cut: the name is there, the bytes are not
    (day / "s1-4").rename(day / ".writing-s1-4")
    (day / ".writing-s1-6").mkdir()
    keeper = Keeper(tmp_path, ROOMY)
    keeper.start()
    keeper.put(images_of(7))
    wait_until(
        lambda: 7 in kept_numbers(tmp_path) and len(names_in(day)) == 3, 60, "it was not removed"
    )
    keeper.stop(10)
    assert names_in(day) == ["s1-1", "s1-5", "s1-7"]


@pytest.mark.parametrize("dies_at", range(1, 9))
def test_a_part_cut_off_at_any_write_is_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """The process is killed: nothing cleans up behind it."""
    calls = [0]
    write = kept_folders._write

    def cut(*args: Any) -> None:
        calls[0] += 1
        if calls[0] == dies_at:
            monkeypatch.setattr(kept_folders, "_remove_in", lambda *_: None)
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(kept_folders, "_write", cut)
    part = replace(images_of(1), map=np.ones((4, 4), np.float32))
    try:
        Keeper(tmp_path, ROOMY)._write(part)
    except KeyboardInterrupt:
        assert kept_numbers(tmp_path) == []
    else:
        assert (dies_at, kept_numbers(tmp_path)) == (8, [1]), (
            "it has seven files: no overlay of a part without a crop"
        )


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_fills_up_leaves_no_half_folder(tmp_path: Path) -> None:
    one = size_of_one(tmp_path / "one")
    data = tmp_path / "data"
    (data / "parts").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(2.6 * one)}", "tmpfs", str(data / "parts")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        keeper = Keeper(data, ROOMY)
        # another program takes the space meanwhile
        keeper._has_room = lambda _: True  # type: ignore[method-assign]
        for number in range(1, 5):
            keeper._write(images_of(number))
        assert keeper.dropped == 2
        assert [folder.name for folder, _ in sorted_folders(data / "parts")] == ["s1-1", "s1-2"]
        assert sorted(path.name for path in (data / "parts").glob("*/*")) == ["s1-1", "s1-2"]
        assert (data / "parts").stat().st_dev != data.stat().st_dev, (
            "min_free_gb is of the images' disk"
        )
        del keeper._has_room
        keeper._write(images_of(5))
        assert kept_numbers(data) == [2, 5], "the oldest made room"
    finally:
        subprocess.run(["umount", "-l", str(data / "parts")], check=True)


def test_parts_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "large").mkdir()
    (tmp_path / "data/parts").symlink_to(tmp_path / "large")
    keeper = Keeper(tmp_path / "data", ROOMY)
    keeper._write(images_of(1))
    assert keeper.dropped == 0
    assert (tmp_path / "large/2026-11-10/s1-1/record.json").is_file()


def test_a_folder_that_cannot_be_removed_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    one = size_of_one(tmp_path / "one")
    (tmp_path / "data").mkdir()
    keeper = Keeper(tmp_path / "data", replace_config(gb=2.5 * one / 1e9))
    for number in (1, 2):
        keeper._write(images_of(number))
    monkeypatch.setattr("edge.runtime.keeper.remove_folder", refuse)
    keeper._write(images_of(3))
    assert keeper.dropped == 1
    assert kept_numbers(tmp_path / "data") == [1, 2]


def test_a_part_is_kept_again_under_its_number(tmp_path: Path) -> None:
    """The database was moved away, numbers began anew on the same day: the newer images are what
    the record means.
    """
    keeper = Keeper(tmp_path, ROOMY)
    keeper._write(images_of(1))
    keeper._write(replace(images_of(1), record={**images_of(1).record, "part": "again"}))
    assert keeper.dropped == 0
    told = json.loads((tmp_path / "parts/2026-11-10/s1-1/record.json").read_text())
    assert told["part"] == "again"


def test_a_folder_without_any_stamp_counts_from_when_it_was_first_seen(
    tmp_path: Path, machine: Machine
) -> None:
    write_images(tmp_path / "parts/2020-01-01/s1-1", images_of(1))
    clock = PoweredClock(tmp_path)
    machine.run(500 * DAY_S)
    keeper = Keeper(tmp_path, ROOMY, clock)
    for _ in zip(range(2), keeper._work(), strict=False):
        pass
    assert kept_numbers(tmp_path) == [1]
    assert keeper._stamps[tmp_path / "parts/2020-01-01/s1-1"] == Stamp(
        500 * DAY_S, machine.wall_s, True
    )
    machine.run(91 * DAY_S)
    keeper.clean()
    assert kept_numbers(tmp_path) == []


def test_a_folder_that_cannot_be_read_is_said_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Simulated, because root may read everything."""
    for day in ("2026-11-10", "2026-11-11"):
        write_images(tmp_path / f"parts/{day}/s1-{day[-1]}", images_of(1))
    scandir = os.scandir

    def refuse(folder: Path) -> Any:
        if folder.name == "2026-11-10":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    keeper = Keeper(tmp_path, ROOMY)
    keeper.start()
    keeper.put(images_of(5, "2026-11-12"))
    wait_until(lambda: kept_numbers(tmp_path) == [1, 5], 60, "the thread has ended")
    keeper.stop(10)
    assert "2026-11-10 is passed over" in caplog.text


def test_what_cannot_be_removed_for_a_while_is_removed_later_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is mounted read-only and writable again: its folders still count, and still
    go.
    """
    keeper = Keeper(tmp_path, ROOMY)
    for number in range(1, 4):
        keeper._write(images_of(number))
    keeper._retention = ROOMY.model_copy(update={"gb": 1e-9})

    def refuse(folder: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(keeper_module, "remove_folder", refuse)
        for _ in range(2):
            keeper.clean()
    assert kept_numbers(tmp_path) == [1, 2, 3]
    assert caplog.text.count("cannot be removed") == 1
    keeper.clean()
    assert kept_numbers(tmp_path) == []
    assert "kept images are removed again, after 6 failures" in caplog.text


def test_a_disk_that_takes_no_image_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(tmp_path, RetentionConfig(min_free_gb=10_000))
    for number in range(1, 6):
        keeper._write(images_of(number))
    assert (keeper.dropped, caplog.text.count("images not kept")) == (5, 1)


def test_the_end_waits_for_a_full_queue_and_no_longer(tmp_path: Path) -> None:
    """The thread ends once all is written, though there was no room to tell it so."""
    keeper = Keeper(tmp_path, ROOMY)
    for number in range(1, keeper_module.QUEUE_LIMIT + 1):
        keeper.put(images_of(number))
    keeper.start()
    keeper.stop(60)
    assert not keeper._thread.is_alive()
    assert len(kept_numbers(tmp_path)) == keeper_module.QUEUE_LIMIT
