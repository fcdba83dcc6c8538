"""The account of the service owns var/lib/edge; whatever it puts there, root changes nothing
elsewhere.

And the station's files have their modes whatever the umask, and an account that may do nothing is
told so.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.errors import EdgeError
from edge.install.install import install_bundle
from edge.station import audit
from edge.station.account import acting_for
from edge.station.audit import append_audit, read_audit
from edge.station.root import DATA, TRUST
from edge.station.settle import settle
from edge.station.store import Store
from edge.station.trust import trust
from tests.support.account import Account, answers_of
from tests.support.mistakes import Run, refused
from tests.support.root import Bundles, snapshot, trusting_root
from tests.support.tiny_bundle import KeyPair, make_key

pytestmark = pytest.mark.timeout(300)
REPOSITORY = Path(__file__).resolve().parents[3]
SERVICE = 65534  # an account that owns nothing else
WASHER = "products/washer"

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can act for another account: run as root"
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, key: KeyPair, bundles: Bundles) -> Path:
    """A station with 1.0.0 and 2.0.0."""
    store = trusting_root(tmp_path_factory.mktemp("pristine") / "station", key)
    for version in ("1.0.0", "2.0.0"):
        install_bundle(bundles("washer", version), store.root)
    return store.root


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account reaches, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="edge-strangers-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def store(open_folder: Path, pristine: Path) -> Store:
    shutil.copytree(pristine, open_folder / "station", symlinks=True)
    return Store(open_folder / "station")


@pytest.fixture
def outside(open_folder: Path) -> Path:
    """What belongs to root elsewhere: a folder like a station's, with names that the station
    deletes or writes.
    """
    folder = open_folder / "outside"
    for name in (
        "slots/1.0.0-0123456789ab",
        "washer/slots/9.9.9-0123456789ab",
        "site",
        "2020-01-01/part",
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "precious").write_text("precious")
    for name in (
        "0123456789ab.json",
        "precious",
        "washer/.current.new",
        "site/.geometry.json.x",
        "a.plan",
    ):
        (folder / name).write_text("precious")
    sqlite3.connect(folder / "other.sqlite").executescript(
        "CREATE TABLE a (b); INSERT INTO a VALUES (1);"
    )
    return folder


def own(store: Store, uid: int = SERVICE) -> None:
    """var/lib/edge and all that is in it belongs to the service's account."""
    for path in (store.data, *store.data.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


def acts(store: Store, bundles: Bundles, other: KeyPair) -> list[Callable[[], object]]:
    return [
        lambda: install_bundle(bundles("washer", "3.0.0"), store.root),
        lambda: store.rollback("washer"),
        lambda: trust(store, other.public),
        lambda: settle(store),
        lambda: append_audit(store.root, "act", {}),
        lambda: store.select("washer"),
    ]


# --- links ---


PLACES = [
    ("engines", "."),
    ("products", "."),
    (WASHER, "washer"),
    (f"{WASHER}/slots", "slots"),
    (f"{WASHER}/site", "site"),
    (".staging", "."),
    (f"{WASHER}/current", "slots/1.0.0-0123456789ab"),
    (f"{WASHER}/previous", "slots"),
    ("parts", "."),
    ("active", "precious"),
    ("line.sqlite", "other.sqlite"),
    ("line.sqlite-wal", "precious"),
    ("line.sqlite-journal", "precious"),
    ("line.seq", "precious"),
    ("change.lock", "precious"),
    (".", "."),
    (f"{WASHER}/slots/3.0.0-0123456789ab", "slots"),
    ("change.lock", "not there"),
    ("line.sqlite", "not there"),
    (".active.x", "."),
    ("engines/.x.json.y", "."),
]


@pytest.mark.endurance
@pytest.mark.parametrize(
    ("place", "target", "uid"),
    [
        *(pytest.param(*case, SERVICE, marks=needs_root) for case in PLACES),
        *((*case, os.geteuid()) for case in PLACES[:8]),
    ],
)
def test_a_link_leads_no_act_out_of_the_station(
    store: Store, bundles: Bundles, outside: Path, tmp_path: Path, place: str, target: str, uid: int
) -> None:
    """Where root owns everything there is no stranger; the places that are known are refused all
    the same.
    """
    link, before = store.data / place, snapshot(outside)
    shutil.rmtree(link) if link.is_dir() and not link.is_symlink() else link.unlink(missing_ok=True)
    link.symlink_to(outside / target)
    if place != ".":
        own(store, uid)
    else:
        os.chown(store.data.parent, uid, uid)
    for act in acts(store, bundles, make_key(tmp_path, "other")):
        with suppress(EdgeError):  # a sentence each
            act()
    assert snapshot(outside) == before


@pytest.mark.endurance
@pytest.mark.parametrize("uid", [pytest.param(SERVICE, marks=needs_root), os.geteuid()])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("active", "fifo"),
        ("line.sqlite", "fifo"),
        ("change.lock", "fifo"),
        ("line.sqlite-wal", "fifo"),
        ("line.sqlite", "hard link"),
        ("line.sqlite-journal", "hard link"),
        ("engines", "fifo"),
        ("products", "fifo"),
        (f"{WASHER}/previous", "fifo"),
        (f"{WASHER}/slots", "fifo"),
    ],
)
def test_a_pipe_or_a_second_name_is_not_waited_for_nor_written(
    store: Store, bundles: Bundles, outside: Path, tmp_path: Path, name: str, kind: str, uid: int
) -> None:
    place, before = store.data / name, snapshot(outside)
    (
        shutil.rmtree(place)
        if place.is_dir() and not place.is_symlink()
        else place.unlink(missing_ok=True)
    )
    own(store, uid)
    os.mkfifo(place) if kind == "fifo" else place.hardlink_to(outside / "other.sqlite")
    for act in acts(store, bundles, make_key(tmp_path, "other")):
        with suppress(EdgeError):  # a sentence each
            act()
    assert snapshot(outside) == before


