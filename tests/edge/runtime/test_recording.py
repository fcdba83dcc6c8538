"""`edge capture`: what the camera saw is what the readers of data sets find."""

from __future__ import annotations

import io
import shutil
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera.replay import FolderCamera
from edge.errors import DataError
from edge.frames.dataset import open_dataset, open_images
from edge.frames.writing import FrameWriter
from edge.runtime.recording import Wanted, record_frames
from edge.types import Frame
from tests.support.root import run_edge
from tests.support.service import NO_BROKER
from tests.support.socketed import socketed
from tests.support.station import BAD, EMPTY, GOOD, SERIAL, StationRoot, make_station, write_belt


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    return make_station(tmp_path_factory.mktemp("made") / "station")


@pytest.fixture
def station(made: StationRoot, tmp_path: Path) -> StationRoot:
    """A station whose camera plays eight frames: the last three show a defective part."""
    shutil.copytree(made.root, tmp_path / "station", symlinks=True)
    station = replace(made, root=tmp_path / "station")
    station.configure("folder", write_belt(tmp_path / "belt", [GOOD] * 5 + [BAD] * 3))
    return station


def frames_of(folder: Path) -> list[tuple[np.ndarray, np.ndarray | None]]:
    samples = open_images(folder).samples
    return [(sample.load().color, sample.load().depth) for sample in samples]


