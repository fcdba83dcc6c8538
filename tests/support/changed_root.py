"""A Debian root that commands run in without being booted, over a folder that is thrown away."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.booted import LIBUSB
from tests.support.patience import HANG_S, patience_s

ROOTS = Path(os.environ.get("EDGE_TEST_ROOTS", Path(__file__).resolve().parents[2] / ".venv/roots"))


class ChangedRoot:
    """Its files are under `root`. A command that ends by SIGKILL takes all it started with it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, command: str) -> subprocess.Popen[str]:
        """A shell's command line in it, as root."""
        return subprocess.Popen(
            ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "--root", self.root,
             "/bin/sh", "-c", command],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip

    def run(self, command: str, code: int | None = 0) -> str:
        """What it printed. code: the exit code that it must have; None: any."""
        process = self.start(command)
        try:
            said = process.communicate(timeout=patience_s(HANG_S))[0]
        finally:
            process.kill()
            process.communicate()
        assert code in (None, process.returncode), said
        return said

    def kill_after(self, command: str, delay_s: float) -> bool:
        """Start a command and end it with SIGKILL; False if it ended well before that."""
        process = self.start(command)
        try:
            said = process.communicate(timeout=delay_s)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
        assert process.returncode == 0, said
        return False


@contextmanager
def changed_root(folder: Path, *above: Path) -> Iterator[ChangedRoot]:
    """A root over `above`, layers that earlier ones left in their folder/upper, and Debian's."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can change into a root")
    if not (ROOTS / "amd64/etc/debian_version").exists():
        pytest.skip(f"there is no Debian root {ROOTS}/amd64: the tests of booted roots make it")
    if not (ROOTS / "amd64" / LIBUSB).exists():
        pytest.skip(f"{ROOTS}/amd64 was made without libusb-1.0-0: remove it, and it is made anew")
    root, lower = folder / "root", ":".join(map(str, [*above, ROOTS / "amd64"]))
    for part in ("root", "upper", "work"):
        (folder / part).mkdir(parents=True)
    layers = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, root], check=True)
    try:
        yield ChangedRoot(root)
    finally:
        subprocess.run(["umount", "--recursive", root], check=True)