def _swap(data: Path, outside: Path, ready: multiprocessing.synchronize.Event) -> None:
    """As the service's account, change folders for links and back, for ever."""
    os.setgroups([])
    os.setresgid(SERVICE, SERVICE, SERVICE)
    os.setresuid(SERVICE, SERVICE, SERVICE)
    ready.set()
    turn = 0
    while True:
        turn += 1
        for name in (f"{WASHER}/slots", "engines", f"{WASHER}/site", ".staging"):
            place, aside = data / name, data / f"aside-{name.replace('/', '-')}"
            try:
                place.rename(aside)
                place.symlink_to(outside / ("slots" if "slots" in name else "."))
                place.unlink()
                aside.rename(place)
            except OSError:
                continue


def _settle(store: Store) -> None:
    """As every command does it: under the change lock, with the rights that come with it. What is
    checked before it cannot hold while another process changes the links; the rights do.
    """
    with store.change("settle"):
        settle(store)


@needs_root
def test_links_that_are_changed_meanwhile_lead_root_nowhere(
    store: Store, bundles: Bundles, outside: Path
) -> None:
    own(store)
    before = snapshot(outside)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    swapper = context.Process(target=_swap, args=(store.data, outside, ready), daemon=True)
    swapper.start()
    try:
        assert ready.wait(60)
        for _ in range(3):
            for act in (
                lambda: install_bundle(bundles("washer", "3.0.0"), store.root),
                lambda: store.rollback("washer"),
                lambda: _settle(store),
                lambda: install_bundle(bundles("washer", "2.0.0"), store.root),
            ):
                # a sentence each: what was taken away is not there
                with suppress(EdgeError, OSError):
                    act()
    finally:
        os.kill(swapper.pid or 0, signal.SIGKILL)
        swapper.join(60)
    assert snapshot(outside) == before


@needs_root
@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("engines", "prove"),
        (WASHER, "slot"),
        (WASHER, "done"),
        (f"{WASHER}/slots", "slot"),
        (".staging", "slot"),
    ],
)
def test_a_link_that_is_put_there_between_two_steps_leads_root_nowhere(
    store: Store, bundles: Bundles, outside: Path, name: str, step: str
) -> None:
    own(store)
    before, place, put = snapshot(outside), store.data / name, []

    def put_link(reached: str) -> None:
        if reached == step:
            with suppress(FileNotFoundError):
                place.rename(store.data / "aside")
            put.append(place)
            place.symlink_to(
                outside / {WASHER: "washer", f"{WASHER}/slots": "slots"}.get(name, ".")
            )

    with suppress(EdgeError, OSError):
        install_bundle(bundles("washer", "3.0.0"), store.root, reached=put_link)
    assert put == [place]
    assert snapshot(outside) == before


# --- whose rights ---


