"""The row `package`: what became of the last one that came by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import EdgeConfig
from edge.doctor.finding import Subject
from edge.doctor.package_check import package
from edge.station.store import Store
from edge.update.package_state import (
    KnownPackage,
    Outcome,
    PackageState,
    PackageTrial,
    write_package_state,
)

WHEN = "2026-12-01T00:00:00.000Z"


def said(root: Path, state: PackageState | None) -> str:
    if state is not None:
        write_package_state(root, state)
    found = package(Subject(Store(root), root, EdgeConfig()))
    return "" if found is None else f"{found.state}: {found.said}"


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("installed", "right: 1.1 came by `edge update` on 2026-12-01"),
        ("rolled_back", "wrong: 1.1 was rolled back: it did not judge"),
        ("failed", "wrong: 1.1 was not taken: it did not judge"),
    ],
)
def test_the_last_one_counts(tmp_path: Path, outcome: Outcome, told: str) -> None:
    known = KnownPackage(version="1.1", outcome=outcome, why="it did not judge", when=WHEN)
    assert said(tmp_path, PackageState(known=(known,))) == told


def test_without_one_there_is_no_row_and_on_trial_nobody_knows(tmp_path: Path) -> None:
    assert said(tmp_path, None) == ""
    trial = PackageTrial(version="1.1", before="1.0", previous="x.deb")
    assert said(tmp_path, PackageState(trial=trial)) == "unknown: 1.1 is on trial"
