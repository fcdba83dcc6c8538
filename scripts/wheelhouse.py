"""The wheels that a Python environment on another machine needs, whatever Python runs this.

pip downloads for another version and platform, but evaluates the conditions of requirements
(PEP 508: `python_version < '3.11'`) for the Python that runs it. So the closure is computed here,
for the target: what pip left out is asked for by name, what nothing on the target needs is removed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROUNDS = 6  # of asking for what pip left out; each goes one requirement deeper
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Target:
    """A distribution and architecture that the package is for.

    glibc: the distribution's, as (major, minor). system: what it is, for a reader. camera: whether
        librealsense has a wheel for it.
    """

    codename: str
    arch: str
    python: tuple[int, int]
    glibc: tuple[int, int]
    system: str
    camera: bool = True

    @property
    def name(self) -> str:
        """As in `make deb TARGET=bookworm-amd64`."""
        return f"{self.codename}-{self.arch}"

    @property
    def python_version(self) -> str:
        """Such as 3.11."""
        return ".".join(map(str, self.python))

    def platforms(self) -> list[str]:
        """The platform tags of wheels that run there (PEP 600), the newest first."""
        machine, (major, newest) = MACHINES[self.arch], self.glibc
        tags = [f"manylinux_{major}_{minor}_{machine}" for minor in range(newest, 4, -1)]
        old = ["manylinux2014", "manylinux2010", "manylinux1"]
        return tags + [f"{tag}_{machine}" for tag in old]

    def environment(self) -> dict[str, str]:
        """The values of environment markers (PEP 508) there."""
        here = {name: str(value) for name, value in default_environment().items()}
        return here | {
            "python_version": self.python_version,
            "python_full_version": f"{self.python_version}.0",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python_version}.0",
            "platform_python_implementation": "CPython",
            "platform_machine": MACHINES[self.arch],
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
        }


TARGETS = {
    target.name: target
    for target in (
        Target("jammy", "arm64", (3, 10), (2, 35), "JetPack 6"),
        Target("noble", "arm64", (3, 12), (2, 39), "JetPack 7"),
        Target("bookworm", "amd64", (3, 11), (2, 36), "Debian 12"),
        Target("bookworm", "arm64", (3, 11), (2, 36), "Debian 12", camera=False),
    )
}


@dataclass(frozen=True)
class Distribution:
    """A wheel or source archive, and what it says about itself."""

    path: Path
    name: str
    version: str
    license: str
    requires: tuple[Requirement, ...]


def read_distribution(path: Path) -> Distribution:
    """What the metadata of a wheel or of a source archive says."""
    headers = HeaderParser().parsestr(_metadata(path))
    return Distribution(
        path,
        canonicalize_name(headers["Name"]),
        headers["Version"],
        _license(headers.get("License-Expression"), headers.get_all("Classifier") or []),
        tuple(Requirement(text) for text in headers.get_all("Requires-Dist") or ()),
    )


def _metadata(path: Path) -> str:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            name = next(one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
            return wheel.read(name).decode()
    with tarfile.open(path) as archive:
        member = next(one for one in archive if one.name.count("/") == 1 and "PKG-INFO" in one.name)
        file = archive.extractfile(member)
        assert file is not None
        return file.read().decode()


def _license(expression: str | None, classifiers: Iterable[str]) -> str:
    named = [one.split(" :: ")[-1] for one in classifiers if one.startswith("License :: ")]
    return expression or ", ".join(named) or "see the wheel"


class Unmet(Exception):
    """Requirements that no file at hand meets."""

    def __init__(self, requirements: Sequence[Requirement]) -> None:
        super().__init__(", ".join(map(str, requirements)))
        self.requirements = tuple(requirements)


def closure(
    distributions: Iterable[Distribution], roots: Sequence[str], target: Target
) -> dict[str, Distribution]:
    """The distributions that `roots`, requirements such as "numpy>=2", need on the target.

    Raises: Unmet naming what is missing or has another version.
    """
    at_hand = {one.name: one for one in distributions}
    found: dict[str, Distribution] = {}
    unmet: list[Requirement] = []
    queue, seen = [Requirement(root) for root in roots], set[str]()
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        one = at_hand.get(name)
        if one is None or not wanted.specifier.contains(one.version, prereleases=True):
            unmet.append(wanted)
            continue
        found[name] = one
        queue += _needed(one, wanted.extras, target)
    if unmet:
        raise Unmet(unmet)
    return found


def _needed(one: Distribution, extras: Iterable[str], target: Target) -> Iterator[Requirement]:
    """What `one` with these extras requires on the target, without the conditions."""
    environment = target.environment()
    for requirement in one.requires:
        marker = requirement.marker
        if marker is None or any(
            marker.evaluate(environment | {"extra": extra}) for extra in ["", *extras]
        ):
            plain = Requirement(str(requirement))
            plain.marker = None
            yield plain


def download(target: Target, roots: Sequence[str], files: Sequence[Path], folder: Path) -> None:
    """Fill `folder`, which need not exist, with the wheels that `roots` need on the target.

    files: distributions that are there already and among which `roots` are found first.
    Raises: subprocess.CalledProcessError if pip finds none, Unmet if it finds too few.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = [read_distribution(path) for path in files]
    asked = list(roots)
    for _ in range(ROUNDS):
        try:
            needed = closure(_at_hand(given, folder), roots, target)
            break
        except Unmet as error:
            asked += sorted({str(one) for one in error.requirements} - set(asked))
            _pip_download(target, asked, files, folder)
    else:
        needed = closure(_at_hand(given, folder), roots, target)
    for one in _at_hand([], folder):
        if needed.get(one.name) != one:
            one.path.unlink()


def _at_hand(given: Sequence[Distribution], folder: Path) -> list[Distribution]:
    return [*(read_distribution(path) for path in sorted(folder.glob("*.whl"))), *given]


def _pip_download(
    target: Target, requirements: Sequence[str], files: Sequence[Path], folder: Path
) -> None:
    for path in folder.glob("*.whl"):
        path.unlink()
    platforms = [word for tag in target.platforms() for word in ("--platform", tag)]
    links = [word for parent in {path.parent for path in files} for word in ("-f", str(parent))]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest",
         folder, "--implementation", "cp", "--python-version", target.python_version,
         *platforms, *links, *requirements],
        check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip
