"""SIGKILL and power cuts before, within and after every call of every act that changes a root.

Each ends in the old state or the new one, whole: for whoever reads without a lock at once, and for
everything else after the next command. Nothing that was told is taken back, the audit table says
what happened, and the same command once more ends well and leaves no litter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.errors import BundleError
from edge.install import proven as engines
from edge.install.proof_file import ProofFile
from edge.station.settle import settle
from edge.station.store import Installed, Store
from tests.support.cuts.cuts import Cut, Recording, record, workplace
from tests.support.cuts.disk import Builder, Tree
from tests.support.cuts.reader import SQLITE_ENDS, Reader, State, identity_of, names_of, rows_of
from tests.support.cuts.station import ACTS, PRODUCTS
from tests.support.cuts.summary import counted_cuts
from tests.support.tiny_bundle import make_key, make_tiny_bundle

pytestmark = [pytest.mark.endurance, pytest.mark.xdist_group("cuts of a root")]

# What an act writes down before it does anything that counts, and what follows: when it was done,
# and when it was not.
ROWS: dict[str, tuple[str | None, list[str], list[str]]] = {
    "mending install": (None, [], []),  # the same bundle stays current
    "opening": (None, [], []),  # one row for each threshold, which are not looked at here
    "install": ("install", ["installed"], ["install abandoned"]),
    "rollback": ("rollback", ["rolled back"], ["rollback abandoned"]),
    "select": ("select", [], ["select not in effect"]),
    "number": ("number", [], []),
    "distrust": ("distrust", [], ["distrust not in effect"]),
    "trust": ("trust", [], ["trust not in effect"]),
    "geometry": ("calibrate geometry", [], ["calibrate geometry not in effect"]),
    "model state": ("calibrate model", [], ["calibrate model not in effect"]),
    "undo": ("calibrate undo", [], ["calibrate undo not in effect"]),
}


LONG = {"resumed install"}  # 800 trees that differ little from those of "second install"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workplace(tmp_path_factory.mktemp("cuts")) as folder:
        for name in ("files", "work"):
            (folder / name).mkdir()
        key = make_key(folder / "files")
        make_key(folder / "files", "other")
        for product, version in PRODUCTS:
            make_tiny_bundle(folder / "files", key, product, version)
        yield folder


@pytest.fixture(scope="module")
def recordings(place: Path) -> dict[str, Recording]:
    return record("tests.support.cuts.station", list(ACTS), place / "work", place / "files")


@pytest.fixture(scope="module", autouse=True)
def proven_once() -> Iterator[None]:
    """A bundle is proven once, and not after each of thousands of cuts: proving writes nothing,
    keeping the proof does.
    """
    proofs, prove = {}, engines.prove

    def remembered(
        store: Store, bundle: Installed, *arguments: object, **options: object
    ) -> ProofFile:
        if bundle.digest not in proofs:
            proofs[bundle.digest] = prove(store, bundle, *arguments, **options)
        return proofs[bundle.digest]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "prove", remembered)
        yield


class Checker:
    """Checks one act's cuts against the state before the act and after it."""

    def __init__(self, recording: Recording, builder: Builder, place: Path) -> None:
        self._name = recording.name
        self._act = ACTS[recording.name]
        self._opened, self._done, self._abandoned = next(
            rows for words, rows in ROWS.items() if recording.name.endswith(words)
        )
        self._builder, self._files, self._root = builder, place / "files", place / "root"
        self._reader = Reader()
        self._seen: set[int] = set()
        self._judging: dict[int, object] = {}
        self.old = self._read(self._build(recording.before_tree()))
        self._rows = rows_of(self._root)
        self._settle()
        self._settled_old = self._read(self._root)
        # what was left open before
        self._closed = [row.act for row in rows_of(self._root)[len(self._rows) :]]
        self.new = self._reader.read(self._build(recording.end_tree()))
        self._names = names_of(self._root)

    def check(self, cut: Cut) -> None:
        is_told = "returned" in cut.told
        self._check_reader(cut.tree, [self.new] if is_told else [self.old, self.new])
        self._check_next_command([self.new] if is_told else [self._settled_old, self.new])
        if not self._name.endswith("install"):  # which settles first by itself
            self._check_at_once(cut.tree)

    def _build(self, tree: Tree) -> Path:
        return self._builder.build(tree, self._root)

    def _read(self, root: Path) -> State | None:
        """None for the damage that an act of mending begins with."""
        try:
            return self._reader.read(root)
        except BundleError:
            if not self._name.startswith("mending"):
                raise
            return None

    def _check_reader(self, tree: Tree, allowed: list[State | None]) -> None:
        key = self._key(self._build(tree))
        if key not in self._judging:
            self._judging[key] = _judging(self._read(self._root))
        seen = self._judging[key]
        assert seen in map(_judging, allowed), "a reader sees neither the old state nor the new"
        if seen != _judging(self.old) and self._opened is not None:
            assert self._opened in self._new_acts(), (
                "what judges has changed and the audit table does not say so"
            )

    def _settle(self) -> None:
        store = Store(self._root)
        with store.change("another command"):
            settle(store)

    def _check_next_command(self, allowed: list[State | None]) -> None:
        self._settle()
        assert not Store(self._root).staging.exists()
        acts = self._new_acts()
        if self._was_seen("settled", acts):
            return
        settled = self._read(self._root)
        assert settled in allowed, "the next command finds neither the old state nor the new"
        self._check_rows(acts, settled)
        if settled == self._settled_old or self._opened != "rollback":  # which would go back again
            self._act.run(self._root, self._files, lambda _: None)
        assert self._reader.read(self._root).without_versions() == self.new.without_versions()
        assert names_of(self._root) == self._names

    def _check_at_once(self, tree: Tree) -> None:
        """The same command is the next one."""
        self._build(tree)
        if self._was_seen("at once", self._new_acts()):
            return
        is_old = _judging(self._read(self._root)) == _judging(self.old)
        if is_old or self._opened != "rollback":
            self._act.run(self._root, self._files, lambda _: None)
            assert self._reader.read(self._root).without_versions() == self.new.without_versions()
        if is_old and self._opened is not None:
            once = [self._opened, *self._done]
            assert self._new_acts() in (once, [self._opened, *self._abandoned, *once])

    def _was_seen(self, how: str, acts: list[str]) -> bool:
        """Whether the root was like this when it was acted on the last time, apart from the
        database's very bytes.
        """
        key = hash((how, self._key(self._root), *acts))
        known = key in self._seen
        self._seen.add(key)
        return known

    @staticmethod
    def _key(root: Path) -> int:
        """The same for roots that are the same but for staging, which no reader looks at, and the
        database.
        """
        files = identity_of(root, ("line.sqlite", ".staging", *SQLITE_ENDS))
        return hash(
            str(sorted((path, about) for path, about in files.items() if "/.staging/" not in path))
        )

    def _new_acts(self) -> list[str]:
        rows = rows_of(self._root)
        assert rows[: len(self._rows)] == self._rows, "rows of the audit table are gone"
        return [row.act for row in rows[len(self._rows) :] if row.act != "threshold"]

    def _check_rows(self, acts: list[str], settled: State | None) -> None:
        before, acts = acts[: len(self._closed)], acts[len(self._closed) :]
        assert before == self._closed
        if self._opened is None:
            assert acts == []
        elif settled == self.new:
            assert acts == [self._opened, *self._done]
        else:
            assert acts in ([], [self._opened, *self._abandoned])


def _judging(state: State | None) -> object:
    return None if state is None else state.judging


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.long] if one in LONG else []) for one in ACTS]
)
def test_every_cut_ends_in_the_old_state_or_the_new(
    name: str,
    recordings: dict[str, Recording],
    builder: Builder,
    place: Path,
    record_property: Callable[[str, object], None],
) -> None:
    recording = recordings[name]
    cuts = counted_cuts(recording, name, record_property)
    checker = Checker(recording, builder, place)
    for cut in cuts:
        try:
            checker.check(cut)
        except Exception as error:
            raise AssertionError(f"{name}, {cut.where}, told {cut.told}") from error
