"""Which board this is, and which system it runs."""

from __future__ import annotations

from pathlib import Path

from edge.board.reading import read_small
from edge.provision.architecture import architecture
from edge.provision.jetpack import linux_release

MODEL = Path("proc/device-tree/model")
OS_RELEASE = Path("etc/os-release")


def machine_root(root: Path) -> Path:
    """Where the facts of the machine are read: under `root` where it holds a system, else this
    machine, of which a station in a folder of its own is one.
    """
    is_system = architecture(root) is not None or (root / OS_RELEASE).exists()
    return root if is_system else Path("/")


def board_model(root: Path) -> str | None:
    """As the device tree names it, such as "NVIDIA Jetson Orin Nano Developer Kit"; None where
    there is none, also in a root that was never booted.
    """
    return read_small(root / MODEL) or None


def is_jetson(root: Path) -> bool:
    """Whether the system under `root` is NVIDIA's for a Jetson."""
    return linux_release(root) is not None or "Jetson" in (board_model(root) or "")


def is_booted(root: Path) -> bool:
    """Whether the system under `root` is the one that runs, so that its programs may be asked."""
    return (root / "proc/meminfo").exists()


def system_name(root: Path) -> str:
    """The distribution, such as "Debian GNU/Linux 12 (bookworm)"; "an unnamed system" where it
    does not tell.
    """
    for line in (read_small(root / OS_RELEASE) or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return "an unnamed system"
