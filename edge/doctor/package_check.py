"""The package's own updates."""

from __future__ import annotations

from edge.doctor.finding import Finding, Subject, right, unknown, wrong
from edge.update.package_offer import AGAIN
from edge.update.package_state import read_package_state


def package(subject: Subject) -> Finding | None:
    """Whether the last package that came by `edge update` did well here."""
    state = read_package_state(subject.store.root)
    if state.trial is not None:
        return unknown(f"{state.trial.version} is on trial", "`edge update status` says more")
    if not state.known:
        return None
    last = state.known[-1]
    if last.outcome == "installed":
        return right(f"{last.version} came by `edge update` on {last.when[:10]}")
    told = "not taken" if last.outcome == "failed" else last.outcome.replace("_", " ")
    return wrong(f"{last.version} was {told}: {last.why}", f"release a mended one, or {AGAIN}")
