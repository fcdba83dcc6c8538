"""Which wheels a package for another Python and architecture gets: pip, on tiny wheels."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import wheelhouse
from tests.support.tiny_wheels import make_sdist, make_wheel

JETPACK_6 = wheelhouse.TARGETS["jammy-arm64"]
DEBIAN = wheelhouse.TARGETS["bookworm-amd64"]


def names(folder: Path) -> set[str]:
    return {path.name.split("-")[0] for path in folder.glob("*.whl")}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds wheels here, and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def test_conditions_are_those_of_the_target_not_of_this_python(index: Path, tmp_path: Path) -> None:
    requires = [
        'old; python_version < "3.11"',
        'new; python_version >= "3.11"',
        'arm; platform_machine == "aarch64"',
        'windows; sys_platform == "win32"',
    ]
    make_wheel(index, "root", requires=requires)
    for name in ("old", "new", "arm"):
        make_wheel(index, name)
    for target, found in ((JETPACK_6, {"old", "arm"}), (DEBIAN, {"new"})):
        wheelhouse.download(target, ["root"], [], tmp_path / target.name)
        assert names(tmp_path / target.name) == {"root"} | found


def test_wheels_are_of_the_targets_python_architecture_and_c_library(
    index: Path, tmp_path: Path
) -> None:
    tags = (
        ("1.0", "cp310-cp310-manylinux_2_17_aarch64"),
        ("1.1", "cp310-cp310-manylinux_2_35_aarch64"),
        ("1.2", "cp310-cp310-manylinux_2_36_aarch64"),  # jammy has glibc 2.35
        ("1.3", "cp311-cp311-manylinux2014_aarch64"),
        ("1.4", "cp310-cp310-manylinux2014_x86_64"),
    )
    for version, tag in tags:
        make_wheel(index, "native", version, tag)
    wheelhouse.download(JETPACK_6, ["native"], [], tmp_path / "wheels")
    (found,) = (tmp_path / "wheels").glob("*.whl")
    assert found.name.startswith("native-1.1-")


def test_an_extra_brings_its_requirements_and_a_file_at_hand_needs_no_index(
    index: Path, tmp_path: Path
) -> None:
    ours = make_wheel(
        tmp_path / "own", "ours", requires=["base", 'page; extra == "page"', 'x; extra == "other"']
    )
    make_wheel(index, "base")
    make_wheel(index, "page")
    wheelhouse.download(DEBIAN, ["ours[page]"], [ours], tmp_path / "wheels")
    assert names(tmp_path / "wheels") == {"base", "page"}


def test_what_is_missing_or_of_another_version_is_named(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path, "root", requires=["other>=2", "absent"])]
    wheels += [make_wheel(tmp_path, "other", "1.0")]
    read = [wheelhouse.read_distribution(path) for path in wheels]
    with pytest.raises(wheelhouse.Unmet) as raised:
        wheelhouse.closure(read, ["root"], DEBIAN)
    assert {str(one) for one in raised.value.requirements} == {"other>=2", "absent"}


def test_a_source_archive_tells_its_requirements_too(tmp_path: Path) -> None:
    one = wheelhouse.read_distribution(make_sdist(tmp_path, "source"))
    assert (one.name, one.version, one.requires) == ("source", "1.0", ())
