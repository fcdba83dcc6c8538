"""The packages that were built, as files: what is in them fits the distribution that they are for.

The arm64 packages are read, not installed: no Ubuntu root is at hand.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from scripts import make_deb
from scripts.wheelhouse import MACHINES, TARGETS, Target, closure, read_distribution

pytestmark = pytest.mark.long
# of each distribution's libstdc++6, from its changelog: GCC 12.3, 14.2, 12.2
GLIBCXX = {"jammy": (3, 4, 30), "noble": (3, 4, 33), "bookworm": (3, 4, 30)}
# what the packages of `depends` bring
LIBRARIES = {
    "libc6": "libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1 libresolv.so.2"
    " ld-linux-x86-64.so.2 ld-linux-aarch64.so.1",
    "libgcc-s1": "libgcc_s.so.1",
    "libstdc++6": "libstdc++.so.6",
    "zlib1g": "libz.so.1",
    "libusb-1.0-0": "libusb-1.0.so.0",
    "libudev1": "libudev.so.1",
}
ELF_MACHINES = {"amd64": "X86-64", "arm64": "AArch64"}


@pytest.fixture(scope="module", params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


@pytest.fixture(scope="module")
def content(
    target: Target, package_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The package's files, unpacked; DEBIAN/ has its control files."""
    folder = tmp_path_factory.mktemp(target.name)
    subprocess.run(["dpkg-deb", "-R", package_of(target.name), folder / "deb"], check=True)
    return folder / "deb"


@pytest.fixture(scope="module")
def wheels(content: Path) -> list[Path]:
    return sorted((content / make_deb.HOME / "wheels").glob("*.whl"))


def control(content: Path) -> dict[str, str]:
    lines = (content / "DEBIAN/control").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if not line.startswith(" "))


def test_it_has_every_file_owned_by_root_and_nothing_else(
    target: Target, package_of: Callable[[str], Path], content: Path
) -> None:
    listed = subprocess.check_output(["dpkg-deb", "-c", package_of(target.name)], text=True)
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}
    files = {
        path.relative_to(content).as_posix()
        for path in content.rglob("*")
        if "DEBIAN" not in path.parts and (path.is_symlink() or path.is_file())
    }
    files = {name for name in files if not name.startswith("opt/edge/wheels/")}
    doc = make_deb.DOC.as_posix()
    assert files == {
        *(place.as_posix() for place, _ in make_deb.PLACES.values()),
        *(place.as_posix() for place in make_deb.LINKS),
        *(f"{make_deb.UNITS}/{path.name}" for path in (make_deb.ROOT / "systemd").iterdir()),
        f"{doc}/changelog.gz",
        f"{doc}/wheels.txt",
    }


def test_its_control_file_names_what_it_needs(target: Target, content: Path) -> None:
    told = control(content)
    assert (told["Package"], told["Architecture"]) == ("edge-station", target.arch)
    depends = told["Depends"].split(", ")
    assert f"python3 (>= {target.python_version})" in told["Pre-Depends"].split(", ")
    assert f"libc6 (>= {'.'.join(map(str, target.glibc))})" in depends


def test_every_wheel_is_for_its_python_processor_and_c_library(
    target: Target, wheels: list[Path]
) -> None:
    platforms = target.platforms()
    supported: set[Tag] = {
        *cpython_tags(target.python, platforms=platforms),
        *compatible_tags(target.python, f"cp{''.join(map(str, target.python))}", platforms),
    }
    wrong = [path.name for path in wheels if not parse_wheel_filename(path.name)[3] & supported]
    assert wheels
    assert wrong == []


def test_nothing_that_the_station_requires_is_missing_or_left_over(
    target: Target, wheels: list[Path]
) -> None:
    read = [read_distribution(path) for path in wheels]
    pycuda = next(wheels[0].parent.glob("pycuda-*.tar.gz"))
    extras = ",".join([*make_deb.EXTRAS, "camera"] if target.camera else make_deb.EXTRAS)
    roots = [f"rgbd-inspection[{extras}]", *make_deb.BUILD_TOOLS]
    roots += [str(one) for one in read_distribution(pycuda).requires if one.marker is None]
    assert closure(read, roots, target).keys() == {one.name for one in read}
    pins = (wheels[0].parent / "requirements.txt").read_text()
    pinned = {line.split("==")[0] for line in pins.splitlines()}
    assert pinned == {one.name for one in read} - set(make_deb.BUILD_TOOLS)
    assert pins == "".join(
        make_deb.pinned(one) for one in read if one.name not in make_deb.BUILD_TOOLS
    )


def shared_objects(wheel: Path, folder: Path) -> Iterator[Path]:
    """The compiled files of a wheel, unpacked one by one."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if re.search(r"\.so(\.[0-9.]+)?$", name):
                yield Path(archive.extract(name, folder))


def versions(symbols: str, prefix: str) -> Iterator[tuple[int, ...]]:
    for found in re.findall(rf"\b{prefix}_([0-9.]+)\b", symbols):
        yield tuple(int(number) for number in found.split("."))


def test_compiled_files_need_no_newer_library_than_the_distribution_has(
    target: Target, content: Path, wheels: list[Path], tmp_path: Path
) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed: apt-get install binutils")
    told = control(content)
    named = {word.split()[0] for word in told["Depends"].split(", ")}
    brought = {name for one in named & set(LIBRARIES) for name in LIBRARIES[one].split()}
    count = 0
    for wheel in wheels:
        own = {Path(name).name for name in zipfile.ZipFile(wheel).namelist()}
        for path in shared_objects(wheel, tmp_path):
            count += 1
            told_of = subprocess.run(
                ["readelf", "-hdV", "--wide", path], capture_output=True, text=True, check=True
            ).stdout
            assert ELF_MACHINES[target.arch] in told_of, path
            needs = told_of[told_of.find("Version needs section") :]
            assert max(versions(needs, "GLIBC"), default=(0,)) <= target.glibc, path
            assert max(versions(needs, "GLIBCXX"), default=(0,)) <= GLIBCXX[target.codename], path
            needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", told_of))
            assert needed <= brought | own, path
    assert count > 20, MACHINES[target.arch]


def test_lintian_finds_no_error(target: Target, package_of: Callable[[str], Path]) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed: apt-get install lintian")
    checked = subprocess.run(
        ["lintian", "--fail-on", "error,warning", "--allow-root", package_of(target.name)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout) == (0, "")
