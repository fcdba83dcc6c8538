"""The acts that change a root, and what a reader of a root may see."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from edge.bundle.key_files import read_public_key
from edge.errors import CalibrationError
from edge.install.install import install_bundle
from edge.install.proven import open_proven_engine
from edge.station import trust as keys
from edge.station.numbers import number_product
from edge.station.store import Store
from edge.types import Geometry, Intrinsics
from tests.support.cuts.act import Act, Mark
from tests.support.root import lay_foreign_system

SERIAL = "camera-1"
JUNK = "0123456789abcdef-fp16-trt10.3.0-sm87-0a1b2c3d.plan"  # an engine's plan that no slot needs


def bundle(files: Path, product: str, version: str) -> Path:
    return files / f"{product}-{version}.bundle"


def installed(*bundles: tuple[str, str]) -> Callable[[Path, Path], None]:
    """A root that trusts the key and has these bundles, the first product active."""

    def prepare(root: Path, files: Path) -> None:
        store = Store(root)
        keys.trust(store, files / "line.pub")
        for product, version in bundles:
            install_bundle(bundle(files, product, version), root)
        if bundles:
            (store.engines / JUNK).write_bytes(b"plan")

    return prepare


def install(version: str) -> Callable[[Path, Path, Mark], None]:
    return lambda root, files, _: install_bundle(bundle(files, "washer", version), root)


def cut_before(
    step: str, act: Callable[[Path, Path], None], version: str
) -> Callable[[Path, Path], None]:
    """What is left where a process that installs ends before a step."""

    def prepare(root: Path, files: Path) -> None:
        act(root, files)
        child = os.fork()
        if child == 0:
            install_bundle(
                bundle(files, "washer", version),
                root,
                reached=lambda now: now == step and os._exit(7),
            )
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    return prepare


def pending(root: Path, files: Path) -> None:
    """Installed into the root of another machine's system."""
    lay_foreign_system(root)
    installed(("washer", "1.0.0"))(root, files)


def open_first(root: Path, files: Path, mark: Mark) -> None:
    """What the first `edge run` does: it proves the engine and keeps the proof."""
    store = Store(root)
    open_proven_engine(store, store.active()).engine.close()


def damaged(root: Path, files: Path) -> None:
    installed(("washer", "1.0.0"))(root, files)
    slot = Store(root).active().folder
    (slot / "model" / "fp32.onnx").write_bytes(b"rot")
    (slot / "golden" / "0001.npz").unlink()
    (slot / "stray").write_text("x")


def calibrated(root: Path, files: Path) -> None:
    installed(("washer", "1.0.0"))(root, files)
    save_geometry(root, files, print)
    save_model_state(root, files, print)


def save_geometry(root: Path, files: Path, mark: Mark) -> None:
    geometry = Geometry((0.0, 0.0, 1.0, 0.5), 0, 0, np.full((96, 128), 255, np.uint8))
    Store(root).save_geometry(
        "washer", SERIAL, geometry, Intrinsics(128, 96, 300.0, 300.0, 63.5, 47.5), 10
    )


def save_model_state(root: Path, files: Path, mark: Mark) -> None:
    store = Store(root)
    store.save_model_state(
        store.active(),
        "fp32",
        "onnxruntime",
        59,
        12.5,
        "as measured",
        {"shift": np.zeros(8, np.float32)},
    )


def calibrated_twice(root: Path, files: Path) -> None:
    calibrated(root, files)
    save_model_state(root, files, print)


def undo(root: Path, files: Path, mark: Mark) -> None:
    """Once: what cannot be undone was undone before the cut."""
    store = Store(root)
    with suppress(CalibrationError):
        store.undo_model_state(store.active())


def select(root: Path, files: Path, mark: Mark) -> None:
    Store(root).select("screw")


def rollback(root: Path, files: Path, mark: Mark) -> None:
    Store(root).rollback("washer")


def number(root: Path, files: Path, mark: Mark) -> None:
    number_product(Store(root), "washer", 7)


def trust(name: str) -> Callable[[Path, Path, Mark], None]:
    return lambda root, files, _: keys.trust(Store(root), files / name)


def trusting_both(root: Path, files: Path) -> None:
    installed()(root, files)
    trust("other.pub")(root, files, print)


def distrust(root: Path, files: Path, mark: Mark) -> None:
    store, other = Store(root), read_public_key(files / "other.pub")
    if other.keyid in [key.keyid for key in store.keys.all()]:
        keys.distrust(store, other.keyid)


WASHER_1, WASHER_2, SCREW = ("washer", "1.0.0"), ("washer", "2.0.0"), ("screw", "1.0.0")
PRODUCTS = (WASHER_1, WASHER_2, ("washer", "3.0.0"), SCREW)
ACTS = {
    "first trust": Act(lambda *_: None, trust("line.pub")),
    "second trust": Act(installed(), trust("other.pub")),
    "distrust": Act(trusting_both, distrust),
    "first install": Act(installed(), install("1.0.0")),
    "second install": Act(installed(WASHER_1, SCREW), install("2.0.0")),
    # the first slot makes room
    "third install": Act(installed(WASHER_1, WASHER_2), install("3.0.0")),
    "resumed install": Act(cut_before("current", installed(WASHER_1), "2.0.0"), install("2.0.0")),
    "mending install": Act(damaged, install("1.0.0")),
    "first opening": Act(pending, open_first),
    "rollback": Act(installed(WASHER_1, WASHER_2), rollback),
    "select": Act(installed(WASHER_1, SCREW), select),
    "number": Act(installed(WASHER_1, SCREW), number),
    "first geometry": Act(installed(WASHER_1), save_geometry),
    "next geometry": Act(calibrated, save_geometry),
    "first model state": Act(installed(WASHER_1), save_model_state),
    "next model state": Act(calibrated, save_model_state),
    "undo": Act(calibrated_twice, undo),
}
