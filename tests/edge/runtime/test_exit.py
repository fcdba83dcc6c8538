"""How the command ends: with the code that is meant, whatever threads of libraries still run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.support.broker import wait_until
from tests.support.fakes import committed
from tests.support.process import REPOSITORY, running_process
from tests.support.station import StationRoot, belt, write_belt


def command(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`edge WORDS` in a process that ran `script` first."""
    begun = f"{textwrap.dedent(script)}\nimport sys\nsys.argv[1:] = {list(words)}\n"
    whole = f"{begun}from edge.__main__ import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", whole], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )


NATIVE = """
import atexit, os
def as_cxx_does():
    os.write(2, b"terminate called without an active exception\\n")
    os.abort()
atexit.register(as_cxx_does)
"""


def test_libraries_are_not_taken_down_behind_the_work(tmp_path: Path) -> None:
    """What onnxruntime or librealsense do when the interpreter ends under their threads: two runs
    in five ended so.
    """
    done = command(NATIVE, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "inspect" in done.stdout, "what was printed is out"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "--root", "nowhere"], 1, "edge: no bundle is installed under nowhere"),
        (["bundle", "show", "nowhere.bundle"], 1, "edge: nowhere.bundle"),
        (["run", "--no-such-option"], 2, "No such option"),
        (["nosuch"], 2, "No such command"),
    ],
)
def test_errors_keep_their_code_and_their_sentence(words: list[str], code: int, said: str) -> None:
    done = command(NATIVE, *words)
    assert done.returncode == code
    assert said in done.stderr
    assert "terminate" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback_and_is_no_success() -> None:
    done = command("import edge.cli\nedge.cli.app = lambda: {}['key']\n" + NATIVE)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "KeyError: 'key'" in done.stderr
    assert "terminate" not in done.stderr


def test_output_that_the_disk_does_not_take_is_no_success() -> None:
    words = [sys.executable, "-c", "import edge.__main__\nprint('a table')\nedge.__main__.leave(0)"]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words,
            cwd=REPOSITORY,
            env=buffered,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "edge: its output cannot be written: No space left on device\n",
    )


SIGNALS = """
import os, signal, sys, time
from edge.runtime.stopping import StopSignals
signals = StopSignals()
signals.install()
os.kill(os.getpid(), signal.{first})
assert signals.name == "{first}"
{then}
sys.exit(0)
"""


@pytest.mark.parametrize(
    ("first", "then", "code"),
    [
        ("SIGTERM", "", 0),
        ("SIGINT", "", 0),
        ("SIGTERM", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", 128 + signal.SIGTERM),
        ("SIGINT", "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", 128 + signal.SIGINT),
        ("SIGINT", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", 128 + signal.SIGTERM),
    ],
)
def test_a_signal_is_remembered_and_the_second_ends_at_once(
    first: str, then: str, code: int
) -> None:
    script = SIGNALS.format(first=first, then=then)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.endurance
def test_asked_before_it_has_an_engine_it_ends_with_0(station: StationRoot, tmp_path: Path) -> None:
    station.configure("folder", write_belt(tmp_path / "belt", belt([8])))
    with running_process(station, tmp_path / "log") as process:
        lock = station.root / "var/lib/edge/run.lock"
        wait_until(lambda: lock.exists() or process.poll() is not None, 60, "no lock")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()


@pytest.mark.endurance
def test_asked_while_the_camera_hangs_it_ends_with_0_and_takes_the_cameras_process_along(
    station: StationRoot, tmp_path: Path
) -> None:
    station.configure("folder", write_belt(tmp_path / "belt", belt([8, 8])), more="fps = 60\n")
    with running_process(station, tmp_path / "log") as process:
        wait_until(lambda: committed(station.root), 60, "no part")
        (camera,) = psutil.Process(process.pid).children()
        assert camera.name() == "edge-camera"
        camera.suspend()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
        wait_until(lambda: not camera.is_running(), 60, "the camera's process is left over")
    log = (tmp_path / "log").read_text()
    assert "SIGTERM: stopping" in log
    assert "parts decided" in log
    assert "terminate called" not in log


SIGNALED = """
import builtins, os, signal
load = builtins.__import__
def load_and_be_asked_to_stop(name, *rest, **options):
    if name == "edge.cli":
        os.kill(os.getpid(), signal.SIGNAME)
    return load(name, *rest, **options)
builtins.__import__ = load_and_be_asked_to_stop
"""


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_asked_to_stop_while_its_modules_are_loaded_it_ends_with_0(
    station: StationRoot, name: str
) -> None:
    station.configure("folder", write_belt(station.root.parent / "belt", belt([6])))
    done = command(SIGNALED.replace("NAME", name), "run", "--root", str(station.root))
    assert (done.returncode, "0 parts decided" in done.stderr) == (0, True)
