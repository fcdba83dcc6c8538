"""What people get wrong at the station ends in one sentence: which file, what is wrong, what to do.

No traceback, exit code 1, and nothing is changed or left behind.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import ConfigError, DataError, StorageError
from edge.files import read_text, require_file_target, require_folder_target
from edge.line.credentials import read_password
from edge.line.link import Link
from edge.sections import BrokerConfig
from edge.station.store import Store
from tests.support.mistakes import OTHER_KINDS, Run, check_the_last_resort, refused
from tests.support.root import snapshot
from tests.support.tiny_bundle import make_key

pytestmark = pytest.mark.timeout(600)
UTF8_MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "inspect picture --root root --out file",
            ["--out file is a file where a folder is needed", "name another path"],
        ),
        ("inspect picture --root root --out file/deeper", ["file is a file", "name another path"]),
        ("inspect picture --root root --precision fp8", ["--precision fp8", "fp32, fp16, int8"]),
        ("status --root file", ["--root file is a file", "name the folder of a station"]),
        ("run --root file", ["--root file is a file"]),
        ("verify --root file", ["--root file is a file"]),
        ("inspect --root file", ["--root file is a file"]),
        ("install washer.bundle --root file", ["--root file is a file"]),
        ("trust line.pub --root file", ["--root file is a file"]),
        ("calibrate threshold --false-rejects 5% --root file", ["--root file is a file"]),
        ("calibrate plane --root file", ["--root file is a file"]),
        ("bundle list --root file", ["--root file is a file"]),
        (
            "bundle select washer --root nowhere",
            ["washer has no current bundle under nowhere", "edge install"],
        ),
        (
            "bundle rollback washer --root nowhere",
            ["washer has no current bundle under nowhere", "edge install"],
        ),
        ("bundle select gear --root root", ["gear", "installed products: washer", "edge install"]),
        ("bundle select washer/ --root root", ["'washer/'", "installed products: washer"]),
        ("bundle select ../washer --root root", ["'../washer'", "installed products: washer"]),
        ("bundle show gear --root root", ["gear", "installed products: washer"]),
        ("verify --product= --root root", ["''", "installed products: washer"]),
        (
            "calibrate threshold --product gear --false-rejects 5% --root root",
            ["gear", "installed products: washer"],
        ),
        ("calibrate plane --product gear --root root", ["gear", "installed products: washer"]),
        ("calibrate threshold --false-rejects 0 --root root", ["--false-rejects 0", "such as 5%"]),
        (
            "calibrate threshold --false-rejects abc --root root",
            ["--false-rejects abc", "such as 5%"],
        ),
        (
            "calibrate threshold --false-rejects 200% --root root",
            ["--false-rejects 200%", "such as 5%"],
        ),
        (
            "trust line.key --root root",
            ["line.key is a private key", "never leave the workstation", "line.pub"],
        ),
        ("trust nowhere.pub --root root", ["nowhere.pub does not exist", "trainer keygen"]),
        ("trust folder --root root", ["folder is a folder where a file is needed"]),
        ("trust empty --root root", ["empty is not a public key", ".pub file"]),
        ("trust noise --root root", ["noise is not a public key", ".pub file"]),
        (
            "trust washer.bundle --root root",
            ["washer.bundle is larger than 16 KiB", "check the path"],
        ),
        (
            "install line.key --root root",
            ["line.key", "a private key, which should never leave", ".bundle file"],
        ),
        (
            "install line.pub --root root",
            ["line.pub", "a public key, which `edge trust` takes", ".bundle file"],
        ),
        ("install folder --root root", ["folder (a folder)", ".bundle file"]),
        ("install nowhere --root root", ["nowhere", ".bundle file"]),
        ("install empty --root root", ["empty", "it is empty", ".bundle file"]),
        ("install archive --root root", ["archive", "a zip archive", ".bundle file"]),
        ("run --source nowhere --root root", ["--source nowhere does not exist"]),
    ],
)
def test_a_mistake_on_the_station(place: Path, run: Run, line: str, words: list[str]) -> None:
    before = snapshot(place)
    refused(run("edge", *line.split()), "edge", *words)
    assert snapshot(place) == before


@pytest.mark.parametrize(
    "line",
    [
        "calibrate plane --frames 0 --root root",
        "calibrate plane --frames abc --root root",
        "run --max-parts 0",
        "status --rot root",
        "instal washer.bundle",
        "calibrate threshold --root root",
    ],
)
def test_a_line_that_cannot_be_read_is_a_usage_error(place: Path, run: Run, line: str) -> None:
    before = snapshot(place)
    answer = run("edge", *line.split())
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert "Usage: " in answer.err
    assert snapshot(place) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"[camera]\nknid = 'folder'\n",
            ["camera.knid", "there is no such key", "remove it or correct its name", "kind"],
        ),
        (b"[cam]\nkind = 'folder'\n", ["cam:", "there is no such key", "camera"]),
        (b"[broker]\nport = 'x'\n", ["broker.port", "correct it"]),
        (b"broker = 3\n", ["broker: this is a section", "[broker]"]),
        (b"[broker\n", ["is not TOML", "line 1"]),
        ("[runtime]\nthreads = 1\n".encode("utf-16"), ["UTF-16", "save it as UTF-8"]),
        ("# Müller\n".encode("latin-1"), ["not text in UTF-8", "save it as UTF-8"]),
        (b"#" * 300_000, ["larger than 256 KiB", "check the path"]),
        (None, ["is a folder where a file is needed"]),
    ],
)
def test_a_damaged_station_toml(
    place: Path, run: Run, content: bytes | None, words: list[str]
) -> None:
    path = Path("root/etc/edge/station.toml")
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    before = snapshot(place)
    for line in ("verify --root root", "run --once --root root"):
        refused(run("edge", *line.split()), "edge", str(path), *words)
    assert snapshot(place) == before


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"washer\ngear\n", b"../washer\n", None])
def test_a_damaged_active_file(place: Path, run: Run, content: bytes | None) -> None:
    path = Path("root/var/lib/edge/active")
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    words = (
        ["is a folder"] if content is None else ["does not name a product", "edge bundle select"]
    )
    for line in ("status --root root", "bundle list --root root", "verify --root root"):
        refused(run("edge", *line.split()), "edge", str(path), *words)


def test_a_database_that_is_none(place: Path, run: Run) -> None:
    database = Path("root/var/lib/edge/line.sqlite")
    for beside in database.parent.glob("line.sqlite*"):
        beside.unlink()
    database.write_bytes(OTHER_KINDS["noise"])
    make_key(place, "other")
    line = ("trust", "other.pub", "--root", "root")
    refused(run("edge", *line), "edge", str(database), "not a database", "Move")
    assert len(list((place / "root/etc/edge/trust").glob("*.pub"))) == 1
    database.unlink()
    database.mkdir()
    refused(run("edge", *line), "edge", str(database), "Check that it is a file")


READ_ONLY = """
set -e
mount --bind root root
mount -o remount,ro,bind root
for line in status verify "inspect frames --out overlays" "trust other.pub" \
    "calibrate threshold --false-rejects 5%" \
    "run --once --source frames"
