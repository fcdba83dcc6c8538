"""Kill a command of the device at its n-th file operation, for every n, and see what the next command finds.

Run as a program, so that every attempt is a real process that really dies: it prints one JSON line per attempt.

    python killer.py WORK_FOLDER PRISTINE_ROOT ACTION [BUNDLE]      ACTION: install or rollback
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from edge.bundle import engines
from edge.bundle.audit import read_audit
from edge.bundle.install import install_bundle
from edge.bundle.measure import measure
from edge.bundle.settle import settle
from edge.bundle.store import Store
from edge.errors import EdgeError

for module in ("onnxruntime", "edge.engine.onnx_cpu", "edge.proof.prove", "securesystemslib.signer"):
    importlib.import_module(module)   # before the forks, so that each of them starts at once
engines.measure_in_child = measure    # a process of its own takes a second, and writes nothing under the root

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate",
           "sqlite3.connect"}


def die_at(operation: int, root: Path) -> None:
    """From now on, SIGKILL this process just before its `operation`-th change under `root` (counting syncs too)."""
    count = 0

    def strike() -> None:
        nonlocal count
        count += 1
        if count == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in CHANGES and any(str(root) in str(argument) for argument in arguments):
            strike()

    sync = os.fsync

    def counted_sync(descriptor: int) -> None:
        strike()
        sync(descriptor)

    os.fsync = counted_sync
    sys.addaudithook(hook)


def in_a_process(work: Callable[[], None]) -> str:
    """Run `work` in a forked process: "done", "killed" or the sentence of its error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(writer, b"done")
        except EdgeError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else said


def names(root: Path) -> list[str]:
    """Every name under the root that is not SQLite's own."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*"))
    return sorted(name for name in found if not name.endswith(("-wal", "-shm")))


def state_of(root: Path) -> dict[str, object]:
    """What a reader sees: no lock, no clearing up."""
    store = Store(root)
    active = None
    if store.active_product() is not None:
        installed = store.active()
        store.verify(installed)
        active = installed.manifest.version
    return {"active": active, "products": store.products()}


def attempt(operation: int, root: Path, pristine: Path, act: Callable[[Path], None]) -> dict[str, object]:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(pristine, root, symlinks=True)

    def killed() -> None:
        die_at(operation, root)
        act(root)

    ended = in_a_process(killed)
    result: dict[str, object] = {"operation": operation, "ended": ended, **state_of(root)}
    result["again"] = in_a_process(lambda: act(root))
    result["after"] = state_of(root)
    result["previous"] = Store(root).link("washer", "previous")
    result["names"] = names(root)
    result["acts"] = [row.act for row in read_audit(root)]
    return result


def main() -> None:
    work, pristine, action = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

    def install(root: Path) -> None:
        install_bundle(Path(sys.argv[4]), root)

    def rollback(root: Path) -> None:
        store = Store(root)
        with store.change("test"):
            settle(store)
        if store.active().manifest.version == "2.0.0":
            store.rollback("washer")

    act = {"install": install, "rollback": rollback}[action]
    for operation in range(1, 1000):
        result = attempt(operation, work / "root", pristine, act)
        print(json.dumps(result), flush=True)
        if result["ended"] != "killed":
            return


if __name__ == "__main__":
    main()
