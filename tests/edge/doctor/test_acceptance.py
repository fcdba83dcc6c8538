"""`edge doctor --acceptance`: what it does without a board, that it goes on where it ended, and
that its file claims nothing which did not happen on one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge.board.clocks import are_pinned
from edge.board.power_modes import current_mode
from edge.board.set_power import require_mode, set_clocks, set_mode
from edge.config import PLACE
from edge.doctor import acceptance, acceptance_file
from edge.doctor.acceptance import CUT_STEP, NOTHING, Acceptor, is_complete
from edge.doctor.acceptance_bench import Bench, Done, Step, StepFailed
from edge.doctor.acceptance_file import Acceptance, read_acceptance
from edge.doctor.acceptance_steps import STEPS
from edge.errors import ConfigError, DataError
from edge.install.install import install_bundle
from edge.station.store import Store
from tests.support.board_tree import lay_board, put
from tests.support.desk import FakeDesk
from tests.support.planted import plant_fault, with_score
from tests.support.root import Bundles, run_edge, trusting_root
from tests.support.tiny_bundle import KeyPair


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, key: KeyPair, bundles: Bundles) -> Path:
    """To copy from: a station on a stand-in of a board."""
    root = lay_board(tmp_path_factory.mktemp("made") / "board")
    trusting_root(root, key)
    install_bundle(bundles(), root)
    return root


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "board", symlinks=True)


def step_named(name: str) -> Step:
    return next(step for step in STEPS if step.name == name)


def outcomes(report: Acceptance) -> dict[str, str]:
    return {one.name: one.outcome for one in report.steps}


def said(report: Acceptance, name: str) -> str:
    return next(one.said for one in report.steps if one.name == name)


def test_without_a_board_it_does_what_it_can_and_claims_nothing(
    store: Store, bundles: Bundles, tmp_path: Path, capsys, monkeypatch
) -> None:
    install_bundle(bundles(), store.root)
    out = tmp_path / "out.json"
    words = ("doctor", "--acceptance", out, "--root", store.root)
    answer = run_edge(capsys, monkeypatch, *words)
    assert answer.code == 1
    report = read_acceptance(out).report
    assert outcomes(report) == {
        "board": "left out",
        "doctor": "failed",  # a station without a name, and no broker
        "engines": "passed",
        "stage kernels": "left out",
        "camera": "left out",
        "unplug": "left out",
        "lines": "left out",
        "power modes": "left out",
        CUT_STEP: "left out",
    }
    assert "this machine is no Jetson" in said(report, "stage kernels")
    assert said(report, "engines") == "engines proven: 1, of tiny test"
    (engines,) = (one.numbers for one in report.steps if one.name == "engines")
    assert all(name.startswith("washer onnxruntime") and ms > 0 for name, ms in engines.items())
    assert (report.is_target, report.proves, is_complete(report)) == (False, frozenset(), False)
    assert NOTHING in answer.out
    assert "not passed: board, doctor, stage kernels" in answer.out


def test_a_tree_that_looks_like_a_board_is_none(board: Path, tmp_path: Path) -> None:
    steps = [step_named(name) for name in ("board", "doctor")]
    put(board, str(PLACE), '[broker]\nenabled = false\n[camera]\nkind = "virtual"\n')
    report = Acceptor(board, tmp_path / "out.json", FakeDesk()).run(steps)
    assert "Orin Nano" in report.board
    assert outcomes(report) == {"board": "left out", "doctor": "passed", CUT_STEP: "left out"}
    assert report.proves == frozenset()


def test_every_power_mode_is_timed_and_the_first_one_comes_back(
    board: Path, tmp_path: Path
) -> None:
    set_mode(board, require_mode(board, "25W"))
    set_clocks(board, "max")
    step = step_named("power modes")
    report = Acceptor(board, tmp_path / "out.json", FakeDesk()).run([step])
    (result,) = (one for one in report.steps if one.name == "power modes")
    assert {name.partition(":")[0] for name in result.numbers} == {"15W", "25W", "MAXN_SUPER"}
    assert (current_mode(board), are_pinned(board)) == ("25W", True)
    put(board, "reboot-needed", "")
    again = Acceptor(board, tmp_path / "again.json", FakeDesk()).run([step])
    assert said(again, "power modes") == "1 modes; not without a reboot: 15W, MAXN_SUPER"


def test_an_engine_that_is_not_proven_fails_its_step(
    board: Path, tmp_path: Path, monkeypatch
) -> None:
    plant_fault(monkeypatch, with_score(lambda score: score + 50.0), "fp32")
    report = Acceptor(board, tmp_path / "out.json", FakeDesk()).run([step_named("engines")])
    assert outcomes(report)["engines"] == "failed"
    assert "fp32 is not proven: " in said(report, "engines")


def counted(name: str, ends: list[object]) -> tuple[Step, list[int]]:
    """A step that ends in these ways, one after the other, and how often it was done."""
    done: list[int] = []

    def act(_: Bench) -> Done:
        end = ends[len(done)]
        done.append(1)
        if isinstance(end, Exception):
            raise end
        return Done("well", {"answer ms": 4.2})

    return Step(name, lambda _: "", act), done


def test_it_goes_on_after_what_has_passed(board: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    good, goods = counted("good", [None])
    weak, weaks = counted("weak", [StepFailed("no"), None])
    broken, brokens = counted("broken", [KeyError("a bug"), None])
    with pytest.raises(KeyError):
        Acceptor(board, out, FakeDesk()).run([good, weak, broken])
    assert outcomes(read_acceptance(out).report) == {"good": "passed", "weak": "failed"}
    report = Acceptor(board, out, FakeDesk()).run([good, weak, broken])
    assert (len(goods), len(weaks), len(brokens)) == (1, 2, 2)
    assert outcomes(report) == {
        "good": "passed", "weak": "passed", "broken": "passed", CUT_STEP: "left out",
    }  # fmt: skip
    assert [one.numbers for one in report.steps][:1] == [{"answer ms": 4.2}]
    assert read_acceptance(out).report == report


def test_a_file_that_was_changed_is_refused(board: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    step, _ = counted("camera", [StepFailed("no")])
    Acceptor(board, out, FakeDesk()).run([step])
    signed = out.read_text()
    for old, new in (
        ('"failed"', '"passed"'),
        ('"is_target": false', '"is_target": true'),
        ('"no"', '"yes"'),
    ):
        out.write_text(signed.replace(old, new))
        with pytest.raises(DataError, match="was changed since the station wrote it"):
            Acceptor(board, out, FakeDesk())
    for damaged in ("", "{}", signed[: len(signed) // 2], "[]"):
        out.write_text(damaged)
        with pytest.raises(DataError, match="is no acceptance of a station"):
            Acceptor(board, out, FakeDesk())
        assert out.read_text() == damaged
    told = json.loads(signed)
    told["key"]["keyval"]["public"] = "00" * 32
    out.write_text(json.dumps(told))
    with pytest.raises(DataError):
        read_acceptance(out)


def test_it_does_not_go_on_for_another_station_board_or_version(
    board: Path, tmp_path: Path, monkeypatch
) -> None:
    out, other = tmp_path / "out.json", tmp_path / "other"
    Acceptor(board, out, FakeDesk()).run([])
    shutil.copytree(board, other, symlinks=True)
    for name in ("station.key", "station.pub"):
        (other / "var/lib/edge" / name).unlink()
    with pytest.raises(ConfigError, match="is of another station"):
        Acceptor(other, out, FakeDesk())
    put(board, "proc/device-tree/model", "NVIDIA Jetson AGX Thor\0")
    with pytest.raises(ConfigError, match=r"begun on NVIDIA .* this is NVIDIA Jetson A"):
        Acceptor(board, out, FakeDesk())
    put(board, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer"
        " Kit Super\0")  # fmt: skip
    monkeypatch.setattr(acceptance, "version", lambda _: "99.0")
    with pytest.raises(ConfigError, match=r"this is 99\.0"):
        Acceptor(board, out, FakeDesk())


def test_only_a_running_board_makes_a_claim(board: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Bench, "is_target", True)
    good, _ = counted("camera", [None])
    report = Acceptor(board, tmp_path / "out.json", FakeDesk()).run([good])
    assert report.proves == {"camera"}
    assert not is_complete(report)
    assert acceptance_file.CUTS == 10
