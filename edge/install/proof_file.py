"""What a root remembers of its engines, and when it forgets it.

var/lib/edge/engines/DIGEST12.json              every engine of this machine: proven or why not,
                                                which one judges
var/lib/edge/engines/DIGEST12-certificate.json  the bundle's certificate, completed by this
                                                machine's sections
var/lib/edge/engines/KEY.plan                   what a builder compiled (TensorRT), by graph,
                                                precision and machine
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from edge.bundle.manifest import Manifest
from edge.config import PLACE
from edge.errors import BundleError, ConfigError, ParityError
from edge.files import make_folder, sync_directory, write_atomically
from edge.install.engine_entry import EngineEntry
from edge.proof.certificate import BoardSection, read_certificate
from edge.schema import Precision, Sha256, Strict, canonical_json
from edge.sections import PrecisionChoice
from edge.station import audit
from edge.station.site import read_state
from edge.station.store import Installed, Store

log = logging.getLogger(__name__)


class ProofFile(Strict):
    """engines/DIGEST12.json.

    chosen: which of the engines judges where station.toml names no precision. why: in a sentence.
    """

    schema_: Literal[2] = Field(alias="schema", default=2)
    digest: Sha256
    state: Literal["pending", "proven"]
    board: str | None = None  # the machine that the engines were measured on
    engines: tuple[EngineEntry, ...] = ()
    chosen: int | None = None
    why: str = ""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    def find(self, precision: Precision) -> EngineEntry | None:
        """The engine of a precision: the proven one where there are two, on a GPU and on the
        CPU.
        """
        entries = [entry for entry in self.engines if entry.precision == precision]
        return next(
            (entry for entry in entries if entry.is_proven), entries[0] if entries else None
        )

    def judge(self, manifest: Manifest, wanted: PrecisionChoice = "auto") -> EngineEntry:
        """The engine that judges. wanted: `precision` in station.toml.

        Raises: ConfigError if the bundle has no file of the wanted precision, ParityError if its
        engine is not proven.
        """
        if wanted == "auto" and self.chosen is not None:
            return self.engines[self.chosen]
        entry = None if wanted == "auto" else self.find(wanted)
        have = ", ".join(one.precision for one in self.engines if one.is_proven)
        remedy = f"set it to {have or 'another'} or auto"
        if entry is None:
            what = (
                f"{PLACE}: runtime.precision is {wanted}, {manifest.product} {manifest.version} has"
                " no such file"
            )
            raise ConfigError(f"{what}: {remedy}")
        if not entry.is_proven:
            what = (
                f"{PLACE}: runtime.precision is {wanted}, {entry.name} is not proven on this"
                " machine"
            )
            raise ParityError(f"{what} ({entry.why_not}): {remedy}")
        return entry


def read_proof(store: Store, bundle: Installed) -> ProofFile | None:
    """What is known about this bundle's engines on this root.

    Raises: ConfigError if the file is damaged.
    """
    proof = read_state(_proof_path(store, bundle), ProofFile)
    return proof if proof is not None and proof.digest == bundle.digest else None


def keep_proof(store: Store, bundle: Installed, proof: ProofFile) -> None:
    """Remember a new proof: certificate, a row in the audit table per measured threshold, then the
    proof itself.
    """
    keep_certificate(
        store, bundle, [entry.section for entry in proof.engines if entry.section is not None]
    )
    for number, entry in enumerate(proof.engines):
        if entry.section is not None and entry.is_proven:
            audit.append_audit(
                store.root,
                "threshold",
                _about(bundle, entry, entry.section, number == proof.chosen),
            )
    _write(store, bundle, proof)


def _about(
    bundle: Installed, entry: EngineEntry, section: BoardSection, chosen: bool
) -> dict[str, object]:
    """The audit row of a measured threshold."""
    threshold = section.threshold
    return {
        "product": bundle.product,
        "digest": bundle.digest,
        "precision": entry.precision,
        "runtime": entry.runtime,
        "board": section.board,
        "value": threshold.value,
        "rank": threshold.rank,
        "parts": threshold.parts,
        "expected": threshold.expected,
        "bound": threshold.bound,
        "manifest": bundle.manifest.thresholds[entry.precision].value,
        "chosen": chosen,
    }


def keep_certificate(store: Store, bundle: Installed, sections: Sequence[BoardSection]) -> Path:
    """Write the bundle's certificate with this machine's sections beside its proof; returns
    where.
    """
    path = certificate_path(store, bundle)
    certificate = read_certificate(bundle.certificate).with_boards(tuple(sections))
    with store.inside():
        make_folder(store.engines)
        write_atomically(path, certificate.to_json().encode())
    return path


def certificate_path(store: Store, bundle: Installed) -> Path:
    """Where the certificate lies that this machine has completed."""
    return store.engines / f"{bundle.digest[:12]}-certificate.json"


def write_pending(store: Store, bundle: Installed) -> None:
    """Remember that the first `edge run` has to build and prove the engine before it judges."""
    _write(store, bundle, ProofFile(digest=bundle.digest, state="pending"))


def prune(store: Store) -> None:
    """Remove plans and proofs that belong to no bundle in a slot, of any product. The caller holds
    the change lock.

    A slot is what makes an engine needed, active or not, proven or pending: call this when the
    slots are settled. An `edge run` that still judges with a bundle which has left its slot has
    that engine in memory. Cut short, it has removed some of them and the next call removes the
    rest. While a slot cannot be read nothing is removed, since what it needs is not known.
    """
    from edge.engine.plan import remove_plans

    try:
        kept = [
            one
            for slots in store.products_folder.glob("[!.]*/slots")
            for one in store.slots(slots.parent.name)
        ]
    except BundleError as error:
        log.warning("unused engines are not removed: %s", error)
        return
    removed = remove_plans(
        store.engines, {entry.sha256 for one in kept for entry in one.manifest.files.values()}
    )
    known = {
        path for one in kept for path in (_proof_path(store, one), certificate_path(store, one))
    }
    for path in [path for path in store.engines.glob("[!.]*.json") if path not in known]:
        path.unlink()
        removed.append(path.name)
    if removed:
        sync_directory(store.engines)
        log.info("engines of no installed bundle removed: %s", ", ".join(removed))


def _write(store: Store, bundle: Installed, proof: ProofFile) -> None:
    with store.inside():
        make_folder(store.engines)
        write_atomically(
            _proof_path(store, bundle), canonical_json(proof.model_dump(by_alias=True, mode="json"))
        )


def _proof_path(store: Store, bundle: Installed) -> Path:
    return store.engines / f"{bundle.digest[:12]}.json"