def test_the_readers_find_what_the_camera_saw(
    station: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    out = tmp_path / "monday"
    answer = run_edge(capsys, monkeypatch, "capture", out, "--count", 5, "--root", station.root)
    assert answer.code == 0, answer.err
    assert f"5 frames in {out}; next: `trainer train {out}`" in answer.out
    read = open_dataset(out)
    assert [(sample.defect, sample.path.name) for sample in read.samples] == [
        ("good", f"{number:04d}.png") for number in range(5)
    ]
    assert read.camera.serial == SERIAL
    assert read.camera.fixed
    for (color, depth), sample in zip(frames_of(tmp_path / "belt"), read.samples, strict=False):
        np.testing.assert_array_equal(sample.load().color, color)
        np.testing.assert_array_equal(sample.load().depth, depth)
    seen, told = read.samples[0].load(), open_images(tmp_path / "belt").samples[0].load()
    assert (seen.unit, seen.intrinsics) == (told.unit, told.intrinsics)


def test_classes_and_the_empty_table_lie_beside_each_other(
    station: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    out = tmp_path / "monday"
    for arguments in (("--count", 2), ("--empty", "--count", 3), ("--class", "scratch"), ()):
        if arguments == ("--empty", "--count", 3):
            table = write_belt(tmp_path / "table", [EMPTY] * 4)
            station.configure("folder", tmp_path / "belt", more=f'empty = "{table}"\n')
        answer = run_edge(capsys, monkeypatch, "capture", out, *arguments, "--root", station.root)
        assert answer.code == 0, answer.err
    read = open_dataset(out)
    kinds = [sample.defect for sample in read.samples]
    assert (kinds.count("good"), kinds.count("scratch"), len(kinds)) == (2 + 8, 8, 18)
    assert read.camera.empty == "empty"
    assert len(open_images(out / "empty").samples) == 3


def test_another_camera_is_refused(
    station: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    out = tmp_path / "monday"
    arguments = ("capture", out, "--count", 1, "--root", station.root)
    assert run_edge(capsys, monkeypatch, *arguments).code == 0
    station.configure("folder", tmp_path / "belt", more='serial = "other"\n')
    answer = run_edge(capsys, monkeypatch, *arguments)
    assert answer.code == 1
    assert f"{out} has images of another camera ({SERIAL}, 128x96) than other" in answer.err
    assert len(open_dataset(out).samples) == 1


def test_the_space_of_the_station_is_left_free(
    station: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    more = "[retention]\nmin_free_gb = 9999.0\n"
    station.configure("folder", tmp_path / "belt", more=more)
    arguments = ("capture", tmp_path / "out", "--count", 2, "--root", station.root)
    answer = run_edge(capsys, monkeypatch, *arguments)
    assert answer.code == 1
    assert "9999 stay free for the station (min_free_gb)" in answer.err
    assert not list((tmp_path / "out").rglob("*.png"))


def test_images_of_somebody_else_keep_their_names(
    station: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    theirs = tmp_path / "out/good/rgb/IMG_7.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    (theirs.parent / "0004.png").write_bytes(b"older")
    arguments = ("capture", tmp_path / "out", "--count", 1, "--root", station.root)
    answer = run_edge(capsys, monkeypatch, *arguments)
    assert answer.code == 0, answer.err
    names = sorted(path.name for path in theirs.parent.iterdir())
    assert names == ["0004.png", "0005.png", "IMG_7.png"]
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize("kind", ["depth", "xyz", "test", "empty/", "../x", "a b", ""])
def test_a_class_that_readers_take_for_something_else_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match="cannot be a class of parts"):
        FrameWriter(tmp_path, kind)


def test_a_frame_is_asked_for(station: StationRoot, tmp_path: Path, capsys, monkeypatch) -> None:
    arguments = ("capture", tmp_path / "out", "--ask", "--root", station.root)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n\n"))
    answer = run_edge(capsys, monkeypatch, *arguments)
    assert answer.code == 1
    assert "nobody answers --ask" in answer.err
    assert len(open_dataset(tmp_path / "out").samples) == 2  # what was written stays


def test_frames_are_apart_by_the_time_that_was_asked_for(tmp_path: Path) -> None:
    camera = FolderCamera(write_belt(tmp_path / "belt", [GOOD] * 60), fps=60)
    started = time.monotonic()
    wanted = Wanted(count=4, seconds=None, every_s=0.1, is_live=False)
    writer = FrameWriter(tmp_path / "out", "good")
    assert record_frames(camera, writer, wanted, None, lambda _: None) == 4
    assert time.monotonic() - started >= 0.3


def test_only_frames_after_the_answer_are_taken(tmp_path: Path) -> None:
    """A camera may have one at hand that shows the part before."""
    clock: list[int] = []
    camera = FolderCamera(write_belt(tmp_path / "belt", [GOOD] * 8), fps=120, loop=True)
    stale = camera.next_frame

    def next_frame(timeout_s: float) -> Frame:
        frame = stale(timeout_s)
        clock.append(frame.captured_mono_ns)
        return replace(frame, captured_mono_ns=clock[-2] if len(clock) > 1 else 0)

    camera.next_frame = next_frame  # type: ignore[method-assign]
    answered: list[int] = []
    wanted = Wanted(count=2, seconds=None, every_s=0.0, is_live=True)
    writer = FrameWriter(tmp_path / "out", "good")
    seen: list[int] = []
    record_frames(
        camera,
        writer,
        wanted,
        lambda _: answered.append(time.monotonic_ns()),
        lambda _: seen.append(clock[-2]),
    )
    assert all(taken >= said for taken, said in zip(seen, answered, strict=True))


def test_time_ends_a_recording(tmp_path: Path) -> None:
    camera = FolderCamera(write_belt(tmp_path / "belt", [GOOD]), fps=120, loop=True)
    started = time.monotonic()
    done = record_frames(
        camera,
        FrameWriter(tmp_path / "out", "good"),
        Wanted(count=None, seconds=0.5, every_s=0.0, is_live=False),
        None,
        lambda _: None,
    )
    assert time.monotonic() - started >= 0.5
    assert done == len(open_dataset(tmp_path / "out").samples) > 0


def test_a_running_station_hands_out_its_frames(
    made: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    made.configure("realsense", None)  # none is connected to this machine
    with socketed(made, config=NO_BROKER) as cell:
        cell.show(EMPTY)
        arguments = ("capture", tmp_path / "out", "--count", 3, "--root", made.root)
        answer = run_edge(capsys, monkeypatch, *arguments)
    assert answer.code == 0, answer.err
    samples = open_dataset(tmp_path / "out").samples
    assert len(samples) == 3
    assert cv2.imread(str(samples[0].path)).shape == (96, 128, 3)
    assert samples[0].load().depth is not None
