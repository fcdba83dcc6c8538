"""A root file system made ready before flashing: checked first, then package, trust, bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import read_config
from edge.errors import BundleError, ConfigError
from edge.install.proof_file import read_proof
from edge.install.rootfs import prepare_rootfs
from edge.provision.package import read_package
from edge.station.store import Store
from edge.station.trust import trust
from tests.support.package import lay_python, make_package
from tests.support.root import Bundles, lay_foreign_system, run_edge, snapshot
from tests.support.tiny_bundle import KeyPair, make_key


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root of another processor, with one program in it."""
    lay_foreign_system(tmp_path / "rootfs")
    return tmp_path / "rootfs"


def test_a_root_of_another_processor_gets_trust_bundle_and_name(
    rootfs: Path, bundles: Bundles, key: KeyPair
) -> None:
    said: list[str] = []
    prepare_rootfs(rootfs, None, bundles(), [key.public], "cell7", said.append)
    store = Store(rootfs)
    proof = read_proof(store, store.active())
    assert proof is not None
    assert proof.state == "pending"
    assert read_config(rootfs).station.station == "cell7"
    assert any(line.startswith("engine pending") for line in said)
    assert any("has no edge-station" in line for line in said)


def test_the_same_again_changes_nothing(rootfs: Path, bundles: Bundles, key: KeyPair) -> None:
    prepare_rootfs(rootfs, None, bundles(), [key.public], "cell7")
    before = Store(rootfs).token()
    said: list[str] = []
    prepare_rootfs(rootfs, None, bundles(), [key.public], "cell7", said.append)
    assert Store(rootfs).token() == before
    assert any(line.startswith("already installed") for line in said)


def test_a_key_that_is_trusted_for_one_product_stays_so(
    rootfs: Path, bundles: Bundles, key: KeyPair
) -> None:
    trust(Store(rootfs), key.public, ["washer"])
    prepare_rootfs(rootfs, None, bundles(), [key.public], None)
    assert [one.products for one in Store(rootfs).keys.all()] == [("washer",)]


def test_the_service_of_the_package_starts_with_the_system(
    rootfs: Path, bundles: Bundles, key: KeyPair
) -> None:
    unit = rootfs / "usr/lib/systemd/system/edge.service"
    link = rootfs / "etc/systemd/system/multi-user.target.wants/edge.service"
    prepare_rootfs(rootfs, None, bundles(), [key.public], None)
    assert not link.is_symlink(), "without the package nothing would start"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\n")
    prepare_rootfs(rootfs, None, bundles(), [key.public], None)
    assert str(link.readlink()) == "/usr/lib/systemd/system/edge.service"


def test_a_bundle_of_a_key_that_is_not_given_changes_nothing(
    rootfs: Path, tmp_path: Path, bundles: Bundles
) -> None:
    before = snapshot(rootfs)
    with pytest.raises(BundleError):
        prepare_rootfs(rootfs, None, bundles(), [make_key(tmp_path, "other").public], "cell7")
    assert snapshot(rootfs) == before


def test_what_is_no_root_is_refused(tmp_path: Path, bundles: Bundles, key: KeyPair) -> None:
    with pytest.raises(ConfigError, match="holds no system"):
        prepare_rootfs(tmp_path, None, bundles(), [key.public], None)
    with pytest.raises(ConfigError, match="is the running system"):
        prepare_rootfs(Path("/"), None, bundles(), [key.public], None)


@pytest.mark.parametrize(
    ("name", "architecture", "sentence"),
    [
        ("edge-station", "armhf", "is for armhf"),
        ("other", "arm64", "is the package other, not edge-station"),
    ],
)
def test_a_package_that_does_not_fit_changes_nothing(
    rootfs: Path,
    tmp_path: Path,
    bundles: Bundles,
    key: KeyPair,
    name: str,
    architecture: str,
    sentence: str,
) -> None:
    package, before = make_package(tmp_path, name, architecture=architecture), snapshot(rootfs)
    with pytest.raises(ConfigError, match=sentence):
        prepare_rootfs(rootfs, package, bundles(), [key.public], None)
    assert snapshot(rootfs) == before


def test_a_package_for_another_python_is_one_sentence_and_changes_nothing(
    rootfs: Path, tmp_path: Path, bundles: Bundles, key: KeyPair
) -> None:
    """The package of JetPack 6 for a root of JetPack 7, as its dpkg knows it."""
    lay_python(rootfs, "3.12.3-0ubuntu2")
    package = make_package(tmp_path, needs="python3 (>= 3.10), python3 (<< 3.11)")
    before = snapshot(rootfs)
    with pytest.raises(ConfigError, match=r"is for Python 3\.10, .*rootfs has Python 3\.12: take"):
        prepare_rootfs(rootfs, package, bundles(), [key.public], None)
    assert snapshot(rootfs) == before


@pytest.mark.parametrize("python", ["3.10.6-1~22.04", ""])
def test_a_package_for_its_python_fits_and_without_one_apt_decides(
    rootfs: Path, tmp_path: Path, python: str
) -> None:
    if python:
        lay_python(rootfs, python)
    package = make_package(tmp_path, needs="python3 (>= 3.10), python3 (<< 3.11)")
    read_package(package).require_fits_root(rootfs)


def test_what_is_no_package_is_refused(
    rootfs: Path, tmp_path: Path, bundles: Bundles, key: KeyPair
) -> None:
    (tmp_path / "x.deb").write_text("no archive")
    with pytest.raises(ConfigError, match="is no Debian package"):
        prepare_rootfs(rootfs, tmp_path / "x.deb", bundles(), [key.public], None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--to a@b --rootfs r", "are two places"),
        ("--rootfs r --root s", "leave --root out"),
        ("--ssh-option Port=1", "goes with --to"),
        ("--trust line.pub", "`edge trust FILE`"),
        ("--package x.deb", "`apt install ./FILE.deb`"),
        ("--rootfs r --trust none.pub", "none.pub"),
    ],
)
def test_options_that_contradict_each_other_are_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    sentence: str,
) -> None:
    lay_foreign_system(tmp_path / "r")
    monkeypatch.chdir(tmp_path)
    answer = run_edge(capsys, monkeypatch, "install", "x.bundle", *words.split())
    assert answer.code == 1
    assert sentence in answer.err
    assert answer.err.count("\n") == 1


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(
    rootfs: Path,
    bundles: Bundles,
    key: KeyPair,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = snapshot(rootfs)
    words = ("--rootfs", rootfs, "--trust", key.public, "--dry-run")
    answer = run_edge(capsys, monkeypatch, "install", bundles(), *words)
    assert answer.code == 0
    assert "would install" in answer.out
    assert snapshot(rootfs) == before
