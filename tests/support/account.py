"""Runs verbs of `edge` as an account without rights, in a process of its own.

The account can read neither this Python nor its packages, so everything is imported as root, by
running the verbs once; each request is then answered by a fork that has become the account. The
process has no threads when it forks, which a worker of pytest has: a lock that one of them holds at
that moment is never released in the fork.

    python -m tests.support.account WARM_FOLDER    requests on stdin, answers on stdout, JSON lines
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from edge.cli import run_command

Answer = tuple[str, int, str]  # a command line, its exit code, what it said on stderr
REPOSITORY = Path(__file__).resolve().parents[2]
TRACEBACK = 99  # in place of an exit code


def answers_of(lines: Sequence[str]) -> list[Answer]:
    """Each line run in this process."""
    answers = []
    for line in lines:
        said, code = io.StringIO(), 0
        sys.argv = ["edge", *line.split()]
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            try:
                run_command()
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:  # noqa: BLE001  # whatever it is, the test shows it
                traceback.print_exc()
                code = TRACEBACK
        answers.append((line, code, said.getvalue()))
    return answers


class Account:
    """The process, from the test's side."""

    def __init__(self, warm: Path, lines: Sequence[str]) -> None:
        words = [sys.executable, "-m", "tests.support.account", str(warm), json.dumps(lines)]
        self._process = subprocess.Popen(
            words, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answers(self, uid: int, folder: Path, lines: Sequence[str]) -> list[Answer]:
        """What the account with this number is told in `folder`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([uid, str(folder), list(lines)]) + "\n")
        self._process.stdin.flush()
        return [tuple(one) for one in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        self._process.communicate()


def _serve(warm: Path, lines: Sequence[str]) -> None:
    import edge.install.proving as proving
    from edge.install.measure_engine import measure_engine

    proving.measure_in_child = measure_engine  # a child would have to start this Python
    os.chdir(warm)
    answers_of(lines)
    for request in sys.stdin:
        uid, folder, asked = json.loads(request)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.chdir(folder)
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                with os.fdopen(writer, "w") as pipe:
                    pipe.write(json.dumps(answers_of(asked)))
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        print(told, flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), json.loads(sys.argv[2]))
