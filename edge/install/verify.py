"""`edge verify`: every engine of this machine measured again, and compared with what is kept.

Nothing is written under the root, which may be of another machine or mounted read-only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edge.engine.machine import this_machine
from edge.errors import EdgeError
from edge.install.consistency import checked_proof_data
from edge.install.engine_entry import EngineEntry
from edge.install.engine_table import engine_table
from edge.install.proof_file import ProofFile, read_proof
from edge.install.proving import choose_engine, measure_engines
from edge.install.summary import plane_lines
from edge.sections import PrecisionChoice
from edge.station.store import Installed, Store

# s, of this precision's normal scores: a threshold measured again may differ by this much
SAME_THRESHOLD = 0.01


@dataclass(frozen=True)
class Verified:
    """One engine, measured again.

    drift: how its threshold differs from the one kept; empty where it does not.
    """

    entry: EngineEntry
    judges: bool  # `edge run` uses it, or would on this machine
    drift: str = ""
    is_here: bool = True  # this machine is the one that the kept proof speaks of

    @property
    def passed(self) -> bool:
        """Proven, with the threshold that is kept."""
        return self.entry.is_proven and not self.drift

    @property
    def state(self) -> str:
        """What the table says of it."""
        if not self.passed:
            return (
                "failed:"
                f" {'; '.join(reason for reason in (self.entry.why_not, self.drift) if reason)}"
            )
        state = ("judges" if self.is_here else "would judge here") if self.judges else "proven"
        calibrated = self.entry.section is not None and self.entry.section.calibrated
        return f"{state} (under this station's calibration)" if calibrated else state


@dataclass(frozen=True)
class VerifyReport:
    """What `edge verify` found.

    note: why no engine may judge, where station.toml names a precision that may not. elsewhere: the
    machine that the kept proof speaks of, where it is not this one.
    """

    bundle: Installed
    results: tuple[Verified, ...]
    table: tuple[str, ...]
    note: str = ""
    elsewhere: str = ""

    @property
    def passed(self) -> bool:
        """Whether the engine that judges decides as the trained model did, with the threshold that
        is kept.
        """
        return any(result.judges and result.passed for result in self.results)

    def lines(self) -> list[str]:
        """A table, one line per engine, and the verdict."""
        m = self.bundle.manifest
        verdict = (
            "passed"
            if self.passed
            else f"FAILED: {self.note or 'the engine that judges may not judge'}"
        )
        where = (
            f" on this machine, {this_machine()}; what judges on {self.elsewhere} is proven there"
        )
        return [
            (
                f"{m.product} {m.version} ({self.bundle.slot}): signature and {len(m.files)}"
                " digests are right"
            ),
            *self.table,
            *plane_lines(m),
            f"verify {verdict}{where if self.elsewhere else ''}",
        ]


def verify_installed(
    store: Store, bundle: Installed, threads: int = 2, wanted: PrecisionChoice = "auto"
) -> VerifyReport:
    """Check every digest of an installed bundle, then run its frames through every engine this
    machine has.

    wanted: `precision` in station.toml.
    Raises: BundleError if a file is damaged, the bundle contradicts itself or the signature is not
    trusted.
    """
    store.verify(bundle)
    proof_data = checked_proof_data(bundle)
    with _plans(store) as cache:
        entries = measure_engines(proof_data, cache, threads, store)
    known = read_proof(store, bundle)
    elsewhere = ""
    if known is not None and known.board not in (None, this_machine()):
        elsewhere, known = known.board or "", None
    is_here = known is not None and known.state == "proven"
    judge, note = _judge(store, bundle, known, entries, wanted)
    results = tuple(
        Verified(entry, entry is judge, _drift(store, bundle, known, entry), is_here)
        for entry in entries
    )
    states = [result.state for result in results]
    return VerifyReport(
        bundle,
        results,
        tuple(engine_table(bundle.manifest, proof_data.certificate, entries, states)),
        note,
        elsewhere,
    )


def _judge(
    store: Store,
    bundle: Installed,
    known: ProofFile | None,
    entries: list[EngineEntry],
    wanted: PrecisionChoice,
) -> tuple[EngineEntry | None, str]:
    """(the engine that judges by what is kept, as it was measured now; why there is none)."""
    if known is None or known.state == "pending":
        chosen, _ = choose_engine(entries, store.model_states(bundle))
        known = ProofFile(
            digest=bundle.digest,
            state="proven",
            engines=tuple(entries),
            chosen=None if chosen is None else entries.index(chosen),
        )
    try:
        judge = known.judge(bundle.manifest, wanted)
    except EdgeError as error:
        return None, str(error)
    same = [entry for entry in entries if entry.precision == judge.precision]
    kind = judge.runtime.split()[0]
    return next((entry for entry in same if entry.runtime.split()[0] == kind), None), ""


def _drift(store: Store, bundle: Installed, known: ProofFile | None, entry: EngineEntry) -> str:
    """How the threshold differs from the one kept for this very engine; under site inputs it may
    differ.
    """
    before = (
        next((one.section for one in known.engines if one.name == entry.name), None)
        if known
        else None
    )
    state = store.model_state(bundle, entry.precision, entry.runtime)
    if before is None or entry.section is None or (state is not None and state.tensors):
        return ""
    kept, now = before.threshold.value, entry.section.threshold.value
    allowed = SAME_THRESHOLD * bundle.manifest.normal_spread[entry.precision].spread
    if abs(now - kept) <= allowed:
        return ""
    return (
        f"threshold {now:.6g}, kept is {kept:.6g}: may differ by {allowed:.2g} ({SAME_THRESHOLD} s)"
    )


@contextmanager
def _plans(store: Store) -> Iterator[Path]:
    """A cache that has every plan of the station, and keeps what is built meanwhile to itself."""
    with TemporaryDirectory(prefix="edge-verify-") as temporary:
        cache = Path(temporary)
        for path in store.engines.glob("[!.]*") if store.engines.is_dir() else ():
            if path.suffix in (".plan", ".cache"):
                (cache / path.name).symlink_to(path.absolute())
        yield cache
