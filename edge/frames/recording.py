"""Recordings of librealsense (.db3), played back through its own reader and aligned to color."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edge.errors import DataError
from edge.frames.camera_info import CameraInfo, unnamed_serial
from edge.frames.sample import Sample
from edge.optional import optional_module
from edge.types import Frame, Intrinsics

RECORDING_SUFFIXES = (".db3", ".bag")
START_ATTEMPTS = 5
PAIR_GAP_MS = 150.0  # a pair of a 15 frames/s camera is at most 67 ms apart
WAIT_MS = 1000  # a recording answers within milliseconds: after this time it has ended
DAMAGED = "it is damaged, cut short, or of another format. Record it again, as .db3"
REMEDY = "Install it with `pip install pyrealsense2` and Debian's libusb-1.0-0"


def play(path: Path) -> Iterator[Frame]:
    """Every color frame of a recording in order, with the depth nearest in time, aligned to color.

    librealsense plays as soon as the first stream is started, so that frames of the other streams
    may be lost until they are started too; under load these may be all frames of a short file. Such
    a start is detected (the file's index names the first frames, and the first depth is some frames
    away), abandoned and repeated.

    Raises: DataError if librealsense cannot play the file or it holds no color; MissingDependency
        without pyrealsense2.
    """
    earliest = _first_color_numbers(path)
    for attempt in range(1, START_ATTEMPTS + 1):
        frames = _play_once(path)
        first = next(frames, None)
        if attempt == START_ATTEMPTS or _is_good_start(first, earliest):
            if first is not None:
                yield first[1]
            yield from (frame for _, frame in frames)
            return
        frames.close()


def _is_good_start(first: tuple[float, Frame] | None, earliest: list[int]) -> bool:
    if first is None:
        return False
    gap_ms, frame = first
    return not PAIR_GAP_MS < gap_ms < float("inf") and (
        not earliest or frame.frame_number in earliest
    )


def _first_color_numbers(path: Path) -> list[int]:
    """The numbers of the first two color frames, one of which may lack its depth; empty if the file
    does not contain them.
    """
    query = (
        "select m.data from topics t join messages m on m.topic_id = t.id "
        "where t.name like '%/Color_0/image/metadata' order by m.id limit 2"
    )
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.text_factory = bytes  # text in a damaged file may not be UTF-8
            texts = [row[0] for row in database.execute(query) if isinstance(row[0], bytes)]
    except (sqlite3.Error, UnicodeDecodeError):
        # an old .bag, or a file so damaged that SQLite's error message cannot be decoded
        return []
    return [
        int(found[1]) for found in map(re.compile(rb"Frame number=(\d+)").search, texts) if found
    ]


@contextmanager
def _as_librealsense_names_it(path: Path) -> Iterator[Path]:
    """The path of the recording with its suffix in lower case, by which librealsense recognizes the
    format.
    """
    if path.suffix == path.suffix.lower():
        yield path
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / path.with_suffix(path.suffix.lower()).name
        link.symlink_to(path.resolve())
        yield link


def _play_once(path: Path) -> Generator[tuple[float, Frame], None, None]:
    """(milliseconds between color and depth, infinite without depth; frame) in order.

    librealsense's syncer may deliver a color frame twice, with the depth before and after it; the
    nearer depth counts.
    """
    rs = optional_module("pyrealsense2", REMEDY)
    if not path.is_file():
        raise DataError(
            f"{path} is a folder, not a recording" if path.exists() else f"{path} does not exist"
        )
    with _as_librealsense_names_it(path) as named:
        yield from _played(rs, path, named)


def _played(rs: Any, path: Path, named: Path) -> Generator[tuple[float, Frame], None, None]:
    """As `_play_once`. named: the file under a name that librealsense recognizes."""
    config, pipeline = rs.config(), rs.pipeline()
    try:
        rs.config.enable_device_from_file(config, str(named), repeat_playback=False)
        playback = config.resolve(rs.pipeline_wrapper(pipeline)).get_device().as_playback()
        playback.set_real_time(False)
        pipeline.start(config)  # not paused first: with 2.59.1 one start in twenty then took 10 s
    except RuntimeError as error:  # librealsense has one exception class for everything
        raise DataError(f"{path} cannot be played by librealsense: {DAMAGED}") from error
    try:
        align = rs.align(rs.stream.color)
        best: tuple[float, Frame] | None = None
        while True:
            frames = _next_set(pipeline, path)
            if frames is None:
                break
            if not frames.get_color_frame():
                continue
            number, gap_ms = int(frames.get_color_frame().get_frame_number()), _gap_ms(frames)
            if best is not None and best[1].frame_number == number and best[0] <= gap_ms:
                continue
            if best is not None and best[1].frame_number != number:
                yield best
            best = gap_ms, _frame_from_set(rs, align, frames, path.stem)
        if best is not None:
            yield best
    finally:
        pipeline.stop()


def _next_set(pipeline: Any, path: Path) -> Any:
    """The next frame set, None at the end of the recording."""
    try:
        arrived, frames = pipeline.try_wait_for_frames(WAIT_MS)
    except RuntimeError as error:
        raise DataError(f"{path} cannot be played further by librealsense: {DAMAGED}") from error
    return frames if arrived else None


def _gap_ms(frames: Any) -> float:
    """Time between the color and the depth of a set; infinite where depth is missing."""
    depth = frames.get_depth_frame()
    if not depth:
        return float("inf")
    return abs(float(frames.get_color_frame().get_timestamp()) - float(depth.get_timestamp()))


def _frame_from_set(rs: Any, align: Any, frames: Any, name: str) -> Frame:
    """A Frame that owns its bytes, from a frame set with color."""
    has_depth = bool(frames.get_depth_frame())
    aligned = align.process(frames) if has_depth else frames
    color, depth = aligned.get_color_frame(), aligned.get_depth_frame()
    form = color.get_profile().format()
    if form not in (rs.format.rgb8, rs.format.bgr8):
        raise DataError(f"recording {name} has {form} color frames: record rgb8 or bgr8")
    pixels = np.array(color.get_data())[..., :: 1 if form == rs.format.rgb8 else -1]
    i = color.get_profile().as_video_stream_profile().get_intrinsics()
    return Frame(
        color=np.ascontiguousarray(pixels, np.uint8),
        depth=np.array(depth.get_data(), np.uint16) if has_depth else None,
        unit=float(depth.get_units()) if has_depth else 0.001,
        intrinsics=Intrinsics(i.width, i.height, i.fx, i.fy, i.ppx, i.ppy),
        serial=unnamed_serial(name),
        frame_number=int(color.get_frame_number()),
        captured_mono_ns=int(color.get_timestamp() * 1e6),
        clock_domain=str(color.get_frame_timestamp_domain()).rsplit(".", 1)[-1],
    )


class Player:
    """Random access to a file that can only be played forward: reading in order is fast, going back
    plays the file again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._frames: Iterator[Frame] = iter(())
        self._next = -1

    def frame(self, index: int) -> Frame:
        """Frame `index` of the recording, counted from 0. Raises: DataError if it holds fewer."""
        with self._lock:
            if self._next < 0 or index < self._next:
                self._frames, self._next = play(self.path), 0
            for frame in self._frames:
                self._next += 1
                if self._next == index + 1:
                    return frame
            self._next = -1
        raise DataError(f"{self.path} ended before frame {index}")


