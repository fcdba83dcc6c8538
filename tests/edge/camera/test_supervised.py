"""Cameras in a process of their own: the same frames, and whatever a driver does there ends as a
sentence.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from edge import errors
from edge.camera import process as camera_process
from edge.camera import supervised
from edge.camera.child import Feed, failure_of
from edge.camera.contract import find_staleness
from edge.camera.protocol import Camera, EndOfFrames, FrameOverdue, opened
from edge.camera.replay import FolderCamera
from edge.camera.supervised import SupervisedCamera, supervised_camera
from edge.errors import CameraLost, ConfigError, DataError, EdgeError, MissingDependency
from edge.runtime.capture import Capture
from edge.runtime.mailbox import Mailbox
from edge.sections import CameraConfig
from edge.types import Frame, Intrinsics
from tests.support.broker import wait_until

REPOSITORY = Path(__file__).resolve().parents[3]
FRAME_S = 60.0  # ends a hang; a healthy camera answers in milliseconds


def folder_camera(
    folder: Path, *, fps: int = 120, loop: bool = False, live: bool = False
) -> SupervisedCamera:
    config = CameraConfig(kind="folder", path=folder.name, fps=fps)
    return supervised_camera(config, folder.parent, loop=loop, live=live)


def open_descriptors() -> int:
    gc.collect()  # what earlier tests left to the collector must not close in between
    return len(list(Path("/proc/self/fd").iterdir()))


def play_all(camera: Camera) -> list[Frame]:
    frames = []
    with opened(camera):
        while True:
            try:
                frames.append(camera.next_frame(FRAME_S))
            except EndOfFrames:
                return frames


def ask_on(camera: Camera, timeout_s: float) -> None:
    """Until it raises: frames may be on their way when its process is hit."""
    while True:
        camera.next_frame(timeout_s)


def assert_same(frames: list[Frame], expected: list[Frame]) -> None:
    assert len(frames) == len(expected)
    for frame, one in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.color, one.color)
        np.testing.assert_array_equal(frame.depth, one.depth)
        assert (frame.unit, frame.intrinsics, frame.serial) == (
            one.unit,
            one.intrinsics,
            one.serial,
        )
        assert (frame.frame_number, frame.clock_domain) == (one.frame_number, one.clock_domain)
        assert (frame.exposure_us, frame.gain) == (one.exposure_us, one.gain)


def test_every_frame_of_a_folder_crosses_unchanged_and_owns_its_bytes(frame_folder) -> None:
    folder = frame_folder(8, camera={"serial": "virtual-x", "exposure_us": 8000.0, "gain": 16.0})
    frames = play_all(folder_camera(folder))
    assert_same(frames, play_all(FolderCamera(folder)))
    assert all(frame.color.flags.owndata for frame in frames)


def test_it_tells_what_the_camera_tells(frame_folder) -> None:
    folder = frame_folder(2, camera={"serial": "virtual-x", "exposure_us": 8000.0})
    with opened(FolderCamera(folder)) as inside, opened(folder_camera(folder)) as outside:
        assert (outside.serial, outside.info) == (inside.serial, inside.info)


def test_a_consumer_that_takes_its_time_loses_no_frame_of_files_and_gets_none_that_is_old(
    frame_folder,
) -> None:
    with opened(folder_camera(frame_folder(4))) as camera:
        previous = None
        for number in range(1, 5):
            time.sleep(0.2)
            frame = camera.next_frame(FRAME_S)
            assert frame.frame_number == number
            assert find_staleness(previous, frame, time.monotonic_ns(), 60_000) is None
            previous = frame
        assert camera.dropped == 0


def test_a_live_camera_gives_the_newest_frame_and_counts_the_others(frame_folder) -> None:
    with opened(folder_camera(frame_folder(4), loop=True, live=True)) as camera:
        last = camera.next_frame(FRAME_S).frame_number
        for _ in range(3):
            time.sleep(0.3)  # 36 frames: more than any slot holds
            number = camera.next_frame(FRAME_S).frame_number
            assert number > last + 1
            last = number
        wait_until(lambda: camera.next_frame(FRAME_S).frame_number > 150, 60, "it stopped")
        assert camera.dropped > 30


@pytest.mark.parametrize("live", [False, True])
def test_frames_of_other_sizes_and_without_depth_cross_in_memory_made_anew(
    stand_in, live: bool
) -> None:
    """No data set has images of two sizes, but a camera may be set anew under the station."""
    camera = stand_in("""
        import numpy as np
        from edge.camera.child import Feed, play
        from edge.camera.wire import Hello, Order
        from edge.camera.protocol import EndOfFrames
        from edge.frames.camera_info import CameraInfo
        from edge.types import Frame, Intrinsics
        sizes = [(64, 96), (64, 96), (480, 640), (32, 48), (720, 1280), (64, 96)]
        class Camera:
            serial, info, count = "1", CameraInfo(width=96, height=64), 0
            def open(self): pass
            def close(self): pass
            def next_frame(self, timeout_s):
                if self.count == len(sizes): raise EndOfFrames("all")
                size, self.count = sizes[self.count], self.count + 1
                depth = np.full(size, 1000 + self.count, np.uint16) if self.count % 2 else None
                color = np.full((*size, 3), self.count, np.uint8)
                return Frame(
                    color, depth, 0.001, Intrinsics(96, 64, 9, 9, 4, 4), "1",
                    self.count, self.count)
        order = Order.model_validate_json(connection.recv(65536))
        feed = Feed(connection, order.live)
        feed.send(Hello())
        play(feed, Camera(), order.live)
        """)
    camera._order = camera._order.model_copy(update={"live": live})
    frames = play_all(camera)
    sizes = [(64, 96), (64, 96), (480, 640), (32, 48), (720, 1280), (64, 96)]
    assert frames[-1].frame_number == 6
    assert live or [frame.frame_number for frame in frames] == [1, 2, 3, 4, 5, 6]
    for frame in frames:
        assert frame.color.shape == (*sizes[frame.frame_number - 1], 3)
        assert (frame.color == frame.frame_number).all()
        assert (frame.depth is None) == (frame.frame_number % 2 == 0)
        assert frame.depth is None or (frame.depth == 1000 + frame.frame_number).all()


def test_the_virtual_realsense_crosses_too(frame_folder) -> None:
    pytest.importorskip(
        "pyrealsense2", reason="the virtual camera is librealsense's software device"
    )
    folder = frame_folder(6)
    config = CameraConfig(kind="virtual", path=str(folder), fps=120)
    frames = play_all(supervised_camera(config, folder.parent))
    expected = play_all(FolderCamera(folder))
    assert [frame.frame_number for frame in frames] == list(range(1, 7))
    for frame, one in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.color, one.color)
        np.testing.assert_array_equal(frame.depth, one.depth)


# --- errors keep their class and their sentence ---


def tree(base: type[EdgeError]) -> list[type[EdgeError]]:
    return [base, *(deeper for direct in base.__subclasses__() for deeper in tree(direct))]


@pytest.mark.parametrize(
    "error",
    [one for one in tree(EdgeError) if one.__module__ == errors.__name__ or one is EndOfFrames],
)
def test_errors_survive_the_crossing(error: type[EdgeError]) -> None:
    crossed = failure_of(error("camera 42: what happened, and what to do")).exception()
    assert type(crossed) is error
    assert str(crossed) == "camera 42: what happened, and what to do"


def test_a_file_that_may_not_be_read_is_one_sentence() -> None:
    crossed = failure_of(
        PermissionError(13, "Permission denied", "/data/0000_color.png")
    ).exception()
    assert type(crossed) is DataError
    assert str(crossed).startswith("/data/0000_color.png cannot be used, permission denied")


def test_a_bug_keeps_its_traceback() -> None:
    try:
        {}["intrinsics"]
    except KeyError as error:
        crossed = failure_of(error).exception()
    assert not isinstance(crossed, EdgeError)
    assert "test_supervised.py" in str(crossed)
    assert "KeyError: 'intrinsics'" in str(crossed)


def test_what_cannot_be_opened_is_refused_as_in_this_process(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        folder_camera(tmp_path / "nowhere").open()
    with pytest.raises(ConfigError, match=r"camera\.path"):
        supervised_camera(CameraConfig(kind="folder"), tmp_path).open()


def test_a_missing_camera_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyrealsense2.py").write_text(
        "raise ImportError('libusb-1.0.so.0: cannot open shared object file')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingDependency, match=r"libusb-1\.0\.so\.0"):
        supervised_camera(CameraConfig(), tmp_path).open()


def test_an_image_that_vanishes_in_mid_play_is_named(frame_folder) -> None:
    folder = frame_folder(4)
    with opened(folder_camera(folder)) as camera:
        camera.next_frame(FRAME_S)
        (folder / "0002_color.png").unlink()
        camera.next_frame(FRAME_S)
        with pytest.raises(DataError, match="0002_color"):
            camera.next_frame(FRAME_S)


def test_a_damaged_recording_is_one_sentence_and_nothing_of_librealsenses(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyrealsense2", reason="librealsense plays recordings")
    (tmp_path / "broken.db3").write_bytes(b"SQLite format 3\0" + b"not a database" * 500)
    camera = supervised_camera(CameraConfig(kind="recording", path="broken.db3"), tmp_path)
    with pytest.raises(DataError) as refused:
        camera.open()
    assert (
        str(refused.value)
        == f"{tmp_path}/broken.db3 cannot be played by librealsense: it is damaged, cut short, or"
        " of another format. Record it again, as .db3"
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"color": np.zeros((64, 96), np.uint8)}, r"color is uint8 of shape \(64, 96\)"),
        ({"color": np.zeros((64, 96, 4), np.uint8)}, r"color is uint8 of shape \(64, 96, 4\)"),
        ({"color": np.zeros((0, 96, 3), np.uint8)}, r"color is uint8 of shape \(0, 96, 3\)"),
        ({"color": np.zeros((64, 96, 3), np.uint16)}, "color is uint16"),
        ({"depth": np.zeros((64, 96, 1), np.uint16)}, r"depth is uint16 of shape \(64, 96, 1\)"),
        ({"depth": np.zeros((64, 96), np.float32)}, "depth is float32"),
        ({"unit": float("nan")}, "its depth unit is nan m"),
        ({"unit": 0.0}, "its depth unit is 0.0 m"),
        ({"unit": float("inf")}, "its depth unit is inf m"),
        ({"unit": -0.001}, "its depth unit is -0.001 m"),
    ],
)
def test_what_a_driver_delivers_and_is_no_frame_is_a_lost_camera(
    change: dict[str, object], said: str
) -> None:
    whole = Frame(
        np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint16), 0.001,
        Intrinsics(96, 64, 9, 9, 4, 4), "1", 1, 1,
    )  # fmt: skip
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        feed = Feed(theirs, live=True)
        feed.deliver(whole)
        with pytest.raises(CameraLost, match=f"a damaged frame: {said}"):
            feed.deliver(replace(whole, **change))


# --- a process that dies, hangs or talks nonsense ---


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGSEGV, r"driver crashed \(SIGSEGV\)"),
        (signal.SIGABRT, r"driver crashed \(SIGABRT\)"),
        (signal.SIGKILL, "ended by SIGKILL"),
    ],
)
def test_a_crash_is_a_lost_camera_with_the_signals_name(
    frame_folder, number: signal.Signals, said: str
) -> None:
    camera = folder_camera(frame_folder(4), loop=True)
    with opened(camera):
        camera.next_frame(FRAME_S)
        assert camera.pid is not None
        os.kill(camera.pid, number)
        with pytest.raises(CameraLost, match=said):
            ask_on(camera, FRAME_S)
    with opened(camera):  # the next opening starts a new one
        assert camera.next_frame(FRAME_S).frame_number == 1


def test_a_process_that_stands_still_is_overdue_and_closing_it_kills_it(frame_folder) -> None:
    camera = folder_camera(frame_folder(4), loop=True)
    with opened(camera):
        camera.next_frame(FRAME_S)
        child = psutil.Process(camera.pid)
        child.suspend()
        with pytest.raises(FrameOverdue, match="no frame within"):
            ask_on(camera, 0.3)
    assert not child.is_running()


def test_a_process_that_was_only_slow_goes_on(frame_folder) -> None:
    with opened(folder_camera(frame_folder(4))) as camera:
        camera.next_frame(FRAME_S)
        child = psutil.Process(camera.pid)
        child.suspend()
        with pytest.raises(FrameOverdue):
            camera.next_frame(0.1)
        child.resume()
        assert camera.next_frame(FRAME_S).frame_number == 2


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a script in the place of the camera's process; `connection` is its end of the socket."""

    def put(*steps: str) -> SupervisedCamera:
        head = "import os, socket, sys, time\nconnection = socket.socket(fileno=int(sys.argv[1]))"
        path = tmp_path / "stand_in.py"
        path.write_text("\n".join([head, *map(textwrap.dedent, steps)]))
        monkeypatch.setattr(camera_process, "CHILD", (str(path),))
        monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
        return supervised_camera(CameraConfig(kind="folder", path="belt"), tmp_path)

    return put


