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
    except BaseException:  # noqa: BLE001  every way out must go through `leave`
        traceback.print_exc()
        code = 1
    leave(code)


def leave(code: int) -> NoReturn:
    """Flush the output and end the process with this code, skipping the interpreter's shutdown.

    The shutdown destroys the C++ objects of the libraries in an undefined order: if a thread of
    onnxruntime or librealsense still runs then, the process ends with `terminate called without an
    active exception` and SIGABRT, although all the work was done. Every verb closes the outbox, the
    images, the line and the camera's process before it returns, so that the shutdown has nothing
    left to do.
    """
    try:
        print(end="", flush=True)
    except OSError as error:  # the reader of a pipe has gone, or the disk is full
        code = code or 1
        if error.errno != errno.EPIPE:
            print(f"edge: its output cannot be written: {error.strerror}", file=sys.stderr)
    print(end="", file=sys.stderr, flush=True)
    os._exit(code)


if __name__ == "__main__":
    main()