do
    code=0
    "$0" -c 'from edge.cli import run_command; run_command()' $line --root root \
        > out 2> err || code=$?
    printf '%s\\t%s\\t%s\\t%s\\n' "$line" $code "$(tail -n 1 out)" "$(tail -n 1 err)"
done
"""


def test_a_root_that_is_mounted_read_only(place: Path) -> None:
    """What only reads works; what would write is refused before any work is done."""
    make_key(place, "other")
    (place / "frames").mkdir()
    cv2.imwrite("frames/0000_color.png", np.zeros((96, 128, 3), np.uint8))
    cv2.imwrite("frames/0000_depth.png", np.full((96, 128), 2500, np.uint16))
    about = {
        "width": 128,
        "height": 96,
        "depth_unit_m": 0.0001,
        "fx": 200.0,
        "fy": 200.0,
        "cx": 63.5,
        "cy": 47.5,
    }
    Path("frames/intrinsics.json").write_text(json.dumps(about))
    station = Path("root/etc/edge/station.toml")
    station.write_text(station.read_text().replace('station = "station"', 'station = "s1"'))
    before = snapshot(place / "root")
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, "mount", "--bind", "root", "root"]).returncode
    ):
        pytest.skip(
            "this machine allows no mount of one's own: util-linux, and user namespaces that are"
            " not forbidden"
        )
    done = subprocess.run(
        [*alone, "sh", "-c", READ_ONLY, sys.executable], capture_output=True, text=True, check=True
    )
    answers = {line: rest for line, *rest in (row.split("\t") for row in done.stdout.splitlines())}
    assert [line for line, (code, *_) in answers.items() if code == "0"] == [
        "status",
        "verify",
        "inspect frames --out overlays",
    ]
    assert answers["verify"][1] == "verify passed"
    for line in list(answers)[3:]:
        code, printed, said = answers[line]
        assert (code, printed) == ("1", ""), line
        assert said.startswith("edge: root/var/lib/edge"), said
        assert "read-only" in said
        assert ":" in said.removeprefix("edge: ")
    assert snapshot(place / "root") == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Müller\n".encode("latin-1"), "not text in UTF-8"),
        ("secret\r\n".encode("utf-16"), "UTF-16"),
        (b"", "the first line of"),
        (b"\r\nsecret\r\n", "the first line of"),
        (UTF8_MARK, "the first line of"),
        (b"a" * 100_000, "larger than 64 KiB"),
        (None, "is a folder"),
    ],
)
def test_a_password_file_that_holds_no_password(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "password"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        Link(BrokerConfig(username="edge", password_file=str(path)), "id", None)
    assert str(error.value).startswith("broker.password_file: ")
    assert str(path) in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"secret", b"secret\n", b"secret\r\n", UTF8_MARK + b"secret\r\n", b"secret\r\nnotes\r\n"],
)
def test_a_password_as_any_editor_saves_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "password").write_bytes(content)
    assert (
        read_password(BrokerConfig(username="edge", password_file=str(tmp_path / "password")))
        == "secret"
    )


def test_a_byte_order_mark_is_no_mistake(place: Path, run: Run) -> None:
    for path in (Path("line.pub"), Path("root/etc/edge/station.toml")):
        path.write_bytes(UTF8_MARK + path.read_bytes())
    for line in ("trust line.pub --root root", "status --root root", "verify --root root"):
        assert run("edge", *line.split()).code == 0


def test_text_is_read_as_editors_save_it(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(UTF8_MARK + "Müller\r\n".encode())
    assert read_text(path) == "Müller\r\n"
    path.write_bytes("Müller\n".encode("latin-1"))
    with pytest.raises(DataError, match="save it as UTF-8"):
        read_text(path, DataError)


def test_what_cannot_be_locked_is_named(place: Path) -> None:
    (place / "root/var/lib/edge/change.lock").unlink()
    (place / "root/var/lib/edge/change.lock").mkdir()
    for root, named in (
        (Path("file"), "file/var"),
        (Path("root"), "root/var/lib/edge/change.lock"),
    ):
        with (
            pytest.raises(StorageError, match=f"{named}.*: check the path"),
            Store(root).change("a test"),
        ):
            pass


# --- the last resort ---


def test_what_the_system_refuses_is_a_sentence_and_a_bug_keeps_its_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_the_last_resort("edge", run, monkeypatch)


def test_a_target_is_looked_at_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    require_folder_target(tmp_path / "a/b/c", "--out")
    require_file_target(tmp_path / "a/b.pth", "--out")
    require_file_target(tmp_path / "file", "--out")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(
            ConfigError,
            match=f"--out {path}.* is a file where a folder is needed: name another path",
        ):
            require_folder_target(path, "--out")
    for path, words in (
        (tmp_path, "is a folder where a file"),
        (tmp_path / "file/a.pth", "is a file where a folder"),
    ):
        with pytest.raises(ConfigError, match=f"--out {path}.* {words}"):
            require_file_target(path, "--out")
    monkeypatch.setattr("edge.files.os.access", lambda *_: False)
    with pytest.raises(
        ConfigError,
        match=f"--out {tmp_path / 'new'}: {tmp_path} cannot be written: check its owner",
    ):
        require_folder_target(tmp_path / "new", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
