"""Restarts one USB port as root: the program of edge-usb-reset.service, of the standard library
alone.

The station, which has no such rights, leaves the name of the port in run/edge/usb-reset; a path
unit starts this. Nothing in that file is trusted: it is read whole, without following a link, must
be the name of a port, and the device there must be of Intel (idVendor 8086, every RealSense).
Taking `authorized` to 0 and back to 1 makes the kernel enumerate the device anew
(Documentation/usb/authorization.rst).
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from pathlib import Path

REQUEST = Path("run/edge/usb-reset")
DEVICES = Path("sys/bus/usb/devices")
PORT = re.compile(r"\d{1,3}-\d{1,3}(?:\.\d{1,3}){0,6}")
VENDOR = "8086"
OFF_S = 1.0  # without authorization: the kernel has then let go of every interface
REQUEST_BYTES = 64


def take_request(root: Path) -> str | None:
    """The port that the station asks for, whose request is removed; None if that is no port.

    Raises: OSError if there is no request, or it cannot be removed.
    """
    path = root / REQUEST
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            text = file.read(REQUEST_BYTES).decode("ascii", errors="replace").strip()
    finally:
        _remove(path)
    return text if PORT.fullmatch(text) else None


def _remove(path: Path) -> None:
    """By name: a folder in place of the request is put aside, however much lies in it."""
    try:
        path.unlink()
    except IsADirectoryError:
        path.rename(path.with_name(f".{path.name}.{secrets.token_hex(8)}"))


def restart_port(root: Path, port: str, off_s: float = OFF_S) -> str | None:
    """Take the port's authorization away and give it back; why that was not done, None if it was.

    Raises: OSError if the kernel refuses.
    """
    device = root / DEVICES / port
    vendor = device / "idVendor"
    if not vendor.exists():
        return f"no device is at USB port {port}"
    if vendor.read_text().strip() != VENDOR:
        return f"what is at USB port {port} is no RealSense: it is left alone"
    authorized = device / "authorized"
    authorized.write_text("0")
    try:
        time.sleep(off_s)
    finally:
        authorized.write_text("1")
    return None


def serve(root: Path) -> int:
    """Take one request and do it; the exit code."""
    try:
        port = take_request(root)
        refused = "the request names no USB port" if port is None else restart_port(root, port)
    except OSError as error:
        port, refused = None, f"{error.filename}: {error.strerror}"
    print(refused or f"USB port {port} was restarted", file=sys.stderr)
    return 0 if refused is None else 1


if __name__ == "__main__":
    sys.exit(serve(Path("/")))
