"""The date of the build: never before the last change of what was built, whatever built it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge import built

ROOT = Path(built.__file__).resolve().parents[1]
WHEEL = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"


def last_commit() -> datetime:
    words = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout of git")
    return datetime.fromtimestamp(int(said), timezone.utc)


def test_a_checkout_is_not_older_than_its_last_commit() -> None:
    assert built.built_at() >= last_commit()


def date_in_wheel(tmp_path: Path, **variables: str) -> datetime:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "edge").mkdir(parents=True)
    out.mkdir()
    for name in ("setup.py", "edge/built.py"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "edge/__init__.py").touch()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "x"\nversion = "1"\n'
        '[tool.setuptools]\npackages = ["edge"]\n'
    )
    environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"} | variables
    subprocess.run(
        [sys.executable, "-c", WHEEL, out], cwd=source, env=environment, check=True,
        capture_output=True,
    )  # fmt: skip
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        text = wheel.read("edge/built.py").decode()
    found = dict[str, object]()
    exec(compile(text.replace("__file__", repr(str(tmp_path / "a/b"))), "built", "exec"), found)
    return found["built_at"]()  # type: ignore[operator,no-any-return]


def test_a_wheel_carries_the_date_of_its_build(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", "77", reason="setuptools is not installed")
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    assert before <= date_in_wheel(tmp_path) <= datetime.now(timezone.utc)


def test_a_package_says_which_date_that_is(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", "77", reason="setuptools is not installed")
    when = datetime(2027, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    epoch = str(int(when.timestamp()))
    assert date_in_wheel(tmp_path, SOURCE_DATE_EPOCH=epoch) == when
