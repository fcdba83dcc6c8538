"""Which machine this is: an engine and its proof belong to it."""

from __future__ import annotations

import platform
from pathlib import Path


def this_machine() -> str:
    """The board's model from the device tree (Jetson), else processor architecture and host
    name.
    """
    model = Path("/proc/device-tree/model")
    if model.is_file():
        return model.read_text(errors="replace").strip("\0\n ")
    return f"{platform.machine()} {platform.node()}".strip()
