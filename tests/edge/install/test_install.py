"""Installing, going back, and being killed at it."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.bundle.versions import version_key
from edge.errors import BundleError, BusyError, ParityError, StorageError
from edge.install import install as install_module
from edge.install.install import STEPS, install_bundle
from edge.install.proof_file import read_proof
from edge.install.proven import open_proven_engine
from edge.provision.architecture import architecture
from edge.station.audit import read_audit
from edge.station.lock import CHANGE, RUN, locked
from edge.station.store import Store
from tests.support.patience import patience_s
from tests.support.root import Bundles, lay_foreign_system, run_edge, snapshot
from tests.support.tiny_bundle import KeyPair, make_tiny_bundle

REPOSITORY = Path(__file__).resolve().parents[3]


def test_first_install_lays_down_the_whole_root(
    store: Store, bundles: Bundles, capsys, monkeypatch
) -> None:
    answer = run_edge(
        capsys, monkeypatch, "install", bundles("washer", "1.0.0"), "--root", store.root
    )
    assert answer.code == 0, answer.err
    assert "installed washer 1.0.0" in answer.out
    assert re.search(r"^onnxruntime \S+ +fp32 .* judges$", answer.out, re.MULTILINE)
    assert re.search(
        r"^threshold [\d.]+\. With 95% confidence at most \S+% of normal parts are rejected,"
        r" 11\.1% on average",
        answer.out,
        re.MULTILINE,
    )
    assert "active product: washer" in answer.out
    installed = store.active()
    store.verify(installed)
    assert installed.slot == f"1.0.0-{installed.digest[:12]}"
    base = store.data / "products" / "washer"
    assert (base / "current").readlink() == Path("slots") / installed.slot
    assert not (base / "previous").exists()
    assert (store.data / "active").read_text() == "washer\n"
    assert (store.root / "etc/edge/station.toml").is_file()
    assert (store.root / "etc/systemd/system/edge.service").is_file()
    assert [row.act for row in read_audit(store.root)] == [
        "trust",
        "threshold",
        "install",
        "installed",
    ]
    assert read_audit(store.root)[-1].detail["digest"] == installed.digest
    assert not list(store.root.rglob(".*"))


def test_a_second_version_keeps_the_first_as_previous(store: Store, bundles) -> None:
    first = install_bundle(bundles("washer", "1.0.0"), store.root)
    second = install_bundle(bundles("washer", "2.0.0"), store.root)
    assert second.replaced == first.slot
    assert store.link("washer", "previous") == first.slot
    assert store.active().manifest.version == "2.0.0"
    install_bundle(bundles("washer", "3.0.0"), store.root)
    # 1.0.0 made room
    assert [bundle.manifest.version for bundle in store.slots("washer")] == ["2.0.0", "3.0.0"]
    assert store.link("washer", "previous").startswith("2.0.0")


def test_installing_the_same_bundle_again_changes_nothing(store: Store, bundles) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    install_bundle(bundles("washer", "2.0.0"), store.root)
    before, links, audit = list(snapshot(store.root)), store.token(), read_audit(store.root)
    again = install_bundle(bundles("washer", "2.0.0"), store.root)
    assert not again.changed
    assert "already installed" in again.lines()[0]
    assert (list(snapshot(store.root)), store.token(), read_audit(store.root)) == (
        before,
        links,
        audit,
    )
    assert store.link("washer", "previous").startswith("1.0.0")


def test_an_earlier_version_is_installed_only_when_that_is_meant(
    store: Store, bundles: Bundles, capsys, monkeypatch
) -> None:
    for version in ("1.0.0", "2.0.0"):
        install_bundle(bundles("washer", version), store.root)
    before, line = (
        snapshot(store.root),
        ("install", bundles("washer", "1.0.0"), "--root", store.root),
    )
    for more in ([], ["--dry-run"]):
        answer = run_edge(capsys, monkeypatch, *line, *more)
        assert answer.code == 1
        assert "is washer 1.0.0, older than the current 2.0.0" in answer.err
        assert "--allow-downgrade" in answer.err
        assert "edge bundle rollback" in answer.err
    assert names_and_content(snapshot(store.root)) == names_and_content(before)
    assert run_edge(capsys, monkeypatch, *line, "--allow-downgrade").code == 0
    assert store.active().manifest.version == "1.0.0"
    assert store.link("washer", "previous").startswith("2.0.0")
    intent, done = read_audit(store.root)[-2:]
    assert (intent.act, done.act) == ("install", "installed")
    for row in (intent, done):
        assert (row.detail["version"], row.detail["downgrade_from"]) == ("1.0.0", "2.0.0")
    install_bundle(bundles("washer", "2.0.0"), store.root)
    assert "downgrade_from" not in read_audit(store.root)[-1].detail


def test_the_same_version_with_other_content_is_no_update(
    store: Store, bundles: Bundles, key: KeyPair, tmp_path: Path
) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    other = make_tiny_bundle(tmp_path, key, version="1.0.0", camera={"fps": 15})
    with pytest.raises(
        BundleError, match=r"of the same version as the current 1\.0\.0, but not the same bundle"
    ):
        install_bundle(other, store.root)
    install_bundle(other, store.root, allow_downgrade=True)
    assert read_audit(store.root)[-1].detail["downgrade_from"] == "1.0.0"
    assert not install_bundle(other, store.root).changed


def test_after_a_rollback_the_version_taken_back_is_a_newer_one(store: Store, bundles) -> None:
    for version in ("1.0.0", "2.0.0"):
        install_bundle(bundles("washer", version), store.root)
    store.rollback("washer")
    assert install_bundle(bundles("washer", "2.0.0"), store.root).changed


def test_versions_are_compared_piece_by_piece() -> None:
    ordered = [
        "0.9",
        "1.0.dev1",
        "1.0a1",
        "1.0-alpha.2",
        "1.0b1",
        "1.0-rc1",
        "1.0.0rc2",
        "1.0",
        "1.0.post1",
        "1.0.1",
        "1.1-beta",
        "v1.1",
        "1.9",
        "1.10",
        "2026.01.31",
        "2026-02-01",
    ]
    assert sorted([*ordered[::-1]], key=version_key) == ordered
    assert len({version_key(version) for version in ordered}) == len(ordered)
    assert version_key("1.0") == version_key("v1.0.0")


def names_and_content(of: dict[str, tuple[str, int, str]]) -> dict[str, tuple[str, str]]:
    """A snapshot without times and without SQLite's own files, which a reader may write anew."""
    return {
        name: (kind, content)
        for name, (kind, _, content) in of.items()
        if "sqlite" not in name and content
    }