@needs_root
def test_root_works_as_the_owner_and_what_it_makes_is_the_owners(
    store: Store, bundles: Bundles
) -> None:
    own(store)
    install_bundle(bundles("washer", "3.0.0"), store.root)
    store.rollback("washer")
    assert {path.lstat().st_uid for path in store.data.rglob("*")} == {SERVICE}
    assert {path.lstat().st_uid for path in (store.root / "etc").rglob("*")} == {0}
    assert (os.getresuid(), os.getresgid()) == ((0, 0, 0), (0, 0, 0))
    assert read_audit(store.root)[-1].who == audit.current_user() == "root"


@needs_root
def test_rights_are_those_of_the_place_and_come_back(store: Store) -> None:
    own(store)
    groups = os.getgroups()
    with acting_for(store.root, DATA):
        assert (os.geteuid(), os.getegid()) == (SERVICE, SERVICE)
        assert 0 not in os.getgroups()
        assert audit.current_user() == "root"
        with acting_for(store.root, TRUST):
            assert os.geteuid() == 0
        with acting_for(store.root, DATA):
            assert os.geteuid() == SERVICE
        regain = "import os; print(os.getresuid()); os.setuid(0)"
        child = subprocess.run([sys.executable, "-c", regain], capture_output=True, text=True)
        assert child.stdout == f"({SERVICE}, {SERVICE}, {SERVICE})\n"
        assert "PermissionError" in child.stderr
        with pytest.raises(PermissionError):
            (store.root / "etc/new").touch()
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == ((0, 0, 0), (0, 0, 0), groups)


def test_who_is_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_name = audit.current_user()
    for name in ("SUDO_USER", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")
    assert audit.current_user() == own_name
    monkeypatch.setattr(audit, "real_uid", lambda: 0)
    for content, who in (
        ("65534\n", "root (login nobody)"),
        ("0\n", "root"),
        ("4294967295\n", "root"),
        ("", "root"),
        ("123456789", "root (login uid 123456789)"),
    ):
        (tmp_path / "loginuid").write_text(content)
        monkeypatch.setattr(audit, "LOGIN_UID", tmp_path / "loginuid")
        assert audit.current_user() == who


# --- forged rows ---


@pytest.mark.parametrize(
    "detail",
    [
        {
            "product": "../../../../outside",
            "slot": "1.0.0-0123456789ab",
            "before": None,
            "previous": None,
        },
        {
            "product": "/",
            "slot": "1.0.0-0123456789ab",
            "before": "1.0.0-0123456789ab",
            "previous": None,
        },
        {"product": "washer", "slot": "../x", "before": None, "previous": None},
        {
            "product": "washer",
            "slot": "1.0.0-0123456789ab",
            "before": None,
            "previous": "../../../../../outside",
        },
        {"product": "washer", "slot": ["a"], "before": None, "previous": None},
        {"product": {"a": 1}},
        {},
        {"product": "gear", "slot": "1.0.0-0123456789ab", "before": None, "previous": None},
    ],
)
def test_a_forged_open_row_moves_nothing_and_stops_nothing(
    store: Store, bundles: Bundles, outside: Path, detail: dict[str, object]
) -> None:
    before, previous = snapshot(outside), store.link("washer", "previous")
    append_audit(store.root, "install", detail)
    settle(store)
    assert store.link("washer", "previous") == previous
    assert install_bundle(bundles("washer", "3.0.0"), store.root).changed
    assert snapshot(outside) == before
    assert [row.act for row in read_audit(store.root)][-2:] == ["install", "installed"]


@pytest.mark.parametrize(
    "detail", [b"\xff\xfe", "not json", "[1]", "null", 7, "[" * 100_000, '{"product": NaN}']
)
def test_a_row_that_is_no_row_is_passed_over(
    store: Store, bundles: Bundles, detail: object
) -> None:
    with sqlite3.connect(store.data / "line.sqlite") as connection:
        insert = (
            "INSERT INTO audit (at, who, act, detail) VALUES (?, CAST(? AS TEXT), 'install', ?)"
        )
        connection.execute(insert, ("", b"\xff", detail))
    connection.close()
    settle(store)
    assert install_bundle(bundles("washer", "3.0.0"), store.root).changed


# --- what lies among the slots ---


def test_a_stray_among_the_slots_stops_nothing_and_is_told(
    store: Store, bundles: Bundles, run: Run
) -> None:
    slots = store.products_folder / "washer" / "slots"
    (slots / "notes.txt").write_text("mine")
    (slots / "1.0.0-0123456789ab").write_text("a file that is named like a slot")
    (slots / "backup").mkdir()
    os.mkfifo(slots / "pipe")
    (slots / "2.0.0-0123456789ab").symlink_to("/etc")
    answer = run("edge", "install", bundles("washer", "3.0.0"), "--root", store.root)
    assert answer.code == 0, answer.err
    for name in ("backup", "notes.txt", "pipe"):
        assert f"{slots / name} is no bundle and is left alone" in answer.out
    assert (slots / "notes.txt").read_text() == "mine"
    assert not os.path.lexists(slots / "1.0.0-0123456789ab")
    assert not os.path.lexists(slots / "2.0.0-0123456789ab")
    assert run("edge", "bundle", "list", "--root", store.root).code == 0
    assert run("edge", "bundle", "rollback", "--root", store.root).code == 0


def test_anything_in_place_of_the_staging_folder_is_cleared(store: Store, bundles: Bundles) -> None:
    for make in (
        lambda: store.staging.write_text("x"),
        lambda: os.mkfifo(store.staging),
        lambda: (store.staging / "a/b").mkdir(parents=True),
        lambda: store.staging.symlink_to("/etc"),
    ):
        make()
        settle(store)
        assert not os.path.lexists(store.staging)


# --- modes ---


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o027])
def test_modes_do_not_depend_on_the_umask(
    tmp_path: Path, key: KeyPair, bundles: Bundles, umask: int
) -> None:
    before = os.umask(umask)
    try:
        store = trusting_root(tmp_path / "station", key)
        install_bundle(bundles("washer", "1.0.0"), store.root)
        install_bundle(bundles("washer", "2.0.0"), store.root)
        store.rollback("washer")
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE(path.lstat().st_mode)
        for path in store.root.rglob("*")
        if not path.is_symlink()
    }
    assert {
        path for path, mode in modes.items() if mode != (0o755 if path.is_dir() else 0o644)
    } == set()


