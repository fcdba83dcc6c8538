"""A station's root in a temporary folder, and helpers that run commands on it and compare it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.provision.architecture import architecture
from edge.station.store import Store
from edge.station.trust import trust
from tests.support.tiny_bundle import KeyPair

Bundles = Callable[..., Path]  # (product, version) to a bundle file


@dataclass(frozen=True)
class Answer:
    """The output of a command and its exit code."""

    code: int
    out: str
    err: str


def run_edge(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> Answer:
    """The `edge` command in this process; an error that keeps its traceback is raised here."""
    from edge.cli import run_command

    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["edge", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as end:
        run_command()
    printed = capsys.readouterr()
    return Answer(int(end.value.code or 0), printed.out, printed.err)


def trusting_root(root: Path, key: KeyPair) -> Store:
    """A root that trusts the key and has nothing installed."""
    store = Store(root)
    trust(store, key.public)
    return store


def lay_foreign_system(root: Path) -> None:
    """Lay down one program for a processor other than this machine's."""
    machine = 183 if architecture(Path("/")) != "aarch64" else 62
    program = root / "usr" / "bin" / "env"
    program.parent.mkdir(parents=True)
    program.write_bytes(
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little") + bytes(44)
    )


def snapshot(root: Path) -> dict[str, tuple[str, int, str]]:
    """Everything under `root` by relative name: kind and permissions, time of change, digest or
    link target.
    """
    return {path.relative_to(root).as_posix(): _about(path) for path in sorted(root.rglob("*"))}


def _about(path: Path) -> tuple[str, int, str]:
    status = path.lstat()
    if path.is_symlink():
        content = str(path.readlink())
    else:
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return oct(status.st_mode), status.st_mtime_ns, content