HELLO = """
    import fcntl, json
    def tell(kind, *fds, **fields):
        socket.send_fds(connection, [json.dumps({"kind": kind, **fields}).encode()], fds)
    tell("hello")
"""
OPEN = f"""{HELLO}
    tell("opened", serial="1", info={{"width": 8, "height": 8}})
    memory = os.memfd_create("ring", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 4096)
    fcntl.fcntl(memory, 1033, 7)
    made = {{"number": 0, "slots": 1, "slot_bytes": 4096}}
    def fill(**changes):
        tell("filled", **{{**dict(
            ring=0, slot=0, color=(8, 8, 3), depth=None, dropped=0, unit=0.001,
            pinhole=(8, 8, 9.0, 9.0, 4.0, 4.0),
            serial="1", frame_number=1, captured_mono_ns=1, clock_domain="file",
            exposure_us=None, gain=None),
            **changes}})
"""
HANG = "time.sleep(600)"
NONSENSE = [
    ("connection.send(b'\\x00garbage')", "an invalid message"),
    ('connection.send(b\'{"kind": "filled"}\')', "an invalid message"),
    ("connection.send(b'x' * 65000)", "an invalid message"),
    ("connection.shutdown(socket.SHUT_RDWR)", "closed its end"),
    ("tell('hello')", "out of turn"),
    ("fill()", "memory that it never handed over"),
    ("tell('ring', **made)", "unexpected file descriptors"),
    ("tell('hello', memory)", "unexpected file descriptors"),
    ("tell('ring', memory, **made); fill(ring=7)", "memory that it never handed over"),
    ("tell('ring', memory, **made); fill(slot=3)", "does not fit"),
    ("tell('ring', memory, **made); fill(color=(8000, 8000, 3))", "does not fit"),
    ("tell('ring', os.memfd_create('soft'), **made)", "change its size"),
    (
        "sys.exit('ImportError: no module named numpy')",
        "exit code 1: ImportError: no module named numpy",
    ),
    ("os._exit(0)", "exit code 0: it said nothing"),
]


