"""Rows of the audit table that claim what is not so."""

from __future__ import annotations

import pytest

from edge.station.audit import append_audit, read_audit
from edge.station.settle import settle
from edge.station.store import Store


def _settled(store: Store) -> list[str]:
    with store.change("test"):
        settle(store)
        settle(store)  # says it once
    return [row.act for row in read_audit(store.root)]


def test_what_is_in_effect_needs_no_other_row(store: Store) -> None:
    assert _settled(store) == ["trust"]


def test_a_key_whose_file_is_gone_is_said_by_the_next_change(store: Store) -> None:
    next(store.trust_folder.iterdir()).unlink()
    assert _settled(store) == ["trust", "trust not in effect"]
    assert read_audit(store.root)[-1].detail["keyid"] == read_audit(store.root)[0].detail["keyid"]


@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"product": "../../../etc", "serial": "1", "version": 1, "digest": "a" * 64},
        {"product": "washer", "serial": "1", "version": 1, "digest": "../../../secret"},
        {"product": ["washer"], "serial": 1, "version": "new", "digest": None},
    ],
)
@pytest.mark.parametrize(
    "act",
    [
        "trust",
        "distrust",
        "select",
        "calibrate geometry",
        "calibrate expected",
        "calibrate model",
        "calibrate undo",
    ],
)
def test_a_row_that_no_command_wrote_stops_nothing(
    store: Store, act: str, detail: dict[str, object]
) -> None:
    append_audit(store.root, act, detail)
    assert _settled(store)[:2] == ["trust", act]
