"""Power cuts of an acceptance: the tests end the process and change the boot, no power is cut."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge.archive.reading import reading
from edge.doctor import power_cuts
from edge.doctor.acceptance import CUT_STEP, Acceptor
from edge.doctor.acceptance_file import CUTS, Acceptance, read_acceptance
from edge.install.install import install_bundle
from edge.runtime.status_file import StatusFile
from edge.station.lock import RUN, locked
from edge.station.store import Store
from tests.support.desk import FakeDesk, PowerCut
from tests.support.root import Bundles, trusting_root
from tests.support.tiny_bundle import KeyPair

ONLINE = {"state": "online", "reason": "", "ready": True, "why": "", "link": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, key: KeyPair, bundles: Bundles) -> Path:
    """To copy from: a station with 7 records."""
    store = trusting_root(tmp_path_factory.mktemp("made") / "station", key)
    install_bundle(bundles(), store.root)
    with closing(sqlite3.connect(store.data / "line.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, fields TEXT)")
        connection.executemany("INSERT INTO records VALUES (?, '{}')", [(n,) for n in range(1, 8)])
    return store.root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The same at work."""
    store = Store(shutil.copytree(made, tmp_path / "station", symlinks=True))
    with locked(store.data, RUN, "edge run"):
        StatusFile(store.root, lambda: ONLINE).write()
        yield store.root


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the machine boot again."""
    names = iter(f"boot-{number}" for number in range(100))
    now = [next(names)]
    monkeypatch.setattr(power_cuts, "read_boot_id", lambda: now[0])
    return lambda: now.__setitem__(0, next(names))


def go_on(root: Path, out: Path, desk: FakeDesk) -> Acceptance:
    return Acceptor(root, out, desk).run([])


def cut(root: Path, out: Path) -> FakeDesk:
    """The command, until the plug is pulled."""
    desk = FakeDesk(is_attended=True)
    with pytest.raises(PowerCut):
        go_on(root, out, desk)
    return desk


def test_ten_cuts_that_are_survived(root: Path, tmp_path: Path, boot: Callable[[], None]) -> None:
    out = tmp_path / "out.json"
    for number in range(1, CUTS + 1):
        desk = cut(root, out)
        assert desk.told[-1].startswith(f"Power cut {number} of {CUTS}: pull the board's plug now")
        pending = read_acceptance(out).report.pending
        assert pending is not None
        assert (pending.seq, pending.slot[:6]) == (7, "1.0.0-")
        boot()
    report = go_on(root, out, FakeDesk(is_attended=True))
    assert report.has_passed(CUT_STEP)
    assert (len(report.cuts), report.pending) == (CUTS, None)
    assert go_on(root, out, FakeDesk(is_attended=True)) == report


def test_a_shutdown_is_no_cut(root: Path, tmp_path: Path, boot: Callable[[], None]) -> None:
    out = tmp_path / "out.json"
    report = go_on(root, out, FakeDesk(is_attended=True, cut=lambda: True))
    (step,) = report.steps
    assert step.said == "0 of 10 done; this command was ended, not the power"
    assert report.pending is None
    boot()
    cut(root, out)
    assert read_acceptance(out).report.cuts == ()


def test_a_process_that_was_killed_is_no_cut(
    root: Path, tmp_path: Path, boot: Callable[[], None]
) -> None:
    out = tmp_path / "out.json"
    boot()
    cut(root, out)
    cut(root, out)  # in the same boot
    assert read_acceptance(out).report.cuts == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account's rights to take")
def test_root_reads_records_as_the_account_of_the_station(root: Path, monkeypatch) -> None:
    rights = list[int]()

    @contextmanager
    def noted(root: Path) -> Iterator[sqlite3.Connection | None]:
        rights.append(os.geteuid())
        with reading(root) as connection:
            yield connection

    monkeypatch.setattr(power_cuts, "reading", noted)
    with TemporaryDirectory() as folder:  # pytest's own is closed to other accounts
        Path(folder).chmod(0o755)
        open_to_all = Path(shutil.copytree(root, Path(folder) / "station", symlinks=True))
        for path in (open_to_all / "var/lib/edge", *(open_to_all / "var/lib/edge").rglob("*")):
            os.chown(path, 4321, 4321, follow_symlinks=False)
        assert power_cuts.before_cut(Store(open_to_all)).seq == 7
        assert list(power_cuts._damage(Store(open_to_all), 7)) == []
    assert set(rights) == {4321}
    assert os.geteuid() == 0


def test_a_plug_that_nobody_pulls(root: Path, tmp_path: Path) -> None:
    desk = FakeDesk(is_attended=True, cut=lambda: False)
    (step,) = go_on(root, tmp_path / "out.json", desk).steps
    assert (step.outcome, step.said) == ("left out", "0 of 10 done; nobody pulled the plug")


def lose_record(root: Path) -> None:
    with closing(sqlite3.connect(root / "var/lib/edge/line.sqlite")) as connection, connection:
        connection.execute("DELETE FROM records WHERE seq = 7")


def damage_database(root: Path) -> None:
    path = root / "var/lib/edge/line.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        ((size,),) = connection.execute("PRAGMA page_size")
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records'")
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : (page - 1) * size + 8] = b"\xff" * 8
    path.write_bytes(data)


def damage_model(root: Path) -> None:
    path = next(root.glob("var/lib/edge/products/washer/slots/*/model/fp32.onnx"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def lose_proof(root: Path) -> None:
    for path in (root / "var/lib/edge/engines").glob("*.json"):
        path.unlink()


def lose_database(root: Path) -> None:
    for path in (root / "var/lib/edge").glob("line.sqlite*"):
        path.unlink()


@pytest.mark.parametrize(
    ("lose", "said"),
    [
        (lose_record, "record 7 was on disk, the newest is 6"),
        (lose_database, "line.sqlite is gone"),
        (damage_database, "line.sqlite"),
        (damage_model, "fp32.onnx"),
        (lose_proof, "the proof of the engine is gone"),
    ],
)
def test_what_did_not_survive_is_named_and_fails_the_step(
    root: Path, tmp_path: Path, boot: Callable[[], None], lose: Callable[[Path], None], said: str
) -> None:
    out = tmp_path / "out.json"
    cut(root, out)
    boot()
    lose(root)
    report = go_on(root, out, FakeDesk(is_attended=True))
    (step,) = report.steps
    assert step.outcome == "failed"
    assert said in step.said
    assert [bool(one.lost) for one in report.cuts] == [True]


def test_another_bundle_and_a_station_that_stays_away(
    bundles: Bundles,
    root: Path,
    tmp_path: Path,
    boot: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out.json"
    cut(root, out)
    boot()
    install_bundle(bundles(version="1.0.1"), root)
    (root / "run/edge/status.json").unlink()
    monkeypatch.setattr(power_cuts, "ONLINE_S", 0.2)
    (step,) = go_on(root, out, FakeDesk(is_attended=True)).steps
    assert "was active, 1.0.1-" in step.said
    assert "the station did not come back within 0 s" in step.said


def test_without_a_hand_a_bundle_or_the_station_no_power_is_cut(
    made: Path, store: Store, tmp_path: Path
) -> None:
    def left_out(desk: FakeDesk, root: Path) -> str:
        (step,) = go_on(root, tmp_path / "out.json", desk).steps
        assert step.outcome == "left out"
        return step.said

    attended = FakeDesk(is_attended=True)
    assert "nobody can answer" in left_out(FakeDesk(), store.root)
    assert "no bundle is installed" in left_out(attended, store.root)
    (tmp_path / "out.json").unlink()
    assert "start the station" in left_out(attended, made)
    assert attended.told[-1] == f"left out  {CUT_STEP}: 0 of 10 done; {power_cuts.START}"
