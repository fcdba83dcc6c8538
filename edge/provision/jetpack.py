"""Which JetPack a root file system holds, by the releases that jetson/releases.json lists."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter

from edge.provision.architecture import file_inside
from edge.schema import Strict, parse_json

PLACE = "etc/nv_tegra_release"
FIRST_LINE = re.compile(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
LINE_LIMIT = 1 << 10  # characters of the first line
OLDEST_TENSORRT = (10, 3)  # edge.engine.plan is written against its API


class Release(Strict):
    """One JetPack, as its documents describe the image.

    linux: the releases of Jetson Linux that it contains; 38.2 stands for every 38.2.x. boards: the
    families that it runs on, each with the compute architecture that kernels are compiled for.
    """

    jetpack: str
    linux: tuple[str, ...]
    boards: dict[str, str]
    ubuntu: str
    python: str
    cuda: str
    tensorrt: str

    def contains(self, linux: str) -> bool:
        """Whether it contains this release of Jetson Linux, such as 36.4.3."""
        return any((linux + ".0.").startswith(one + ".") for one in self.linux)

    def __str__(self) -> str:
        return (
            f"JetPack {self.jetpack} for {' and '.join(self.boards)}: Ubuntu {self.ubuntu}, Python"
            f" {self.python}, CUDA {self.cuda}, TensorRT {self.tensorrt}"
        )


@cache
def known_releases() -> tuple[Release, ...]:
    """The releases that this software knows, the oldest first."""
    data = resources.files("edge.provision").joinpath("jetson/releases.json").read_bytes()
    return TypeAdapter(tuple[Release, ...]).validate_python(parse_json(data))


def linux_release(root: Path) -> str | None:
    """The release of Jetson Linux under `root`, such as 36.4.3; None where it is another system."""
    path = file_inside(root, PLACE)
    if path is None:
        return None
    with path.open(errors="replace") as file:
        found = FIRST_LINE.match(file.readline(LINE_LIMIT))
    return None if found is None else ".".join(found.groups())


def describe_jetpack(root: Path) -> str | None:
    """One sentence on the JetPack under `root`, for the integrator; None on other systems."""
    linux = linux_release(root)
    if linux is None:
        return None
    known = known_releases()
    release = next((one for one in known if one.contains(linux)), None)
    if release is None:
        return (
            f"Jetson Linux {linux} belongs to no JetPack that this software knows"
            f" ({known[0].jetpack} to {known[-1].jetpack}): run `edge verify` on the board"
        )
    if tuple(int(number) for number in release.tensorrt.split(".")) < OLDEST_TENSORRT:
        oldest = ".".join(str(number) for number in OLDEST_TENSORRT)
        return f"{release}; engines need TensorRT {oldest} or later: flash a newer JetPack"
    return str(release)
