"""Every cut of an act: one run of it is recorded, and what each cut leaves is rebuilt from the
record.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.cuts.disk import Call, Disk, Snapshot, Tree, key_of, read_log

REPOSITORY = Path(__file__).resolve().parents[3]
SHIM = Path(__file__).with_name("shim.c")
MEMORY = Path("/dev/shm")  # a file system in memory, where a sync costs nothing


@dataclass(frozen=True)
class Cut:
    """What one cut leaves. where: for a failing test to say; told: all that was told before it."""

    is_kill: bool  # SIGKILL; else a power cut
    where: str
    told: tuple[str, ...]
    tree: Tree


@dataclass(frozen=True)
class Recording:
    """One run of an act. before: what lay under root, end: what it left where nothing was cut."""

    name: str
    root: str
    before: Snapshot
    end: Snapshot
    calls: list[Call]

    def cuts(self) -> Iterator[Cut]:
        """SIGKILL and power cuts before, within and after every call, in order; the same tree may
        come many times.
        """
        disk, told, number = Disk(self.root, self.before), (), 0
        yield from _cuts_here(disk, "before the first call", told)
        for call in self.calls:
            if call.op == "K":
                told = (*told, call.first.decode())
                yield from _cuts_here(disk, f"after {told[-1]!r} was told", told)
                continue
            with disk.within(call) as is_half:
                if is_half:
                    yield from _cuts_here(disk, f"within call {number + 1}, {_words(call)}", told)
            if disk.apply(call):
                number += 1
                yield from _cuts_here(disk, f"after call {number}, {_words(call)}", told)
        self._require_complete(disk)

    def distinct(self) -> tuple[int, list[Cut]]:
        """How many cuts there are, and one for each tree that they leave: the last, before which
        the most was told.
        """
        count, last = 0, dict[tuple[bool, int], Cut]()
        for cut in self.cuts():
            count += 1
            last[cut.is_kill, key_of(cut.tree)] = cut
        return count, list(last.values())

    def before_tree(self) -> Tree:
        return Disk(self.root, self.before).after_kill()

    def end_tree(self) -> Tree:
        return Disk(self.root, self.end).after_kill()

    def _require_complete(self, disk: Disk) -> None:
        """The record has every call that mattered: replayed, it makes what really lay there at the
        end.
        """
        replayed, real = disk.after_kill(), self.end_tree()
        different = sorted(
            path for path in {*replayed, *real} if replayed.get(path) != real.get(path)
        )
        assert not different, f"the record of {self.name} lacks calls that changed {different}"


def _cuts_here(disk: Disk, where: str, told: tuple[str, ...]) -> Iterator[Cut]:
    yield Cut(True, f"killed {where}", told, disk.after_kill())
    for rule, tree in disk.after_power_cuts():
        yield Cut(False, f"power cut {where} ({rule})", told, tree)


def _words(call: Call) -> str:
    names = {
        "C": "create",
        "W": "write",
        "Z": "truncate",
        "F": "sync",
        "H": "chmod",
        "M": "mkdir",
        "S": "symlink",
        "R": "rename",
        "L": "link",
        "U": "remove",
    }
    return f"{names[call.op]} {os.fsdecode(call.first) or f'inode {call.inode}'}"


def record(module: str, names: Sequence[str], work: Path, files: Path) -> dict[str, Recording]:
    """Run acts of a module once each, in a process of their own that the shim watches."""
    shim = work / "shim.so"
    compiler = shutil.which("gcc") or shutil.which("g++")
    assert compiler is not None, "no C compiler: scripts/install.sh installs g++"
    language = ["-x", "c", SHIM] if compiler.endswith("gcc") else [SHIM]
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", shim, *language, "-lpthread"], check=True
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "LD_PRELOAD": str(shim),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "tests.support.cuts.recorder",
        module,
        str(work),
        str(files),
        *names,
    ]
    end = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=REPOSITORY)
    assert end.returncode == 0, end.stderr
    return {name: _read(name, work) for name in names}


def _read(name: str, work: Path) -> Recording:
    root, before, end = pickle.loads((work / f"{name}.snapshots").read_bytes())
    return Recording(name, root, before, end, read_log(work / f"{name}.log"))


@contextmanager
def workplace(fallback: Path) -> Iterator[Path]:
    """A folder in memory where the machine has one, else `fallback`: thousands of roots are made
    and removed in it.
    """
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < 256 << 20:
        yield fallback
        return
    with tempfile.TemporaryDirectory(prefix="edge-cuts-", dir=MEMORY) as folder:
        yield Path(folder)
