"""`trainer release`: what it takes in, what it signs, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tuf", reason="tuf is not installed: pip install 'rgbd-inspection[update]'")

from edge.errors import BundleError, BusyError, ConfigError, EdgeError
from edge.station.lock import locked
from edge.update.factory import make_source
from edge.update_sections import UpdateConfig
from tests.support.released import Released, make_released
from tests.support.tiny_bundle import make_key, make_tiny_bundle
from trainer.release import repository as repository_module
from trainer.release import stick as stick_module
from trainer.release.acts import add, begin, refresh, renew, set_ring
from trainer.release.keys import find_signers
from trainer.release.repository import LOCK, Repository, now
from trainer.release.roles import ROLES
from trainer.release.stick import copy_to_stick

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_released(tmp_path_factory.mktemp("released") / "made")


@pytest.fixture
def released(made: Released, tmp_path: Path) -> Released:
    return made.copied_to(tmp_path / "released")


def signed(path: Path) -> Any:
    return json.loads(path.read_bytes())["signed"]


def state(released: Released) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in released.metadata.iterdir()}


def run_trainer(*words: object) -> subprocess.CompletedProcess[str]:
    """With torch made unimportable."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'timm', 'onnx', 'sklearn']))\n"
        "from trainer.cli import run_command; run_command()"
    )
    command = [sys.executable, "-c", script, "release", *(str(word) for word in words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_it_works_on_a_machine_without_torch(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    bundle = make_tiny_bundle(tmp_path, key, version="1.0.0")
    updates, keys = tmp_path / "updates", ("--keys", tmp_path / "keys")
    for words in (
        ("init", updates, *keys),
        ("add", updates, bundle, "--trust", key.public, *keys),
        ("ring", updates, "stable", "--product", "washer", "--version", "1.0.0", *keys),
    ):
        done = run_trainer(*words)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "ring stable: washer 1.0.0\n"


def test_root_needs_two_of_three_keys_and_the_rings_key_cannot_sign_bundles(
    released: Released,
) -> None:
    root = signed(released.newest("root"))
    assert (len(root["roles"]["root"]["keyids"]), root["roles"]["root"]["threshold"]) == (3, 2)
    assert root["consistent_snapshot"]
    keys = [set(role["keyids"]) for role in root["roles"].values()]
    assert sum(len(one) for one in keys) == len(set().union(*keys))  # each signs for one role
    usb = signed(released.repository / "usb/metadata/1.root.json")
    assert not set(usb["roles"]["root"]["keyids"]) & keys[0]
    (rings,) = signed(released.newest("targets"))["delegations"]["roles"]
    assert (rings["name"], rings["paths"], rings["terminating"]) == (
        "rings",
        ["rings/*.json"],
        True,
    )


def test_private_keys_are_closed_and_offline_ones_apart(released: Released) -> None:
    for role, about in ROLES.items():
        place = released.keys / ("offline" if about.offline else "online")
        files = [path for path in place.glob("*.key") if path.stem.rpartition("-")[0] == role]
        assert len(files) == about.keys
        assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_a_bundle_that_stations_would_refuse_is_refused(released: Released) -> None:
    before = state(released)
    stranger = make_key(released.folder, "stranger")
    bundle = make_tiny_bundle(released.folder, stranger, version="3.0.0")
    with pytest.raises(BundleError, match="does not trust"):
        add(released.repository, bundle, [released.line.public], [released.keys])
    again = make_tiny_bundle(released.folder, released.line, version="1.1.0", defects=(1.0, 9.0))
    with pytest.raises(BundleError, match=r"another washer 1\.1\.0"):
        add(released.repository, again, [released.line.public], [released.keys])
    assert state(released) == before


def test_a_ring_names_only_what_was_added(released: Released) -> None:
    before = state(released)
    for words, version, halt in (
        ("washer 9.9.9 was not added", "9.9.9", None),
        ("say with --version", None, True),
        ("say with --version", None, None),
    ):
        with pytest.raises(ConfigError, match=words):
            set_ring(released.repository, "canary", "washer", [released.keys], version, halt)
    with pytest.raises(ConfigError, match="no name of a ring"):
        set_ring(released.repository, "../x", "washer", [released.keys], "1.1.0")
    assert state(released) == before
    ring = set_ring(released.repository, "stable", "washer", [released.keys], removed=True)
    assert ring.products == {}


def test_without_the_key_that_must_sign_nothing_is_published(released: Released) -> None:
    before = state(released)
    bundle = make_tiny_bundle(released.folder, released.line, version="2.0.0")
    online = released.keys / "online"
    with pytest.raises(ConfigError, match="targets needs 1 of its keys, and --keys gives 0"):
        add(released.repository, bundle, [released.line.public], [online])
    (released.keys / "offline/root-2.key").unlink()
    (released.keys / "offline/root-3.key").unlink()
    with pytest.raises(ConfigError, match="root needs 2 of its keys, and --keys gives 1"):
        renew(released.repository, [released.keys])
    assert state(released) == before
    with pytest.raises(ConfigError, match=r"holds no \.key file"):
        refresh(released.repository, [released.repository])


def test_refreshing_needs_online_keys_alone_and_renews_what_is_half_over(
    released: Released, monkeypatch
) -> None:
    online = [released.keys / "online"]
    versions = {role: signed(released.newest(role))["version"] for role in ("rings", "snapshot")}
    assert refresh(released.repository, online) == []
    assert {role: signed(released.newest(role))["version"] for role in versions} == versions
    later = datetime.now(timezone.utc).replace(microsecond=0)
    for days, renewed in ((16, {"snapshot"}), (200, {"snapshot", "rings"})):
        monkeypatch.setattr(
            repository_module, "now", lambda days=days: later + timedelta(days=days)
        )
        refresh(released.repository, online)
        now = {role: signed(released.newest(role))["version"] for role in versions}
        assert {role for role in versions if now[role] > versions[role]} == renewed
        versions = now
    monkeypatch.setattr("trainer.release.acts.now", lambda: later + timedelta(days=700))
    assert [line.split()[0] for line in refresh(released.repository, online)] == ["root", "targets"]


@pytest.mark.parametrize("killed_at", range(1, 6))
def test_a_command_killed_while_it_publishes_leaves_what_was_published(
    released: Released, monkeypatch, killed_at: int
) -> None:
    """The next command goes on from there."""
    write, count = repository_module.write_atomically, 0

    def dies(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == killed_at:
            raise KeyboardInterrupt
        write(path, data)

    before = Repository.read(released.repository, {}).ring("stable")
    with monkeypatch.context() as patch:
        patch.setattr(repository_module, "write_atomically", dies)
        with pytest.raises(KeyboardInterrupt):
            released.release("2.0.0")
    assert Repository.read(released.repository, {}).ring("stable") == before
    released.release("2.0.0")
    assert Repository.read(released.repository, {}).ring("stable").products["washer"].version == (
        "2.0.0"
    )


def test_what_is_there_is_never_overwritten(released: Released, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a repository already"):
        begin(released.repository, tmp_path / "keys")
    assert not (tmp_path / "keys").exists()
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match="check the path"):
        Repository.read(tmp_path / "nothing", {})


def test_new_keys_lie_beside_the_old_ones(released: Released) -> None:
    renew(released.repository, [released.keys], "timestamp")
    assert (released.keys / "online/timestamp-2.key").is_file()
    root = signed(released.newest("root"))
    assert root["version"] == 2
    public = json.loads((released.keys / "online/timestamp-2.pub").read_text())
    assert root["roles"]["timestamp"]["keyids"] == [public["keyid"]]
    with pytest.raises(ConfigError, match="--replace nothing"):
        renew(released.repository, [released.keys], "nothing")


def test_a_stick_holds_what_the_rings_name_and_no_more(released: Released, tmp_path: Path) -> None:
    add(
        released.repository,
        released.folder / "washer-1.0.0.bundle",
        [released.line.public],
        [released.keys],
    )
    copy_to_stick(released.repository, tmp_path / "stick", [released.keys])
    bundles = [path.name for path in (tmp_path / "stick/targets/bundles").iterdir()]
    assert [name.partition(".")[2] for name in bundles] == ["washer-1.1.0.bundle"]
    assert len(find_signers([released.keys])) == sum(role.keys for role in ROLES.values())


def test_a_damaged_copy_on_a_stick_is_made_again(released: Released, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    copy_to_stick(released.repository, stick, [released.keys])
    (bundle,) = stick.rglob("*.bundle")
    whole = bundle.read_bytes()
    bundle.write_bytes(bytes(len(whole)))
    copy_to_stick(released.repository, stick, [released.keys])
    assert bundle.read_bytes() == whole


def test_what_a_ring_does_not_name_cannot_be_removed(released: Released) -> None:
    before = released.newest("timestamp").read_bytes()
    with pytest.raises(ConfigError, match="nothing to remove"):
        set_ring(released.repository, "stable", "wahser", [released.keys], removed=True)
    assert released.newest("timestamp").read_bytes() == before


def test_two_acts_at_once_are_refused(released: Released, tmp_path: Path) -> None:
    with locked(released.repository, LOCK, "test"):
        for act in (
            lambda: refresh(released.repository, [released.keys]),
            lambda: set_ring(released.repository, "stable", "washer", [released.keys], halt=True),
            lambda: renew(released.repository, [released.keys]),
            lambda: copy_to_stick(released.repository, tmp_path / "stick", [released.keys]),
        ):
            with pytest.raises(BusyError, match="wait until it has finished"):
                act()
    with pytest.raises(EdgeError):
        refresh(tmp_path / "nowhere", [released.keys])
    assert not (tmp_path / "nowhere").exists()


def test_a_clock_that_went_back_signs_nothing(released: Released, monkeypatch) -> None:
    later = now() + timedelta(days=400)
    with monkeypatch.context() as patch:
        patch.setattr("trainer.release.repository.now", lambda: later)
        refresh(released.repository, [released.keys])
    before = released.newest("timestamp").read_bytes()
    with pytest.raises(ConfigError, match="correct this machine's clock"):
        refresh(released.repository, [released.keys])
    assert released.newest("timestamp").read_bytes() == before
    renew(released.repository, [released.keys], replace="timestamp")
    refresh(released.repository, [released.keys])


@pytest.mark.parametrize("killed_at", range(1, 9))
def test_a_stick_that_was_pulled_out_shows_what_was_on_it(
    released: Released, tmp_path: Path, monkeypatch, killed_at: int
) -> None:
    """Or nothing, where it was empty; never half of something new."""
    station, stick = released.station(tmp_path / "root", None), tmp_path / "stick"
    config = UpdateConfig(products=("washer",))
    copy_to_stick(released.repository, stick, [released.keys])
    released.release("1.2.0")
    link, count = stick_module.write_atomically, 0

    def pulled(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == killed_at:
            raise OSError(5, "Input/output error", str(path))
        link(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(stick_module, "write_atomically", pulled)
        with suppress(OSError):
            copy_to_stick(released.repository, stick, [released.keys])
    (offer,) = make_source(station, config, stick).find({})
    assert offer.version == ("1.1.0" if count == killed_at else "1.2.0")
