"""scripts/test_jetpack_pythons.sh, Makefile and pyproject.toml agree on which tests run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import elsewhere

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "scripts/test_jetpack_pythons.sh"
PLUGIN = elsewhere.__name__


def test_the_jetpack_pythons_leave_out_what_make_test_leaves_out() -> None:
    """A `-m` on a command line replaces the one of pyproject.toml."""
    options = re.search(r'"-m (not .*?)"', (REPOSITORY / "pyproject.toml").read_text())
    assert options is not None
    (chosen,) = re.findall(r'-m "(not .*?)"', SCRIPT.read_text())
    assert set(re.findall(r"not (\w+)", options[1])) <= set(re.findall(r"not (\w+)", chosen))


def test_every_test_that_the_jetpack_pythons_run_or_ignore_is_there() -> None:
    """pytest runs nothing at all if one of the paths on its command line is missing."""
    named = re.findall(r"(?:^|[\s=])(tests/\S+)", SCRIPT.read_text(), re.MULTILINE)
    expanded = subprocess.run(
        ["bash", "-c", f"echo {' '.join(named)}"], capture_output=True, text=True, check=True
    )
    assert len(expanded.stdout.split()) > 10
    missing = [path for path in expanded.stdout.split() if not (REPOSITORY / path).exists()]
    assert not missing


def pytest_in(folder: Path, *options: str) -> str:
    """What pytest says of the tests in `folder` with the plugin that leaves tests out."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", PLUGIN, *options]
    known = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(words, cwd=folder, env=known, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def test_what_passed_elsewhere_is_left_out_but_nothing_else_is(tmp_path: Path) -> None:
    """Not what was skipped or failed, not the folders that compute, not the trainer."""
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    text = "import pytest\ndef test_passes(): pass\ndef test_skips(): pytest.skip('rtx')\n"
    for folder in ("edge/line", "edge/proof", "trainer"):
        place = tmp_path / "tests" / folder
        place.mkdir(parents=True)
        name = folder.replace("/", "_")
        (place / f"test_{name}.py").write_text(text)
    assert "3 passed, 3 skipped in" in pytest_in(tmp_path, "--write-passed", "passed")
    assert "2 passed, 3 skipped, 1 deselected in" in pytest_in(
        tmp_path, "--passed-elsewhere=passed", "--passed-elsewhere=not there"
    )
    (tmp_path / "tests/edge/line/test_fails.py").write_text("def test_fails(): assert False\n")
    assert "1 failed" in pytest_in(tmp_path, "--write-passed", "passed")
    assert not (tmp_path / "passed").exists(), "of a run that failed nothing is believed"


def test_the_folders_that_compute_are_there() -> None:
    assert all((REPOSITORY / folder).is_dir() for folder in elsewhere.COMPUTING)


def test_make_reads_what_passed_on_either_of_two_pythons() -> None:
    (versions,) = re.findall(r"for version in (.*); do", SCRIPT.read_text())
    assert '--write-passed "$folder/passed"' in SCRIPT.read_text()
    assert "folder=.venv/jetpack-$version\n" in SCRIPT.read_text()
    read = re.findall(r"--passed-elsewhere=(\S*)", (REPOSITORY / "Makefile").read_text())
    first, second = versions.split()
    assert read == [f".venv/jetpack-{version}/passed" for version in (first, second)]
    assert f'[ "$version" = {first} ] ||' in SCRIPT.read_text(), "the first runs all of them"