def test_reinstalling_mends_a_damaged_slot(store: Store, bundles) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    installed = store.active()
    (installed.folder / "model" / "fp32.onnx").write_bytes(b"rot")
    (installed.folder / "golden" / "0001.npz").unlink()
    (installed.folder / "stray").write_text("x")
    with pytest.raises(BundleError):
        store.verify(installed)
    install_bundle(bundles("washer", "1.0.0"), store.root)
    store.verify(store.active())


def test_products_side_by_side(store: Store, bundles: Bundles, capsys, monkeypatch) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    washer = snapshot(store.products_folder / "washer")
    result = install_bundle(bundles("screw", "7.0.0"), store.root)
    assert snapshot(store.products_folder / "washer") == washer
    assert result.active == "washer"
    assert any("edge bundle select screw" in line for line in result.lines())
    answer = run_edge(capsys, monkeypatch, "bundle", "select", "screw", "--root", store.root)
    assert answer.code == 0
    assert store.active().product == "screw"
    install_bundle(bundles("washer", "2.0.0"), store.root)
    assert store.active().product == "screw"
    listed = run_edge(capsys, monkeypatch, "bundle", "list", "--root", store.root).out
    assert [line[:10].split() for line in listed.splitlines()] == [
        ["*", "screw"],
        ["-", "washer"],
        ["washer"],
    ]
    shown = run_edge(capsys, monkeypatch, "bundle", "show", "--root", store.root).out
    assert "screw 7.0.0" in shown
    assert "judges       detector" in shown
    assert re.search(
        r"^engine       onnxruntime \S+ fp32 on .* ms: the only one that is proven$",
        shown,
        re.MULTILINE,
    )


def test_select_of_a_product_that_is_not_installed(
    store: Store, bundles: Bundles, capsys, monkeypatch
) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    before = snapshot(store.root)
    answer = run_edge(capsys, monkeypatch, "bundle", "select", "gear", "--root", store.root)
    assert answer.code == 1
    assert "gear" in answer.err
    assert "washer" in answer.err
    assert snapshot(store.root) == before


