"""Which JetPack a root file system holds, from etc/nv_tegra_release."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.install.install import install_bundle
from edge.provision.jetpack import PLACE, describe_jetpack, known_releases
from tests.support.root import trusting_root
from tests.support.tiny_bundle import KeyPair, make_tiny_bundle

REPOSITORY = Path(__file__).resolve().parents[3]


def lay_release(root: Path, first_line: str) -> None:
    path = root / PLACE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}, GCID: 1, BOARD: generic, EABI: aarch64\nmore\n")


@pytest.mark.parametrize(
    ("first_line", "expected"),
    [
        (
            "# R36 (release), REVISION: 4.3",
            "JetPack 6.2 for Orin: Ubuntu 22.04, Python 3.10, CUDA 12.6, TensorRT 10.3",
        ),
        ("# R36 (release), REVISION: 4.0", "JetPack 6.1 for Orin: "),
        ("# R36 (release), REVISION: 4.7", "JetPack 6.2.1 for Orin: "),
        ("# R38 (release), REVISION: 2.1", "JetPack 7.0 for Thor: "),
        ("# R39 (release), REVISION: 2.0", "JetPack 7.2 for Orin and Thor: "),
        ("# R36 (release), REVISION: 3.0", "engines need TensorRT 10.3 or later: flash"),
        ("# R35 (release), REVISION: 4.1", "Jetson Linux 35.4.1 belongs to no JetPack that"),
        ("# R36 (release), REVISION: 40.0", "Jetson Linux 36.40.0 belongs to no JetPack"),
    ],
)
def test_the_release_is_named_in_one_sentence(
    tmp_path: Path, first_line: str, expected: str
) -> None:
    lay_release(tmp_path, first_line)
    described = describe_jetpack(tmp_path)
    assert described is not None
    assert expected in described
    assert "\n" not in described


@pytest.mark.parametrize("first_line", ["", "# R36", "R36 (release), REVISION: x", "\0" * 4000])
def test_another_system_is_not_named(tmp_path: Path, first_line: str) -> None:
    assert describe_jetpack(tmp_path) is None
    lay_release(tmp_path, first_line)
    assert describe_jetpack(tmp_path) is None


def test_no_release_of_jetson_linux_belongs_to_two_jetpacks() -> None:
    releases = known_releases()
    listed = [linux for release in releases for linux in release.linux]
    assert all(sum(one.contains(linux) for one in releases) == 1 for linux in listed)
    assert {sm for release in releases for sm in release.boards.values()} == {"sm_87", "sm_110"}


def test_install_tells_the_integrator(tmp_path: Path, key: KeyPair) -> None:
    store = trusting_root(tmp_path / "station", key)
    lay_release(store.root, "# R39 (release), REVISION: 2.2")
    bundle = make_tiny_bundle(tmp_path, key)
    assert any(
        line.startswith("JetPack 7.2.2") for line in install_bundle(bundle, store.root).lines()
    )


def test_the_wheel_takes_units_and_releases_from_the_top_level() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    for folder, pattern in (("systemd", "*.service"), ("jetson", "*.json")):
        assert f'"provision/{folder}/{pattern}"' in text
        here = REPOSITORY / "edge/provision" / folder
        assert list(here.glob(pattern))
        for path in here.iterdir():
            assert path.resolve().parent == REPOSITORY / folder