def test_what_everybody_may_change_is_not_trusted(store: Store, bundles: Bundles, run: Run) -> None:
    for name in ("etc/edge/trust", f"etc/edge/trust/{store.keys.all()[0].keyid}.pub"):
        path = store.root / name
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | 0o002)
        for line in (("verify",), ("install", bundles("washer", "3.0.0"))):
            refused(run("edge", *line, "--root", store.root), "edge", f"chmod o-w {path}")
        path.chmod(mode)
    store.data.chmod(0o777)
    refused(
        run("edge", "install", bundles("washer", "3.0.0"), "--root", store.root),
        "edge",
        f"chmod o-w {store.data}",
    )


# --- an account that may do nothing ---

LINES = (
    "status",
    "verify",
    "bundle list",
    "bundle show",
    "bundle select washer",
    "bundle rollback",
    "trust list",
    "trust other.pub",
    "trust remove line.pub --force",
    "install washer-3.0.0.bundle",
    "install washer-3.0.0.bundle --dry-run",
    "calibrate threshold --false-rejects 5%",
    "calibrate plane",
    "run --once --max-parts 1",
    "inspect --out pictures",
    "inspect . --out pictures",
)


@pytest.fixture(scope="module")
def account(
    tmp_path_factory: pytest.TempPathFactory, pristine: Path, key: KeyPair, bundles: Bundles
) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("loaded")
    shutil.copytree(pristine, folder / "station", symlinks=True)
    shutil.copy(bundles("washer", "3.0.0"), folder)
    other = Account(folder, [f"{line} --root station" for line in LINES])
    yield other
    other.close()


@needs_root
@pytest.mark.parametrize(
    ("closed", "mode"),
    [
        (None, 0),
        ("etc/edge/station.toml", 0o600),
        ("etc/edge", 0o700),
        ("etc/edge/trust", 0o700),
        (str(DATA), 0o700),
        (f"{DATA}/line.sqlite", 0o600),
        (f"{DATA}/products", 0o700),
        (f"{DATA}/active", 0o600),
        (".", 0o700),
    ],
)
def test_an_account_that_may_do_nothing_is_told_so_in_a_sentence(
    store: Store,
    open_folder: Path,
    key: KeyPair,
    bundles: Bundles,
    account: Account,
    closed: str | None,
    mode: int,
) -> None:
    for path in (key.public, bundles("washer", "3.0.0"), make_key(open_folder, "other").public):
        (open_folder / path.name).write_bytes(path.read_bytes())
        (open_folder / path.name).chmod(0o644)
    if closed is not None:
        (store.root / closed).chmod(mode)
    before = snapshot(store.root)
    lines = [f"{line} --root station" for line in LINES]
    for line, code, said in account.answers(SERVICE, open_folder, lines):
        assert code in (0, 1), (line, said)
        sentences = [one for one in said.splitlines() if one.startswith("edge: ")]
        assert len(sentences) == code, (line, said)
        assert "Traceback" not in said, (line, said)
        if code:
            assert ": " in sentences[0].removeprefix("edge: "), (line, said)
    assert snapshot(store.root) == before


