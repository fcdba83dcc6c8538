"""`edge`: the command on the device, and how its process ends."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import NoReturn


def main() -> NoReturn:
    """Entry point of the console script."""
    if sys.argv[1:2] == ["run"]:
        # a request to stop waits until edge.runtime can answer it with exit code 0
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    from edge.cli import run_command

    try:
        run_command()
    except SystemExit as ended:
        code = 1 if isinstance(ended.code, str) else ended.code or 0
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  nothing may pass `leave` by
        traceback.print_exc()
        code = 1
    leave(code)


def leave(code: int) -> NoReturn:
    """End the process with this code, once what it printed is out, without taking the interpreter
    down.

    Taking it down ends the C++ of the libraries in an order of its own: a thread of onnxruntime or
    librealsense that still runs then, or an object of theirs that holds one, ends the process with
    `terminate called without an active exception` and SIGABRT, after all the work was done. Every
    verb closes what it has to close before it returns (the outbox, the images, the line, the
    camera's process), so nothing is left for the interpreter to do.
    """
    try:
        print(end="", flush=True)
    except OSError as error:  # nobody reads it any more, or a full disk
        code = code or 1
        if error.errno != errno.EPIPE:
            print(f"edge: what it printed cannot be written: {error.strerror}", file=sys.stderr)
    print(end="", file=sys.stderr, flush=True)
    os._exit(code)


if __name__ == "__main__":
    main()
