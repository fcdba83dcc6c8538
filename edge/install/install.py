"""`edge install`: from a .bundle file to the active bundle, in steps. A process may be killed at
any of them.

Every step before "current" works beside what is active; "current" is one rename. What a killed
installation left behind is removed by the next one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from edge.bundle.archive import OpenBundle, open_bundle
from edge.bundle.manifest import Manifest
from edge.bundle.versions import version_key
from edge.config import read_config
from edge.errors import BundleError, StorageError
from edge.files import make_folder, sentence_of
from edge.install.consistency import checked_proof_data
from edge.install.engine_table import engine_table, state_of
from edge.install.install_result import InstallResult, ProofReport
from edge.install.placing import place_in_slot
from edge.install.proof_file import ProofFile, prune, write_pending
from edge.install.proven import prove_once
from edge.install.proving import prove
from edge.install.summary import OUTLINE_ONLY, plane_lines
from edge.proof.certificate import read_certificate
from edge.provision.architecture import is_of_this_machine
from edge.provision.first_files import write_first_files
from edge.provision.jetpack import describe_jetpack
from edge.station.numbers import number_new
from edge.station.settle import settle, strays
from edge.station.store import Installed, Store, slot_name
from edge.station.switch import SLOT, finish, switch

Step = Literal[
    "check",  # signature, manifest, every digest: nothing is written before this has passed
    "lock",  # one change of the root at a time; what a killed one left is cleared
    "stage",  # members into var/lib/edge/.staging, checked again on the way, synced
    # engines opened or built, reference and normal frames run through each, thresholds
    # measured, one engine chosen
    "prove",
    "slot",  # the staged folder becomes products/PRODUCT/slots/VERSION-DIGEST12
    "station",  # station.toml, the systemd units and the product's number, where there are none
    "intent",  # audit row: who is about to activate what
    "previous",  # `previous` points at what `current` points at
    "current",  # the switch
    "active",  # the product becomes the active one, if none is
    "done",  # audit row: it is active
]
STEPS: tuple[Step, ...] = get_args(Step)
SPARE_BYTES = 64 << 20  # beside the bundle: database, engine cache, file system


def install_bundle(
    path: Path,
    root: Path,
    dry_run: bool = False,
    reached: Callable[[Step], object] = lambda _: None,
    allow_downgrade: bool = False,
) -> InstallResult:
    """Verify a bundle, prove an engine for it, make it the current bundle of its product under
    `root`.

    Args:
        path: a .bundle file. root: the station's root, "/" on a device.
        dry_run: do all the checks, reference frames included, and write nothing under `root`.
        reached: called before each step, with its name.
        allow_downgrade: also a version that is not newer than the current one of the product; the
            audit tells it.
    Raises: BundleError if the bundle is refused, ParityError if no engine decides as the trained
        model did, BusyError if another command changes this root, StorageError if the disk does not
        take it. The active bundle stays then.
    """
    store = Store(root)
    with _as_storage_error(root), open_bundle(path, store.keys.all()) as bundle:
        reached("check")
        bundle.check_members()
        _check_space(root, bundle)
        if dry_run:
            _find_downgrade(store, bundle, allow_downgrade)
            return _rehearse(store, bundle)
        reached("lock")
        with store.change("edge install"):
            # engines stay: what a killed installation of this bundle has built is used again
            settle(store)
            replaced = _find_downgrade(store, bundle, allow_downgrade)
            try:
                return _install(
                    store, bundle, reached, {} if replaced is None else {"downgrade_from": replaced}
                )
            finally:
                settle(store)
                prune(store)


def _find_downgrade(store: Store, bundle: OpenBundle, allowed: bool) -> str | None:
    """The current version of the product where the bundle is not a newer one, nor the same bundle;
    else None.

    The version is compared with the current one, not with all that were ever installed: after a
    rollback the version that was taken back counts as newer again.
    Raises: BundleError if it is not allowed.
    """
    manifest = bundle.manifest
    slot = store.link(manifest.product, "current")
    if slot is None or not SLOT.fullmatch(slot) or slot == slot_name(manifest, bundle.digest):
        return None
    current = slot.rpartition("-")[0]  # the slot's name tells it even where its manifest is damaged
    now, new = version_key(current), version_key(manifest.version)
    if new > now:
        return None
    if not allowed:
        how = "older than" if new < now else "of the same version as"
        same = ", but not the same bundle" if new == now else ""
        raise BundleError(
            f"{bundle.path.name} is {manifest.product} {manifest.version}, {how} the current"
            f" {current}{same}: give a new version to what is new, or say --allow-downgrade; `edge"
            " bundle rollback` goes back to the previous one"
        )
    return current


def _install(
    store: Store, bundle: OpenBundle, reached: Callable[[Step], object], downgrade: dict[str, str]
) -> InstallResult:
    """The steps from "stage" on. The caller holds the change lock.

    downgrade: what the audit row tells of a downgrade; empty where it is none.
    """
    product = bundle.manifest.product
    reached("stage")
    staged = _stage(store.staging, bundle)
    reached("prove")
    proven = _prove(store, staged)
    reached("slot")
    placed = place_in_slot(store, staged)
    reached("station")
    notes = (
        *plane_lines(bundle.manifest),
        *_system_notes(store.root),
        *write_first_files(store, bundle.manifest.camera),
        *_stray_notes(store),
        *_next_notes(store, bundle.manifest),
    )
    number_new(store, product)
    before = store.link(product, "current")
    if before != placed.slot:
        about = {"version": placed.manifest.version, "digest": placed.digest, **downgrade}
        switch(store.root, store.products_folder / product, placed.slot, "install", about, reached)
    reached("active")
    if store.active_product() is None:
        store.activate(product)
    reached("done")
    changed = finish(store.root, store.products_folder)
    replaced = before if before != placed.slot else None
    return InstallResult(
        product,
        bundle.manifest.version,
        placed.slot,
        replaced,
        changed,
        store.active_product(),
        proven,
        notes=notes,
    )


def _system_notes(root: Path) -> Iterator[str]:
    if (system := describe_jetpack(root)) is not None:
        yield system


def _stray_notes(store: Store) -> Iterator[str]:
    for stray in strays(store):
        yield f"{stray} is no bundle and is left alone: move it away"


def _next_notes(store: Store, manifest: Manifest) -> Iterator[str]:
    """What a product in a fixed pose needs next, if no camera has an expected silhouette for it."""
    if not manifest.camera.fixed_pose or not manifest.presence:
        return
    if not any(one.expected for one in store.geometry_records(manifest.product).values()):
        yield f"next: {OUTLINE_ONLY}, after `edge calibrate plane`"


def _stage(folder: Path, bundle: OpenBundle) -> Installed:
    make_folder(folder)
    bundle.extract(folder)
    return Installed(bundle.manifest.product, folder, bundle.manifest, bundle.digest)


def _prove(store: Store, staged: Installed) -> ProofReport | None:
    """The proof on this machine, kept and audited. None where the root is of another machine: then
    the proof is remembered as pending.
    """
    if not is_of_this_machine(store.root):
        checked_proof_data(staged)  # a contradiction is found without an engine
        write_pending(store, staged)
        return None
    runtime = read_config(store.root).runtime
    return _proven(store, staged, prove_once(store, staged, runtime.threads, runtime.precision))


def _proven(store: Store, staged: Installed, proof: ProofFile) -> ProofReport:
    """store: whose station.toml may name the precision."""
    judge = proof.judge(staged.manifest, read_config(store.root).runtime.precision)
    states = [state_of(entry, judge) for entry in proof.engines]
    table = engine_table(
        staged.manifest, read_certificate(staged.certificate), proof.engines, states
    )
    return ProofReport(proof, judge, tuple(table))


def _rehearse(store: Store, bundle: OpenBundle) -> InstallResult:
    """A dry run: everything that can be proven without changing the root."""
    manifest = bundle.manifest
    before, active = store.link(manifest.product, "current"), store.active_product()
    slot = slot_name(manifest, bundle.digest)
    proven = None
    if is_of_this_machine(store.root):
        with tempfile.TemporaryDirectory(prefix="edge-dry-run-") as temporary:
            other = Store(Path(temporary))
            staged = _stage(other.staging, bundle)
            proof = prove(other, staged, read_config(store.root).runtime.threads, site=store)
            proven = _proven(store, staged, proof)
    return InstallResult(
        manifest.product,
        manifest.version,
        slot,
        replaced=before if before != slot else None,
        changed=before != slot,
        active=active or manifest.product,
        proven=proven,
        dry_run=True,
        notes=(*plane_lines(manifest), *_system_notes(store.root), *_next_notes(store, manifest)),
    )


def _check_space(root: Path, bundle: OpenBundle) -> None:
    needed = sum(entry.size for entry in bundle.manifest.files.values()) + SPARE_BYTES
    there = next(
        folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir()
    )
    free = shutil.disk_usage(there).free
    if free < needed:
        what = (
            f"{bundle.path.name} needs {needed / 1e6:.0f} MB under {root}, {free / 1e6:.0f} MB are"
            " free"
        )
        raise StorageError(f"{what}: make room and install again")


@contextmanager
def _as_storage_error(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot install under {root}: {sentence_of(error)}; the bundle that was active"
            " still is"
        ) from error