@pytest.mark.endurance
@pytest.mark.parametrize(
    "place",
    [
        "etc",
        "etc/edge/trust",
        "etc/systemd/system/edge.service",
        "var/lib/edge",
        f"{DATA}/engines",
        f"{DATA}/products",
        f"{DATA}/{WASHER}/current",
    ],
)
def test_a_pipe_in_place_of_anything_ends_every_verb_in_a_sentence(
    store: Store, open_folder: Path, bundles: Bundles, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    shutil.copy(bundles("washer", "3.0.0"), open_folder)
    monkeypatch.chdir(open_folder)
    path = store.root / place
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    os.mkfifo(path)
    lines = (
        "status",
        "verify",
        "bundle list",
        "trust list",
        "calibrate threshold --false-rejects 20%",
        "install washer-3.0.0.bundle",
        "bundle rollback",
    )
    for line, code, said in answers_of([f"{line} --root station" for line in lines]):
        sentences = [one for one in said.splitlines() if one.startswith("edge: ")]
        assert (code, len(sentences)) in ((0, 0), (1, 1)), (line, said)
        assert "Traceback" not in said, (line, said)
        assert "[Errno" not in said, (line, said)


# --- the last resort ---


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError(40, "Too many levels"), "in a circle"),
        (OSError(36, "File name too long", "x"), "too long a name"),
        (PermissionError(13, "no", 7), "permission denied"),
        (sqlite3.OperationalError("database is locked"), "Wait until the other process"),
        (sqlite3.DatabaseError("file is not a database"), "Move the file away"),
    ],
)
def test_what_has_no_file_name_is_a_sentence_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def app() -> None:
        raise error

    monkeypatch.setattr("edge.cli.app", app)
    refused(run("edge", "status"), "edge", words)


# --- looking ---


@needs_root
@pytest.mark.parametrize("beside", ["line.sqlite-wal", "line.sqlite-shm"])
def test_looking_changes_no_owner(store: Store, outside: Path, beside: str, run: Run) -> None:
    """SQLite gives the files beside a database to the database's owner, also where it only
    reads.
    """
    own(store)
    place = store.data / beside
    place.unlink(missing_ok=True)
    os.link(outside / "precious", place)
    run("edge", "status", "--root", store.root)
    assert (outside / "precious").stat().st_uid == 0


def test_a_file_of_any_size_is_not_read_whole(store: Store, bundles: Bundles, run: Run) -> None:
    """40 GB that take no room: the service's account makes them in a moment."""
    os.truncate(store.active_file, 40 << 30)
    assert "active is larger than" in refused(run("edge", "status", "--root", store.root), "edge")
    store.activate("washer")
    os.truncate(store.installed("washer").folder / "model/fp32.onnx", 40 << 30)
    install_bundle(bundles("washer", "2.0.0"), store.root)
    store.verify(store.installed("washer"))


@needs_root
def test_a_station_is_named_with_the_rights_of_whoever_owns_its_file(
    store: Store, bundles: Bundles, outside: Path, run: Run
) -> None:
    """As in a folder that a user has laid out for a trial."""
    for path in (store.root, *store.root.rglob("*")):
        os.chown(path, SERVICE, SERVICE, follow_symlinks=False)
    folder = store.root / "etc/edge"
    shutil.copytree(folder, outside, dirs_exist_ok=True)
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    before = snapshot(outside)
    refused(
        run(
            "edge",
            "install",
            bundles("washer", "2.0.0"),
            "--station",
            "press-7",
            "--root",
            store.root,
        ),
        "edge",
    )
    assert snapshot(outside) == before


def test_a_sentence_is_one_line_whatever_it_names(run: Run) -> None:
    text = refused(run("edge", "trust", "a\n\x1b[2Jb.pub", "--root", "/nowhere"), "edge")
    assert r"a\n\x1b[2Jb.pub does not exist" in text