def test_rollback_and_back_again(store: Store, bundles: Bundles, capsys, monkeypatch) -> None:
    first = install_bundle(bundles("washer", "1.0.0"), store.root)
    answer = run_edge(capsys, monkeypatch, "bundle", "rollback", "--root", store.root)
    assert answer.code == 1
    assert "no earlier bundle" in answer.err
    second = install_bundle(bundles("washer", "2.0.0"), store.root)
    answer = run_edge(capsys, monkeypatch, "bundle", "rollback", "--root", store.root)
    assert answer.code == 0
    assert f"washer is back to {first.slot}, previous is {second.slot}" in answer.out
    assert store.active().slot == first.slot
    store.verify(store.active())
    assert [row.act for row in read_audit(store.root)][-2:] == ["rollback", "rolled back"]
    store.rollback("washer")
    assert store.active().slot == second.slot


def test_rollback_refuses_a_damaged_bundle(store: Store, bundles) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    install_bundle(bundles("washer", "2.0.0"), store.root)
    (store.installed("washer", "previous").folder / "report.html").write_text("rot")
    with pytest.raises(BundleError, match=r"report\.html"):
        store.rollback("washer")
    assert store.active().manifest.version == "2.0.0"


def test_dry_run_proves_everything_and_writes_nothing(
    store: Store, bundles: Bundles, capsys, monkeypatch
) -> None:
    before = snapshot(store.root)
    answer = run_edge(
        capsys,
        monkeypatch,
        "install",
        bundles("washer", "1.0.0"),
        "--root",
        store.root,
        "--dry-run",
    )
    assert answer.code == 0
    assert "would install washer 1.0.0" in answer.out
    assert "fp32 judges" in answer.out
    assert snapshot(store.root) == before


def test_a_running_edge_run_does_not_stop_an_installation(store: Store, bundles) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    with locked(store.data, RUN, "edge run"):
        token = store.token()
        install_bundle(bundles("washer", "2.0.0"), store.root)
        assert store.token() != token


def _hold(
    folder: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event
) -> None:
    with locked(folder, CHANGE, "another"):
        ready.set()
        done.wait(patience_s(10))


def test_two_changes_never_interleave(store: Store, bundles) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(store.data, ready, done))
    holder.start()
    try:
        assert ready.wait(patience_s(10))
        before = snapshot(store.root)
        with pytest.raises(BusyError, match=f"process {holder.pid}"):
            install_bundle(bundles("washer", "1.0.0"), store.root)
        assert snapshot(store.root) == before
    finally:
        done.set()
        holder.join(60)
    install_bundle(bundles("washer", "1.0.0"), store.root)


