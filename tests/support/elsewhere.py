"""A pytest plugin: what passed on JetPack's Pythons a minute ago is not run once more in .venv.

--write-passed FILE writes the names of the tests that passed. --passed-elsewhere=FILE leaves
them out of a later run of the same tree, but only tests of the edge, and not those of the folders
that compute: the versions of numpy and onnxruntime in .venv are others, as the Python is.
scripts/test_jetpack_pythons.sh writes the files, `make test` reads them. A test that was skipped
there has not passed; without files, and in any other run of pytest, nothing is left out. So Python
3.10, the station's oldest, runs all of these tests, 3.12 those that depend on the standard library
or on real time, and 3.11 what neither has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

EDGE, CUTS = "tests/edge/", "tests/cuts/"
COMPUTING = tuple(f"{EDGE}{name}/" for name in ("api", "decide", "engine", "frames", "proof"))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("elsewhere")
    group.addoption("--write-passed", metavar="FILE")
    # with "=": a word of its own would be taken for a test before this plugin is known
    group.addoption("--passed-elsewhere", action="append", default=[], metavar="FILE")


def may_be_left_out(name: str) -> bool:
    """Whether a test, by its name from the root of the repository, needs one Python only."""
    return name.startswith((EDGE, CUTS)) and not name.startswith(COMPUTING)


def passed_in(files: list[str]) -> set[str]:
    """The names of all tests that passed somewhere; a file that is not there names none."""
    written = [path for path in map(Path, files) if path.is_file()]
    return {name for path in written for name in path.read_text("utf-8").splitlines()}


class Passed:
    """Collects the names of tests that passed, and writes them where nothing failed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        path.unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.names.append(report.nodeid)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0:
            self.path.write_text("".join(f"{name}\n" for name in self.names), "utf-8")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--write-passed")
    if path is not None and not hasattr(config, "workerinput"):  # the one that hears of all tests
        config.pluginmanager.register(Passed(Path(path)))


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    yield
    passed = {
        name for name in passed_in(config.getoption("--passed-elsewhere")) if may_be_left_out(name)
    }
    again = [item for item in items if item.nodeid not in passed]
    if len(again) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
        items[:] = again
