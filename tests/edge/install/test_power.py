"""`edge install --power-mode --clocks` on a stand-in of a Jetson."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from edge.board.clocks import are_pinned
from edge.board.power import PLACE, read_power
from edge.board.power_modes import current_mode
from edge.install import proving
from edge.station.audit import read_audit
from edge.station.store import Store
from tests.support.board_tree import asked, lay_board, put
from tests.support.root import Bundles, run_edge, snapshot, trusting_root
from tests.support.tiny_bundle import KeyPair


@pytest.fixture
def root(tmp_path: Path, key: KeyPair) -> Path:
    root = lay_board(tmp_path / "root")
    trusting_root(root, key)
    return root


@pytest.fixture
def install(bundles: Bundles, root: Path, capsys, monkeypatch):
    def run(*options: object, version: str = "1.0.0", bundle: Path | None = None):
        what = bundle or bundles(version=version)
        return run_edge(capsys, monkeypatch, "install", what, "--root", root, *options)

    return run


def test_mode_and_clocks_are_set_before_the_engines_are_timed(
    root: Path, install, monkeypatch
) -> None:
    seen = []
    measure = proving.measure_engines

    def watch(*arguments, **named):
        seen.append((current_mode(root), are_pinned(root)))
        return measure(*arguments, **named)

    monkeypatch.setattr(proving, "measure_engines", watch)
    answer = install("--power-mode", "25w", "--clocks", "max")
    assert answer.code == 0, answer.err
    assert seen == [("25W", True)]
    assert "power mode 25W, clocks max: `edge run` compares at each start" in answer.out
    assert "systemctl enable edge-power" in answer.out
    power = read_power(root)
    assert power is not None
    assert (power.mode, power.clocks) == ("25W", "max")
    row = read_audit(root)[-1]
    assert (row.act, row.detail) == ("power", {"mode": "25W", "clocks": "max"})


def test_without_options_the_first_installation_records_and_later_ones_compare(
    root: Path, install
) -> None:
    answer = install()
    assert "power mode MAXN_SUPER, clocks default: `edge run` compares" in answer.out
    assert asked(root) == []
    first = (root / PLACE).read_text()
    put(root, "var/lib/nvpmodel/status", "pmode:0000")
    answer = install(version="1.0.1")
    assert answer.code == 0
    assert "in power mode 15W, this station was commissioned in MAXN_SUPER" in answer.out
    assert (root / PLACE).read_text() == first
    assert install("--power-mode", "15W", version="1.0.2").code == 0
    assert json.loads((root / PLACE).read_text())["mode"] == "15W"
    put(root, "var/lib/nvpmodel/status", "pmode:0001")
    answer = install("--clocks", "max", version="1.0.3")
    assert "in power mode 25W, this station was commissioned in 15W" in answer.out
    power = read_power(root)
    assert power is not None
    assert (power.mode, power.clocks) == ("15W", "max")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--power-mode", "40W"), "name one of 15W, 25W, MAXN_SUPER"),
        (("--clocks", "fast"), "say max or default"),
    ],
)
def test_what_the_board_has_not_is_refused_before_anything_changes(
    root: Path, install, options: tuple[str, str], said: str
) -> None:
    before = snapshot(root)
    answer = install(*options)
    assert answer.code == 1
    assert said in answer.err
    assert snapshot(root) == before


def test_a_mode_that_needs_a_reboot_is_told_and_nothing_is_installed(root: Path, install) -> None:
    put(root, "reboot-needed", "")
    answer = install("--power-mode", "15W")
    assert answer.code == 1
    assert "sudo nvpmodel -m 0" in answer.err
    assert Store(root).active_product() is None
    assert not (root / PLACE).exists()


def test_a_bundle_that_is_refused_leaves_the_mode(
    root: Path, install, bundles: Bundles, tmp_path: Path
) -> None:
    damaged = tmp_path / "washer-1.0.0.bundle"
    with tarfile.open(bundles()) as archive:
        at = archive.getmember("model/fp32.onnx").offset_data
    data = bytearray(bundles().read_bytes())
    data[at + 8] ^= 1
    damaged.write_bytes(data)
    answer = install("--power-mode", "15W", bundle=damaged)
    assert answer.code == 1
    assert "fp32.onnx" in answer.err
    assert asked(root) == []


def test_a_dry_run_sets_and_records_nothing(root: Path, install) -> None:
    answer = install("--power-mode", "15W", "--clocks", "max", "--dry-run")
    assert answer.code == 0, answer.err
    assert asked(root) == []
    assert not (root / PLACE).exists()
    assert "power mode" not in answer.out


def test_a_root_before_its_first_boot_is_told_by_name_what_its_boot_shall_set(
    root: Path, install
) -> None:
    for place in ("proc/meminfo", "proc/device-tree/model", "etc/nvpmodel.conf"):
        (root / place).unlink()
    answer = install("--power-mode", "MAXN_SUPER", "--clocks", "max")
    assert answer.code == 0, answer.err
    assert asked(root) == []
    power = read_power(root)
    assert power is not None
    assert (power.mode, power.clocks) == ("MAXN_SUPER", "max")


def test_another_machine_has_no_power_modes(
    store: Store, bundles: Bundles, capsys, monkeypatch
) -> None:
    words = ("install", bundles(), "--root", store.root)
    answer = run_edge(capsys, monkeypatch, *words, "--power-mode", "MAXN")
    assert answer.code == 1
    assert "is no Jetson: leave --power-mode and --clocks out" in answer.err
    assert run_edge(capsys, monkeypatch, *words).code == 0
    assert not (store.root / PLACE).exists()
