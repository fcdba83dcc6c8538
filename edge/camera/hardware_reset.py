"""`hardware_reset` of a RealSense in a fresh process with a time limit: the call may crash or never
return (librealsense issues 7261, 11304, 12005).

Verified: the process runs in the tests with a stand-in for pyrealsense2 that answers, blocks,
crashes or fails; on a real camera: never executed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from edge.bounded import ChildFailed, Limits, call_bounded, enter_child
from edge.camera.realsense import REMEDY, find_connected
from edge.errors import CameraError, EdgeError
from edge.optional import optional_module

MODULE = "edge.camera.hardware_reset"
LIMIT_S = 10.0
MEMORY = 1 << 30  # bytes; the library takes 100 MB
SENTENCE_CHARS = 400


def reset_hardware(serial: str, limit_s: float = LIMIT_S) -> None:
    """Reset the camera with this serial number, or the only one for "".

    It then leaves the bus and comes back after some seconds.
    Raises: CameraError, saying why it was not reset.
    """
    try:
        answer = call_bounded(MODULE, serial.encode(), Limits(limit_s, MEMORY, hard=False))
    except (ChildFailed, OSError) as error:
        raise CameraError(f"the reset did not end well: {error}") from error
    try:
        failed = json.loads(answer)["failed"]
    except (ValueError, KeyError, TypeError) as error:
        raise CameraError("the reset's process gave no answer") from error
    if failed is not None:
        raise CameraError(str(failed)[:SENTENCE_CHARS])


def why_not_reset(serial: str) -> str | None:
    """Do it in this process; None if it was done."""
    try:
        rs: Any = optional_module("pyrealsense2", REMEDY)
        find_connected(rs, serial).hardware_reset()
    except (EdgeError, RuntimeError) as error:
        return " ".join(str(error).split())
    return None


def main() -> None:
    """Entry point: the serial number on standard input, JSON on standard output.

    Leaves through os._exit: waiting for a driver's threads could block forever.
    """
    answer = enter_child()
    failed = why_not_reset(sys.stdin.buffer.read().decode())
    os.write(answer, json.dumps({"failed": failed}).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
