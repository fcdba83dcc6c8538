"""packaging/environment, with tiny wheels in a folder of its own: the environment of the station is
made beside the one in use, without network, and put to use by one rename.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from scripts import make_deb
from scripts.wheelhouse import TARGETS
from tests.support.tiny_deb import PROGRAM, fill_tiny_wheels
from tests.support.tiny_wheels import make_sdist, make_wheel

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "CUDA_HOME": "/nonexistent"}
SYSTEM = shutil.which("python3", path="/usr/bin")

pytestmark = pytest.mark.skipif(SYSTEM is None, reason="/usr/bin/python3 is not installed")


class Home:
    """A folder as /opt/edge is after the package's files were unpacked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wheels = folder, folder / "wheels"
        (folder / "bin").mkdir(parents=True)
        shutil.copy(make_deb.ROOT / "packaging/environment", folder / "bin")
        self.unpack("1.0")

    def unpack(self, version: str, program: str = PROGRAM, megabytes: int = 1) -> None:
        """The wheels of another version of the package, in place of those of the last one."""
        shutil.rmtree(self.wheels, ignore_errors=True)
        fill_tiny_wheels(self.wheels, version, program)
        make_deb.describe_wheels(TARGETS["bookworm-amd64"], self.wheels)
        python = subprocess.check_output(
            [SYSTEM, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True
        )
        described = f'python={python.strip()}\nmegabytes={megabytes}\ntarget="here"\n'
        (self.wheels / "target").write_text(described)

    def environment(self, verb: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess:
        """Run the command, as maintainer scripts do."""
        return subprocess.run(
            self.command(verb), capture_output=True, text=True, env=ENVIRONMENT | {"PATH": path}
        )

    def command(self, verb: str) -> list[str]:
        return ["/bin/sh", str(self.folder / "bin/environment"), verb]

    def answers(self) -> str:
        """What `edge` prints."""
        program = self.folder / "venv/bin/edge"
        answer = subprocess.run([program], capture_output=True, text=True, env=ENVIRONMENT)
        return answer.stdout.strip() or answer.stderr

    def environments(self) -> set[str]:
        return {path.name for path in (self.folder / "venvs").iterdir()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "edge")


def test_made_once_used_at_once_and_replaced_by_a_rename(home: Home) -> None:
    made = home.environment("make")
    assert (made.returncode, home.answers()) == (0, "edge 1.0"), made.stderr
    first = (home.folder / "venv").readlink()
    again = home.environment("make")
    assert (again.returncode, (home.folder / "venv").readlink()) == (0, first)
    assert "making" not in again.stdout
    home.unpack("1.1")
    assert home.environment("make").returncode == 0
    assert home.answers() == "edge 1.1"
    assert (home.folder / first / "bin/edge").exists(), "what runs may still need it"


def test_tidy_leaves_what_a_process_still_uses(home: Home) -> None:
    home.environment("make")
    first = (home.folder / "venv").resolve()
    library = first / "in_use.so"
    library.write_bytes(b"as if loaded")
    runs = subprocess.Popen(
        [SYSTEM, "-c", f"import mmap, sys; f = open({str(library)!r}, 'rb');"
         "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ);"
         "print(1, flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert runs.stdout is not None
    runs.stdout.readline()
    home.unpack("1.1")
    home.environment("make")
    home.environment("tidy")
    assert len(home.environments()) == 2
    runs.communicate()
    home.environment("tidy")
    assert home.environments() == {(home.folder / "venv").readlink().name}


@pytest.mark.long
@pytest.mark.parametrize("fault", ["damaged wheel", "does not start", "no space"])
def test_what_cannot_be_made_leaves_the_one_in_use(home: Home, fault: str) -> None:
    home.environment("make")
    said = {
        "damaged wheel": "was not made",
        "does not start": "does not work",
        "no space": "MB free",
    }
    program = "raise ImportError('libcuda')" if fault == "does not start" else PROGRAM
    home.unpack("1.1", program, megabytes=10**9 if fault == "no space" else 1)
    if fault == "damaged wheel":
        make_wheel(home.wheels, "ours", "1.1", modules={"edge.py": "half of it"})
    failed = home.environment("make")
    assert (failed.returncode, home.answers()) == (1, "edge 1.0")
    assert said[fault] in failed.stderr
    assert "dpkg --configure -a" in failed.stderr or fault == "does not start"
    home.unpack("1.1")
    assert home.environment("make").returncode == 0
    assert home.answers() == "edge 1.1"


@pytest.mark.long
def test_ended_at_any_moment_the_next_call_starts_over(home: Home) -> None:
    home.environment("make")
    home.unpack("1.1")
    delay_s, kills = 0.02, 0
    while True:
        made = subprocess.Popen(
            home.command("make"), env=ENVIRONMENT, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert made.wait(delay_s) == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(made.pid, signal.SIGKILL)
            made.wait()
            kills += 1
        assert home.answers() in ("edge 1.0", "edge 1.1")
        delay_s *= 1.5
    assert kills > 3
    assert home.answers() == "edge 1.1"
    home.environment("tidy")
    assert home.environments() == {(home.folder / "venv").readlink().name}


def with_nvcc(folder: Path, release: str = "12.6") -> str:
    """A PATH on which nvcc tells its release."""
    folder.mkdir(exist_ok=True)
    (folder / "nvcc").write_text(f"#!/bin/sh\necho release {release}\n")
    (folder / "nvcc").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def has_pycuda(home: Home) -> bool:
    program = [home.folder / "venv/bin/python", "-I", "-c", "import pycuda"]
    return subprocess.run(program, stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.long
def test_pycuda_is_compiled_where_nvcc_is_and_anew_for_another_cuda(
    home: Home, tmp_path: Path
) -> None:
    without = home.environment("make")
    assert "no nvcc here" in without.stderr
    assert not has_pycuda(home)
    compiled = home.environment("make", with_nvcc(tmp_path / "cuda"))
    assert "compiling pycuda" in compiled.stderr
    assert has_pycuda(home)
    assert "compiling" not in home.environment("make", with_nvcc(tmp_path / "cuda")).stderr
    newer = home.environment("make", with_nvcc(tmp_path / "cuda", "13.2"))
    assert "compiling pycuda" in newer.stderr
    assert len(list((home.folder / "pycuda").iterdir())) == 2
    home.environment("tidy")
    (left,) = (home.folder / "pycuda").iterdir()
    again = home.environment("make", with_nvcc(tmp_path / "cuda", "13.2"))
    assert ("compiling" in again.stderr, left.is_dir()) == (False, True)
    home.environment("make")  # without CUDA nothing of it is in use
    home.environment("tidy")
    assert not list((home.folder / "pycuda").iterdir())


@pytest.mark.long
def test_pycuda_that_does_not_compile_is_one_sentence_and_the_station_works(
    home: Home, tmp_path: Path
) -> None:
    make_sdist(home.wheels, "pycuda", broken=True)
    made = home.environment("make", with_nvcc(tmp_path / "cuda"))
    assert (made.returncode, home.answers()) == (0, "edge 1.0")
    assert f"{home.folder}/pycuda.log says why" in made.stderr
    assert "no CUDA" in (home.folder / "pycuda.log").read_text()
