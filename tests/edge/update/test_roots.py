"""Which root a station begins to trust a repository with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.errors import ConfigError
from edge.station.audit import read_audit
from edge.station.store import Store
from edge.update.roots import read_root, root_file, trust_root
from tests.support.released import Released
from tests.support.root import run_edge


def test_both_roots_are_told_apart_and_audited(
    released: Released, tmp_path: Path, capsys, monkeypatch
) -> None:
    store = Store(tmp_path / "station")
    for name, kind in (("root.json", "online"), ("usb-root.json", "usb")):
        words = ("update", "trust", released.repository / name, "--root", store.root)
        answer = run_edge(capsys, monkeypatch, *words)
        assert (answer.code, f"({kind})" in answer.out) == (0, True), answer.err
        assert read_root(store, kind) == (released.repository / name).read_bytes()
    assert [row.act for row in read_audit(store.root)] == ["update trust"] * 2
    assert read_audit(store.root)[0].detail["repository"] == "online"


def one_signature(released: Released) -> bytes:
    released.forge("root", lambda _: None, ("root-1",))
    return released.newest("root").read_bytes()


def of_somebody_else(released: Released) -> bytes:
    def change(signed: Any) -> None:
        signed.unrecognized_fields.clear()

    released.forge("root", change, ("root-1", "root-2"))
    return released.newest("root").read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda released: released.newest("targets").read_bytes(), "is no root"),
        (lambda _: b"{}", "is no root"),
        (lambda released: released.line.public.read_bytes(), "is no root"),
        (one_signature, "is no root"),
        (of_somebody_else, "no root of a repository that `trainer release` made"),
    ],
)
def test_anything_else_is_refused(
    released: Released, tmp_path: Path, content: Any, words: str
) -> None:
    store, file = Store(tmp_path / "station"), tmp_path / "file.json"
    file.write_bytes(content(released))
    with pytest.raises(ConfigError, match=words) as refusal:
        trust_root(store, file)
    assert "\n" not in str(refusal.value)
    assert not store.trust_folder.exists()


def test_a_root_that_every_account_may_change_is_not_believed(
    released: Released, station: Store
) -> None:
    root_file(station, "online").chmod(0o666)
    with pytest.raises(ConfigError, match="may be changed by every account"):
        read_root(station, "online")