@pytest.mark.parametrize(("script", "said"), NONSENSE)
def test_nonsense_from_the_process_is_a_lost_camera(stand_in, script: str, said: str) -> None:
    camera = stand_in(OPEN, script, HANG)
    with opened(camera), pytest.raises(CameraLost, match=said):
        camera.next_frame(FRAME_S)


def test_why_the_camera_was_lost_is_heard_though_its_driver_does_not_return_from_closing_it(
    stand_in,
) -> None:
    camera = stand_in("""
        from edge.camera.child import Feed, play
        from edge.camera.wire import Hello
        from edge.errors import CameraLost
        from edge.frames.camera_info import CameraInfo
        class Camera:
            serial, info = "1", CameraInfo(width=96, height=64)
            def open(self): pass
            def close(self): time.sleep(600)
            def next_frame(self, timeout_s):
                raise CameraLost("camera 1: xioctl failed. Check the USB 3 cable")
        feed = Feed(connection, live=False)
        connection.recv(65536)
        feed.send(Hello())
        play(feed, Camera(), live=False)
        """)
    with opened(camera), pytest.raises(CameraLost, match="xioctl failed"):
        camera.next_frame(FRAME_S)


def test_the_last_words_of_a_process_are_heard_though_it_is_gone(stand_in) -> None:
    """It leaves messages of the station unread, which the kernel reports before it hands out what
    was said.
    """
    camera = stand_in(
        HELLO, "tell('failed', error='DataError', text='0002_color.png is damaged')", "os._exit(0)"
    )
    with pytest.raises(DataError, match="0002_color"):
        camera.open()


