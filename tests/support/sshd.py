"""A real sshd on a free port of this machine, with keys of its own."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.broker import free_port
from tests.support.patience import patience_s
from tests.support.proxy import Proxy

SSHD = "/usr/sbin/sshd"
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sshd:
    """host: for `--to`. port: of the server. stage: where copied files lie. log: what it says."""

    host: str
    port: int
    folder: Path

    @property
    def stage(self) -> Path:
        return self.folder / "cache/edge-install"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def options(self, port: int | None = None) -> list[str]:
        """For `ssh -o`. port: of a proxy in between."""
        return [
            f"Port={port or self.port}",
            f"IdentityFile={self.folder / 'user'}",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            "StrictHostKeyChecking=no",
            "LogLevel=ERROR",
            "BatchMode=yes",
        ]


@contextmanager
def running_sshd(
    folder: Path, account: str = "", around: Sequence[str] = (), more: Sequence[str] = ()
) -> Iterator[Sshd]:
    """The server, ended at the end. Its sessions find a command `edge`: that of this checkout.

    account: who logs in; blank: whoever runs the tests. around: a command that starts it, such as
    one that changes namespaces. more: lines of its configuration.
    Skips, saying so, where there is no sshd.
    """
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("sshd and ssh are not installed: apt-get install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("server", "user"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True)
    _lay_edge(folder / "bin/edge")
    port = free_port()
    (folder / "config").write_text("\n".join(_config(folder, port, more)) + "\n")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*around, SSHD, "-D", "-e", "-f", str(folder / "config")], stdout=log, stderr=log
        )
    try:
        _wait_for(port, server, folder / "log")
        account = account or pwd.getpwuid(os.getuid()).pw_name
        yield Sshd(f"{account}@127.0.0.1", port, folder)
    finally:
        server.terminate()
        server.wait(patience_s(10))


def _config(folder: Path, port: int, more: Sequence[str]) -> list[str]:
    path = f"{folder / 'bin'}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'server'}",
        f"AuthorizedKeysFile {folder / 'user.pub'}",
        f"PidFile {folder / 'pid'}",
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin prohibit-password",
        "MaxStartups 100",
        f'SetEnv "PATH={path}" "XDG_CACHE_HOME={folder / "cache"}"',
        *more,
    ]


def _lay_edge(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m edge "$@"\n')
    path.chmod(0o755)


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + patience_s(10)
    while time.monotonic() < end_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"sshd does not listen: {log.read_text()}")


class CuttingProxy(Proxy):
    """Lets so many bytes pass, waits until `reached` says so, and then resets every connection,
    once; after that it is as any other.
    """

    def __init__(self, target_port: int, cut_after: int, reached: Callable[[], bool]) -> None:
        super().__init__(target_port)
        self._left, self._reached = cut_after, reached
        self._cutting: asyncio.Task[None] | None = None

    def _note_connect(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left <= 0 and self._cutting is None:
            self._passes.clear()
            self._cutting = self._loop.create_task(self._cut())

    async def _cut(self) -> None:
        while not self._reached():
            await asyncio.sleep(0.01)
        await self._reset()
        self._passes.set()
