"""Carry out acts in a process that the shim is preloaded into, and keep for each what Disk needs to
cut it anywhere.

    LD_PRELOAD=shim.so python -m tests.support.cuts.recorder MODULE WORK FILES NAME...

MODULE has ACTS, a mapping from NAME to an Act. FILES: bundles and keys that the acts use. For each
NAME, WORK/NAME.log and WORK/NAME.snapshots appear; the latter holds the root's path and what lay
under it before and after.
"""

from __future__ import annotations

import ctypes
import importlib
import pickle
import sys
from pathlib import Path

from edge.install import proving
from edge.install.measure_engine import measure_engine
from tests.support.cuts.act import Act
from tests.support.cuts.disk import snapshot


def record(act: Act, name: str, work: Path, files: Path, shim: ctypes.CDLL) -> None:
    root = work / f"{name}-root"
    root.mkdir()
    act.prepare(root, files)
    before = snapshot(root)
    shim.cuts_start(str(work / f"{name}.log").encode(), root.stat().st_dev)
    act.run(root, files, lambda text: shim.cuts_mark(text.encode()))
    shim.cuts_mark(b"returned")
    shim.cuts_stop()
    (work / f"{name}.snapshots").write_bytes(pickle.dumps((str(root), before, snapshot(root))))


def main() -> None:
    shim = ctypes.CDLL(None)
    shim.cuts_start.argtypes = [ctypes.c_char_p, ctypes.c_uint64]
    # a process of its own takes a second, and writes nothing under the root
    proving.measure_in_child = measure_engine
    module, work, files, *names = sys.argv[1:]
    for name in names:
        record(importlib.import_module(module).ACTS[name], name, Path(work), Path(files), shim)


if __name__ == "__main__":
    main()