def test_a_frame_named_twice_and_descriptors_of_a_lost_camera_leave_nothing_open(stand_in) -> None:
    before = open_descriptors()
    camera = stand_in(OPEN, "tell('ring', memory, **made); fill(); fill()", HANG)
    with opened(camera):
        assert camera.next_frame(FRAME_S).color.shape == (8, 8, 3)
    assert camera.pid is None
    assert open_descriptors() <= before


def test_a_process_that_never_says_a_word_is_given_up(
    stand_in, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "HELLO_S", 0.3)
    with pytest.raises(CameraLost, match="is not open after"):
        stand_in(HANG).open()


@pytest.mark.parametrize("stage", ["", HELLO])
def test_a_process_that_is_stopped_while_it_starts_is_given_up_at_once(
    stand_in, stage: str
) -> None:
    """And not after the 20 s that a slow disk, or a driver, may take."""
    camera = stand_in(stage, "import signal; os.kill(os.getpid(), signal.SIGSTOP)", HANG)
    began_s = time.monotonic()
    with pytest.raises(CameraLost, match="stopped by a signal"):
        camera.open()
    assert time.monotonic() - began_s < 15.0


def test_a_driver_that_does_not_return_from_opening_is_killed(
    stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "OPEN_S", 0.3)
    told = tmp_path / "pid"
    camera = stand_in(f"open({str(told)!r}, 'w').write(str(os.getpid()))", HELLO, HANG)
    with pytest.raises(CameraLost, match="is not open after"):
        camera.open()
    assert not psutil.pid_exists(int(told.read_text()))