@dataclass(frozen=True)
class RecordedFrame:
    """One frame of a recording."""

    player: Player = field(repr=False)
    index: int
    camera: CameraInfo

    def load(self) -> Frame:
        """Play up to this frame and return it. Raises: DataError if the recording ends before."""
        return self.player.frame(self.index)

    def size(self) -> tuple[int, int]:
        """Height and width of the color image in pixels."""
        return self.camera.height, self.camera.width


def read_recording(path: Path) -> tuple[list[Sample], CameraInfo, bool]:
    """Every frame of a .db3 file, its camera, and whether it has depth. Plays the file once to
    count the frames.

    Raises: DataError if it cannot be played or holds no color frame.
    """
    first: Frame | None = None
    count = 0
    for frame in play(path):
        first = first or frame
        count += 1
    if first is None:
        raise DataError(f"{path} holds no color frames")
    i = first.intrinsics
    camera = CameraInfo(
        model="recording",
        serial=first.serial,
        width=i.width,
        height=i.height,
        unit=first.unit,
        intrinsics=(i.fx, i.fy, i.cx, i.cy),
    )
    player = Player(path)
    samples = [
        Sample(f"{n:04d}", "", "", RecordedFrame(player, n, camera), "unknown", path)
        for n in range(count)
    ]
    return samples, camera, first.depth is not None
