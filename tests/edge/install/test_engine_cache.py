"""Which engines an installation keeps: those of every bundle in a slot, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.engine.plan import EngineKey
from edge.errors import EngineError, ParityError
from edge.install import install as install_module
from edge.install.install import install_bundle
from edge.install.proof_file import prune, read_proof
from edge.install.proven import open_proven_engine
from edge.station.store import Store
from tests.support.tiny_bundle import KeyPair, make_tiny_bundle

Installer = Callable[..., list[Path]]


@pytest.fixture
def install(tmp_path: Path, store: Store, key: KeyPair) -> Installer:
    """Installs, and lays down what a TensorRT builder would have cached; heights differ, so graphs
    differ.
    """

    def one(product: str, version: str, height: int) -> list[Path]:
        bundle = make_tiny_bundle(tmp_path, key, product=product, version=version, height=height)
        install_bundle(bundle, store.root)
        installed = store.installed(product)
        plans = [
            store.engines / name
            for name in names_of_plans(installed.manifest.files["model/fp32.onnx"].sha256)
        ]
        for plan in plans:
            plan.write_bytes(b"plan")
        kept = [
            store.engines / f"{installed.digest[:12]}{end}.json" for end in ("", "-certificate")
        ]
        return [*plans, *kept]

    return one


def names_of_plans(digest: str) -> list[str]:
    """Two precisions, and one whose writing was cut short."""
    fp32, int8 = (
        EngineKey(digest, precision, "10.3.0", "87", "Orin").stem for precision in ("fp32", "int8")
    )
    return [f"{fp32}.plan", f"{int8}.plan", f".{int8}.plan.a1b2c3"]


def are_there(paths: list[Path]) -> bool:
    there = {path.exists() for path in paths}
    assert len(there) == 1, "some were removed and some were kept"
    return there.pop()


def test_the_engines_of_a_bundle_go_with_its_slot_and_no_others(
    store: Store, install: Installer
) -> None:
    screw = install("screw", "1.0.0", 80)
    first = install("washer", "1.0.0", 88)
    second = install("washer", "2.0.0", 96)
    assert are_there(first)  # previous: a rollback needs it
    timing = store.engines / "timing-trt10.3.0-sm87-0a1b2c3d.cache"
    timing.write_bytes(b"of every graph")
    third = install("washer", "3.0.0", 104)
    assert not are_there(first)
    assert [are_there(kept) for kept in (second, third, screw)] == [True, True, True]
    assert timing.exists()
    store.rollback("washer")
    open_proven_engine(store, store.active()).engine.close()


def test_a_graph_that_two_bundles_share_keeps_its_plans(store: Store, install: Installer) -> None:
    *plans, proof, certificate = install("washer", "1.0.0", 96)
    install("washer", "2.0.0", 88)
    install("washer", "3.0.0", 96)  # 1.0.0 leaves, its graph is in 3.0.0 too
    assert not proof.exists()
    assert not certificate.exists()
    assert are_there(plans)


def test_a_pending_engine_stays_pending(
    store: Store, install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(install_module, "is_of_this_machine", lambda _: False)
        *waiting, certificate = install("washer", "1.0.0", 96)
    assert not certificate.exists()  # nothing was measured here
    install("screw", "1.0.0", 88)
    assert are_there(waiting)
    assert read_proof(store, store.installed("washer")).state == "pending"


def test_a_refused_bundle_leaves_no_engine(
    store: Store, install: Installer, tmp_path: Path, key: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = install("washer", "1.0.0", 96)
    built = []

    def prove(_: Store, *more: object) -> None:
        built.extend(store.engines / name for name in names_of_plans("ab" * 32))
        for path in built:
            path.write_bytes(b"plan")
        raise ParityError("planted")

    monkeypatch.setattr(install_module, "prove_once", prove)
    with pytest.raises(ParityError):
        install_bundle(make_tiny_bundle(tmp_path, key, version="2.0.0", height=88), store.root)
    assert not are_there(built)
    assert are_there(used)


def test_what_a_killed_installation_has_built_is_used_by_the_next(
    store: Store, install: Installer
) -> None:
    install("washer", "1.0.0", 96)
    built = [store.engines / name for name in names_of_plans("ab" * 32)]
    for path in built:
        path.write_bytes(b"minutes of work")
    seen: list[bool] = []
    bundle = store.root.parent / "washer-1.0.0.bundle"
    install_bundle(
        bundle,
        store.root,
        reached=lambda step: seen.append(are_there(built)) if step == "prove" else None,
    )
    assert seen == [True]
    assert not are_there(built)


def test_pruning_goes_on_where_it_was_cut_short(
    store: Store, install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = install("washer", "1.0.0", 96)
    unused = [store.engines / name for name in (*names_of_plans("ab" * 32), "abababababab.json")]
    for path in unused:
        path.write_bytes(b"plan")
    unlink, calls = Path.unlink, []

    def unlink_once(path: Path, missing_ok: bool = False) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as cut:
        cut.setattr(Path, "unlink", unlink_once)
        with pytest.raises(KeyboardInterrupt):
            prune(store)
    assert sum(path.exists() for path in unused) == len(unused) - 1
    prune(store)
    assert not are_there(unused)
    assert are_there(used)


def test_nothing_is_removed_while_a_slot_cannot_be_read(store: Store, install: Installer) -> None:
    first = install("washer", "1.0.0", 96)
    second = install("washer", "2.0.0", 88)
    (store.installed("washer", "previous").folder / "manifest.json").write_text("rot")
    prune(store)
    assert are_there(first)
    assert are_there(second)


def test_a_bundle_that_leaves_while_it_is_opened_is_one_sentence(
    store: Store, install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("washer", "1.0.0", 96)

    def vanish(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("edge.install.proven.unproven_openers", vanish)
    with pytest.raises(EngineError, match=r"washer 1\.0\.0: its engine cannot be opened"):
        open_proven_engine(store, store.active())