def test_opening_that_takes_long_is_waited_for_as_long_as_it_works(
    stand_in, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set of thousands of images: slow, and not hanging."""
    monkeypatch.setattr(supervised, "HELLO_S", 0.5)
    steps: list[float] = []
    camera = stand_in("while time.process_time() < 1.0: pass", OPEN, HANG)
    camera._moved = lambda: steps.append(time.monotonic())
    with opened(camera):
        assert camera.serial == "1"
    assert len(steps) > 2


def test_its_log_lines_are_passed_on_and_what_a_library_prints_is_not(
    stand_in, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    camera = stand_in(
        """
        import logging
        from edge.camera.child import LogLines
        lines = logging.StreamHandler()
        lines.setFormatter(LogLines())
        logging.getLogger().addHandler(lines)
        logging.getLogger("edge.camera.realsense").warning("the driver is slow\\nand has two lines")
        print(" 29/11 12:00:00,123 ERROR [140] (backend-v4l2.cpp:123) xioctl failed", flush=True)
        os.write(2, b"\\xff\\xfe no text at all\\nedge-log {}\\nedge-log nonsense\\n")
        os.write(2, b"x" * 50_000)
        """,
        OPEN,
        HANG,
    )
    with opened(camera):
        pass
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [
        ("edge.camera.realsense", "WARNING", "the driver is slow\nand has two lines")
    ]


# --- the process's own life ---


def test_it_has_a_name_and_holds_nothing_of_the_station(frame_folder, tmp_path: Path) -> None:
    """Neither the lock of the root nor its database: whoever is left over could keep them from the
    next station.
    """
    with (
        (tmp_path / "run.lock").open("w") as lock,
        opened(folder_camera(frame_folder(2))) as camera,
    ):
        os.set_inheritable(lock.fileno(), True)
        camera.close()
        camera.open()
        folder = Path(f"/proc/{camera.pid}")
        assert (folder / "comm").read_text().strip() == "edge-camera"
        assert "edge.camera.child" in (folder / "cmdline").read_text()
        held = {str(fd.readlink()) for fd in (folder / "fd").iterdir()}
        assert not [
            name for name in held if name.startswith(str(tmp_path)) and "frames" not in name
        ]


def test_closing_ends_it_and_leaves_no_descriptor_open(frame_folder) -> None:
    camera = folder_camera(frame_folder(2))
    before = open_descriptors()
    for _ in range(2):
        camera.open()
        camera.next_frame(FRAME_S)
        child = psutil.Process(camera.pid)
        camera.close()
        camera.close()
        assert not child.is_running()
    assert open_descriptors() <= before
    with pytest.raises(CameraLost, match="not open"):
        camera.next_frame(FRAME_S)


@pytest.mark.parametrize("hanging", [False, True])
def test_it_dies_with_a_station_that_is_killed(frame_folder, hanging: bool) -> None:
    """Also while it hangs in a call of a driver, and sees nothing of the socket."""
    folder = frame_folder(2)
    script = f"""
        import sys, time
        from tests.edge.camera.test_supervised import folder_camera
        from pathlib import Path
        camera = folder_camera(Path({str(folder)!r}), loop=True)
        camera.open()
        print(camera.pid, flush=True)
        time.sleep(600)"""
    station = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert station.stdout is not None
        child = psutil.Process(int(station.stdout.readline()))
        if hanging:
            child.suspend()
    finally:
        station.kill()
        station.communicate()
    wait_until(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE,
        60,
        "it outlived the station",
    )


def test_a_station_that_ends_leaves_none_behind_that_still_loads_its_libraries(
    frame_folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it has asked the kernel to die with the station; the capture thread waits for its
    first word.
    """
    monkeypatch.setattr(camera_process, "CHILD", ("-c", "import time; time.sleep(600)"))
    mailbox, stopping = Mailbox(), threading.Event()
    camera = folder_camera(frame_folder())
    station = SimpleNamespace(manifest=SimpleNamespace(camera=None))
    capture = Capture(lambda _: camera, lambda: station, mailbox, stopping)
    thread = threading.Thread(target=capture.run, daemon=True)
    thread.start()
    wait_until(lambda: camera.pid is not None, 60, "no process was started")
    pid = camera.pid
    stopping.set()
    capture.abandon()
    thread.join(60)
    assert not thread.is_alive()
    assert not Path(f"/proc/{pid}").exists()
    assert mailbox.take(0) is None, "the station, which killed it, expects no message about that"
