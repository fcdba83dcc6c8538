"""scripts/test_jetpack_pythons.sh and pyproject.toml agree on which tests run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "scripts/test_jetpack_pythons.sh"


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
