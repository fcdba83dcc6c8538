"""Power cuts with a hand at the plug: what was on disk before, is it there after the boot?

Before each cut the file of the acceptance remembers the boot, the newest record and the active
bundle. A process that is asked to end, as in a shutdown, takes that back: only a cut leaves it. The
next run of the command finds it, in another boot, and looks at the root.

Verified on a stand-in: the boot's identifier is changed by the tests, nothing is switched off. A
real power cut: never executed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from edge.archive.reading import has_table, reading
from edge.clock import read_boot_id
from edge.doctor.acceptance_bench import NOBODY, Bench
from edge.doctor.acceptance_file import CUTS, Acceptance, BeforeCut, Cut
from edge.engine.machine import this_machine
from edge.errors import EdgeError
from edge.install.proof_file import read_proof
from edge.runtime.status_file import read_live
from edge.station.audit import now_utc
from edge.station.store import Store

START = "start the station (`sudo systemctl start edge`) and let it judge parts"
ONLINE_S = 120.0  # after a boot: to the first state of the station
PULL_S = 600.0  # for the hand


def lacks(bench: Bench) -> str:
    """Why no power can be cut here and now; empty where it can."""
    if not bench.desk.is_attended:
        return NOBODY
    if bench.subject.store.active_product() is None:
        return "no bundle is installed"
    if not read_boot_id():
        return "this kernel does not tell its boots apart"
    return "" if bench.runs else START


def before_cut(store: Store) -> BeforeCut:
    """What is on disk now."""
    return BeforeCut(
        boot=read_boot_id(), seq=_newest(store), slot=store.active().slot, at=now_utc()
    )


def settle_cut(report: Acceptance, bench: Bench) -> Acceptance:
    """The report once the cut that it waited for is looked at; without one in the same boot: then
    the command was ended, and not the power.
    """
    before = report.pending
    if before is None:
        return report
    settled = report.model_copy(update={"pending": None})
    if before.boot == read_boot_id():
        return settled
    lost = tuple(_lost(before, bench))
    cut = Cut(before=before, lost=lost, at=now_utc())
    return settled.model_copy(update={"cuts": (*report.cuts, cut)})


def are_enough(report: Acceptance) -> bool:
    """Whether as many cuts were survived as are asked for."""
    return sum(not cut.lost for cut in report.cuts) >= CUTS


def _lost(before: BeforeCut, bench: Bench) -> Iterator[str]:
    """What did not survive, in sentences."""
    store = bench.subject.store
    try:
        active = store.active()
        if active.slot != before.slot:
            yield f"bundle {before.slot} was active, {active.slot} is"
        store.verify(active)
        proof = read_proof(store, active)
        if proof is None or proof.state != "proven" or proof.board != this_machine():
            yield "the proof of the engine is gone"
        yield from _damage(store, before.seq)
    except EdgeError as error:
        yield str(error)
    if not _comes_online(store):
        yield f"the station did not come back within {ONLINE_S:.0f} s: `edge status`"


def _damage(store: Store, seq: int) -> Iterator[str]:
    with store.acting(), reading(store.root) as connection:
        if connection is None:
            yield "line.sqlite is gone"
            return
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            yield f"line.sqlite is damaged: {answer}"
    if _newest(store) < seq:
        yield f"record {seq} was on disk, the newest is {_newest(store)}"


def _newest(store: Store) -> int:
    """The number of the newest record; 0 before any. Raises: StorageError."""
    with store.acting(), reading(store.root) as connection:
        if connection is None or not has_table(connection, "records"):
            return 0
        return int(connection.execute("SELECT MAX(seq) FROM records").fetchone()[0] or 0)


def _comes_online(store: Store) -> bool:
    end_s = time.monotonic() + ONLINE_S
    while time.monotonic() < end_s:
        live = read_live(store)
        if live is not None and live.said:
            return True
        time.sleep(0.5)
    return False
