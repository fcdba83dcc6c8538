"""What the suite leaves out, it leaves out everywhere: a `-m` on a command line replaces the one of
pyproject.toml.
"""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def test_the_jetpack_pythons_leave_out_what_make_test_leaves_out() -> None:
    options = re.search(
        r'^addopts = ".*-m \'(.*?)\'', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert options is not None
    script = (REPOSITORY / "scripts/test_jetpack_pythons.sh").read_text()
    (chosen,) = re.findall(r'-m "(not .*?)"', script)
    assert set(re.findall(r"not (\w+)", options[1])) <= set(re.findall(r"not (\w+)", chosen))
