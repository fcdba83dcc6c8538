"""Another machine, reached by the system's own ssh: its keys, agent and ~/.ssh/config are used.

All commands share one connection, so that a password is asked for once.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from edge.errors import ConfigError, MissingDependency, RemoteError

LINK_FAILED = 255  # as ssh says it
END = "edge-install ends with "  # the last line of every script, with its exit code
# a link that is dead ends after 45 s; the last user of the connection takes it along
OPTIONS = (
    "ConnectTimeout=20",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "ControlMaster=auto",
    "ControlPersist=30",
)
LAST_LINES = 3  # of what ssh or the command complained that an error repeats


class Ssh:
    """Commands on `host`. Use it as a context: at its end the connection is closed.

    host: as ssh takes it, such as user@board or an alias of ~/.ssh/config. options: as `ssh -o`
    takes them; they win over OPTIONS.
    """

    def __init__(self, host: str, options: Sequence[str] = ()) -> None:
        if not host or host.startswith("-") or not host.isprintable() or " " in host:
            raise ConfigError(f"--to {host!r} names no machine: write user@host")
        if shutil.which("ssh") is None:
            raise MissingDependency("ssh is not installed: apt-get install openssh-client")
        self.host = host
        self._folder = tempfile.TemporaryDirectory(prefix="edge-ssh-")
        socket = f"ControlPath={self._folder.name}/socket"
        pairs = [part for option in (*options, *OPTIONS, socket) for part in ("-o", option)]
        self._ssh = ["ssh", "-T", *pairs]

    def __enter__(self) -> Ssh:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        subprocess.run([*self._ssh, "-O", "exit", "--", self.host], capture_output=True)
        self._folder.cleanup()

    def ask(self, script: str, data: IO[bytes] | None = None) -> str:
        """What a shell script prints there. data: its standard input.

        Raises: RemoteError if the link fails, or the script ends with an error.
        """
        code, printed, complaint = self._run(script, data, None)
        if code != 0:
            raise RemoteError(self._sentence(code, complaint or printed))
        return printed

    def show(self, script: str, say: Callable[[str], object]) -> int:
        """Run a shell script there and hand on each line it prints, and what it complained if it
        ends with an error; returns its exit code.

        Raises: RemoteError if the link fails.
        """
        code, _, complaint = self._run(script, None, say)
        if code == LINK_FAILED:
            raise RemoteError(self._sentence(code, complaint))
        for line in complaint.splitlines() if code != 0 else ():
            say(line)
        return code

    def _run(
        self, script: str, data: IO[bytes] | None, say: Callable[[str], object] | None
    ) -> tuple[int, str, str]:
        """(exit code, what it printed unless `say` got it, what it complained).

        The script's end is told by a last line of its output: without it the link has failed,
        whatever code ssh ends with.
        """
        whole = f'({script}\n)\ncode=$?; echo; echo "{END}$code"; exit $code'
        command = [*self._ssh, "--", self.host, f"exec sh -c {shlex.quote(whole)}"]
        with (
            tempfile.TemporaryFile() as complaints,
            subprocess.Popen(
                command, stdin=data or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
            ) as ssh,
        ):
            assert ssh.stdout is not None
            printed: list[str] = []
            code = LINK_FAILED
            for line in ssh.stdout:
                text = line.decode(errors="replace").rstrip()
                if text.startswith(END):
                    code = int(text.removeprefix(END))
                elif text:
                    (say or printed.append)(text)
            ssh.wait()
            complaints.seek(0)
            return code, "\n".join(printed), complaints.read().decode(errors="replace")

    def _sentence(self, code: int, complaint: str) -> str:
        lines = [line.strip() for line in complaint.splitlines() if line.strip()]
        said = "; ".join(lines[-LAST_LINES:]) or "it says nothing"
        if code == LINK_FAILED:
            return (
                f"no link to {self.host} ({said}): see that `ssh {self.host}` works, then give the"
                " same command again, it goes on where it was"
            )
        return f"{self.host}: {said}"


def quoted(path: Path | str) -> str:
    """For a shell."""
    return shlex.quote(str(path))
