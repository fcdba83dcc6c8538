"""The user's morning, as README prints it, runs on this machine: every line as it stands, at small sizes.

Sizes are appended to the lines (SMALLER), nothing in a line is changed. `edge run` has no broker here: verdicts are
stored, and it goes on until it is stopped.
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

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SMALLER = {
    "trainer synthesize": "--products washer --train 12 --validation 10 --test 6 --belt 5",
    "trainer train": "--epochs 3",
}


def morning() -> list[str]:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh morning\n(.*?)```", readme, flags=re.DOTALL)
    return block.splitlines()


def run_until_a_verdict_is_stored(words: list[str], folder: Path) -> str:
    """Start `edge run`, wait for three records, send SIGTERM; what it printed."""
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    database = folder / "station/var/lib/edge/line.sqlite"
    deadline = time.monotonic() + 90
    stored = 0
    while stored < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.3)
        stored = records_in(database)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=20)
    assert stored >= 3, printed
    assert process.returncode == 0, printed
    return printed


def records_in(database: Path) -> int:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.OperationalError:  # not laid down yet
        return 0


@pytest.mark.timeout(600)
def test_every_line_of_the_morning_works_as_printed(tmp_path: Path) -> None:
    printed = {}
    for line in morning():
        program, verb = line.split()[:2]
        words = shlex.split(f"{line} {SMALLER.get(f'{program} {verb}', '')}")
        words[0] = str(Path(sys.executable).parent / program)
        if (program, verb) == ("edge", "run"):
            printed[line] = run_until_a_verdict_is_stored(words, tmp_path)
            continue
        answer = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        printed[line] = answer.stdout
        assert answer.returncode == 0, f"{line}\n{answer.stdout}\n{answer.stderr}"
    last = printed["trainer evaluate runs/washer parts/washer"].strip().splitlines()[-1]
    assert re.fullmatch(r"mean I-AUROC \d+\.\d P-AUROC \d+\.\d AUPRO \d+\.\d", last)
    assert (tmp_path / "runs/washer/report.html").is_file()
    assert list(tmp_path.rglob("*.png")), "inspect drew no overlays"