@pytest.mark.endurance
def test_five_installations_at_once_leave_one_of_the_bundles_active(store: Store, bundles) -> None:
    paths = [bundles("washer", f"{index}.0.0") for index in range(1, 6)]
    command = [sys.executable, "-m", "edge", "install"]
    running = [
        subprocess.Popen(
            [*command, path, "--root", store.root],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for path in paths
    ]
    ends = [
        (process.communicate(timeout=patience_s(20)), process.returncode) for process in running
    ]
    assert any(code == 0 for _, code in ends)
    assert all(code == 0 or "change.lock is held by" in said[1] for said, code in ends)
    store.verify(store.active())
    assert not (store.data / ".staging").exists()


def test_disk_without_room_is_told_before_anything_is_written(
    store: Store, bundles: Bundles, monkeypatch
) -> None:
    usage = shutil.disk_usage(store.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    before = snapshot(store.root)
    with pytest.raises(StorageError, match="make room"):
        install_bundle(bundles("washer", "1.0.0"), store.root)
    assert snapshot(store.root) == before


def test_disk_that_fills_up_while_staging(store: Store, bundles: Bundles, monkeypatch) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    before, calls = list(snapshot(store.root)), []

    def fail_later(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_later)
    with pytest.raises(StorageError, match="no space left on the disk"):
        install_bundle(bundles("washer", "2.0.0"), store.root)
    monkeypatch.undo()
    assert list(snapshot(store.root)) == before
    assert store.active().manifest.version == "1.0.0"


# --- the engine ---


def test_the_proof_is_remembered_and_opens_the_same_engine(
    store: Store, bundles: Bundles, monkeypatch
) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    proof = read_proof(store, store.active())
    judge = proof.judge(store.active().manifest)
    assert (proof.state, judge.precision) == ("proven", "fp32")
    monkeypatch.setattr("edge.install.proving.prove", None)  # would fail if it proved again
    proven = open_proven_engine(store, store.active())
    assert (proven.engine.name, proven.engine.precision) == (judge.runtime, "fp32")
    assert proven.threshold == judge.section.threshold
    proven.engine.close()


def test_a_bundle_that_rotted_since_the_installation_never_judges(store: Store, bundles) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    model = store.active().model("fp32")
    data = bytearray(model.read_bytes())
    data[-20] ^= 1
    model.write_bytes(data)
    with pytest.raises(BundleError, match=r"fp32\.onnx is damaged"):
        open_proven_engine(store, store.active())


def test_a_disk_moved_to_another_board_is_proven_there(
    store: Store, bundles: Bundles, monkeypatch
) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    for module in ("proven", "proving"):
        monkeypatch.setattr(f"edge.install.{module}.this_machine", lambda: "another board")
    open_proven_engine(store, store.active()).engine.close()
    assert read_proof(store, store.active()).board == "another board"


def test_a_new_runtime_version_is_proven_again(store: Store, bundles) -> None:
    install_bundle(bundles("washer", "1.0.0"), store.root)
    path = store.engines / f"{store.active().digest[:12]}.json"
    path.write_text(path.read_text().replace("onnxruntime ", "onnxruntime 0.0."))
    open_proven_engine(store, store.active()).engine.close()
    assert "onnxruntime 0.0." not in path.read_text()


def test_root_of_another_architecture_leaves_the_engine_pending(store: Store, bundles) -> None:
    lay_foreign_system(store.root)
    result = install_bundle(bundles("washer", "1.0.0"), store.root)
    assert "engine pending" in result.lines()[1]
    assert read_proof(store, store.active()).state == "pending"
    open_proven_engine(store, store.active()).engine.close()  # what the first `edge run` does
    assert read_proof(store, store.active()).state == "proven"


def test_root_with_this_machines_system_is_proven_at_once(store: Store, bundles) -> None:
    shutil.copytree(
        "/usr/bin",
        store.root / "usr/bin",
        symlinks=True,
        ignore=lambda _, names: set(names) - {"env"},
    )
    assert architecture(store.root) == architecture(Path("/"))
    assert install_bundle(bundles("washer", "1.0.0"), store.root).proven is not None


def test_a_pending_engine_that_fails_its_proof_never_judges(
    store: Store, bundles: Bundles, monkeypatch
) -> None:
    lay_foreign_system(store.root)
    install_bundle(bundles("washer", "1.0.0"), store.root)
    monkeypatch.setattr("edge.proof.prove.board_failures", lambda *_, **__: ("planted",))
    with pytest.raises(ParityError, match="planted"):
        open_proven_engine(store, store.active())
    assert read_proof(store, store.active()).state == "pending"


# --- killed: one real process; every cut of every act is in tests/cuts ---


@pytest.mark.endurance
@pytest.mark.parametrize("step", ["slot", "done"])
def test_a_killed_installation_is_finished_by_the_next(step: str, store: Store, bundles) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom edge.install.install import"
        " install_bundle\ndef reached(step):\n    step == sys.argv[3] and os.kill(os.getpid(),"
        " signal.SIGKILL)\ninstall_bundle(Path(sys.argv[1]), Path(sys.argv[2]), reached=reached)\n"
    )
    command = [sys.executable, "-c", script, bundles("washer", "2.0.0"), store.root, step]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -signal.SIGKILL
    assert store.active_product() == ("washer" if step == "done" else None)
    assert install_bundle(bundles("washer", "2.0.0"), store.root).active == "washer"
    store.verify(store.active())
    assert not list(store.root.rglob(".*"))


def test_the_steps_are_those_that_are_documented(store: Store, bundles) -> None:
    seen: list[str] = []
    install_bundle(bundles("washer", "1.0.0"), store.root, reached=seen.append)
    assert tuple(seen) == STEPS
    assert install_module.STEPS[0] == "check"


def test_a_product_with_a_plane_for_each_image_is_named_wherever_the_station_speaks_of_it(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch
) -> None:
    bundle = make_tiny_bundle(tmp_path, key, camera={"fixed": False})
    sentence = (
        "trained with a plane fitted to each image; this station judges with its one calibrated"
        " plane"
    )
    for command in (["install", bundle, "--dry-run"], ["install", bundle], ["status"], ["verify"]):
        answer = run_edge(capsys, monkeypatch, *command, "--root", store.root)
        assert answer.out.count(sentence) == 1, command


@pytest.mark.parametrize(
    "changes", [{"presence": True}, {"presence": False, "camera": {"fixed": False}}]
)
def test_one_plane_for_all_images_or_no_depth_is_nothing_to_name(
    store: Store, key: KeyPair, tmp_path: Path, changes: dict[str, Any]
) -> None:
    result = install_bundle(make_tiny_bundle(tmp_path, key, **changes), store.root)
    assert "plane fitted to each image" not in "".join(result.lines())
