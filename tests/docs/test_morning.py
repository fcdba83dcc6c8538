"""The command lines that README prints run on this machine: every line as it stands, at small
sizes.

Sizes are appended to the lines (SMALLER), nothing in a line is changed. `edge run` has no broker
here: verdicts are stored, and it goes on until it is stopped.
"""

from __future__ import annotations

import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import edge.cli
import trainer.cli
from tests.support.patience import patience_s

REPOSITORY = Path(__file__).resolve().parents[2]
SMALLER = {
    "trainer synthesize": "--products washer --train 12 --validation 10 --test 6 --belt 5",
    "trainer train": "--epochs 3",
}


def lines_of(block: str) -> list[str]:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"```sh {block}\n(.*?)```", readme, flags=re.DOTALL)
    return found.splitlines()


def words_of(line: str) -> list[str]:
    """The line with small sizes appended, its program from this environment."""
    program, verb = line.split()[:2]
    words = shlex.split(f"{line} {SMALLER.get(f'{program} {verb}', '')}")
    return [str(Path(sys.executable).parent / program), *words[1:]]


def answer_of(line: str, folder: Path) -> str:
    """What the line prints. Fails if it fails."""
    answer = subprocess.run(words_of(line), cwd=folder, capture_output=True, text=True)
    assert answer.returncode == 0, f"{line}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout


def run_until_a_verdict_is_stored(words: list[str], folder: Path) -> str:
    """Start `edge run`, wait for three records, send SIGTERM; what it printed."""
    process = subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    database = folder / "station/var/lib/edge/line.sqlite"
    deadline = time.monotonic() + patience_s(20)
    stored = 0
    while stored < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.3)
        stored = records_in(database)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=patience_s(10))
    assert stored >= 3, printed
    assert process.returncode == 0, printed
    return printed


def records_in(database: Path) -> int:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.OperationalError:  # not laid down yet
        return 0


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_every_line_of_the_morning_works_as_printed(tmp_path: Path) -> None:
    printed = {}
    for line in lines_of("morning"):
        if line.startswith("edge run"):
            printed[line] = run_until_a_verdict_is_stored(words_of(line), tmp_path)
        else:
            printed[line] = answer_of(line, tmp_path)
    last = printed["trainer evaluate runs/washer"].strip().splitlines()[-1]
    assert re.fullmatch(r"mean I-AUROC \d+\.\d P-AUROC \d+\.\d AUPRO \d+\.\d", last)
    assert (tmp_path / "runs/washer/report.html").is_file()
    assert list(tmp_path.rglob("*.png")), "inspect drew no overlays"


def write_photos(folder: Path, count: int) -> None:
    """Photos of a disc as a phone takes them: JPEG, of two sizes, some stored turned with the tag
    that says so.
    """
    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        height, width = (480, 640) if number % 3 else (960, 1280)
        v, u = np.mgrid[:height, :width] / height
        image = np.full((height, width, 3), (70, 76, 84), np.float64)
        image[np.hypot(u - 0.66 - rng.normal(0, 0.01), v - 0.5) < 0.35] = (180, 150, 95)
        shown = Image.fromarray(
            np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
        )
        exif = Image.Exif()
        exif[0x0112] = 6 if number % 4 == 1 else 1
        stored = shown.transpose(Image.Transpose.ROTATE_90) if number % 4 == 1 else shown
        stored.save(folder / f"IMG_{number:04d}.JPG", quality=92, exif=exif.tobytes())


def commands_of_readme() -> list[list[str]]:
    blocks = ("morning", "photos")
    return [shlex.split(line) for block in blocks for line in lines_of(block)]


@pytest.mark.parametrize("words", commands_of_readme(), ids=" ".join)
def test_every_verb_and_option_that_readme_prints_is_there(words: list[str]) -> None:
    """They are parsed as the programs parse them; `make endurance` runs them."""
    app = {"edge": edge.cli.app, "trainer": trainer.cli.app}[words[0]]
    command, name, rest = typer.main.get_command(app), words[0], words[1:]
    while isinstance(command, typer.core.TyperGroup):
        context = command.make_context(name, list(rest))
        name, found, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert found is not None
        command = found
    assert command.make_context(name, list(rest)).params


@pytest.mark.timeout(2400)
def test_six_commands_lead_from_photos_to_a_verdict(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 14)
    write_photos(tmp_path / "later", 1)
    photo = Image.open(tmp_path / "later/IMG_0000.JPG")
    photo.paste((20, 20, 20), (880, 400, 1010, 560))  # a stain that no training photo has
    photo.save(tmp_path / "new.jpg", quality=92)
    lines = lines_of("photos")
    assert len(lines) == 6
    printed = [answer_of(line, tmp_path) for line in lines]
    assert "1% would take" in printed[1], "train does not say how many parts would promise 1 %"
    assert "synthetic" in printed[2], "export does not say that drawn defects stand in"
    assert "0 OK, 1 NG" in printed[5], printed[5]
    assert (tmp_path / "overlays/new.png").is_file()
