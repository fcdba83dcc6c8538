"""What each switch of VMPFD-AD changes, and that it changes nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from trainer.systems.vmpfd.preset import COMPACT, PAPER, SWITCHES, Variant

CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("local", {"local_branch": False}),
    ("global", {"global_branch": False, "joint": True}),
    ("vim_features", {"use_vim": False}),
    ("pdn_features", {"use_pdn": False}),
    ("cnn_encoder", {"cnn_encoder": True}),
    ("plain_error", {"relative": False}),
    ("as_published", {"code": None, "relative": False, "joint": True}),
    ("patch16", {"patch": 16}),
]


@pytest.mark.parametrize(("switch", "changed"), CHANGES, ids=[name for name, _ in CHANGES])
def test_a_switch_changes_what_it_names_and_nothing_else(
    switch: str, changed: dict[str, Any]
) -> None:
    usual = asdict(Variant.of(COMPACT, SWITCHES))
    switched = asdict(Variant.of(COMPACT, {**SWITCHES, switch: not SWITCHES[switch]}))
    assert {name: one for name, one in switched.items() if one != usual[name]} == changed


def test_every_switch_is_tested_here() -> None:
    assert {name for name, _ in CHANGES} == set(SWITCHES)


def test_the_papers_form_is_what_as_published_makes_of_any_preset() -> None:
    assert Variant.of(PAPER, {**SWITCHES, "as_published": True}) == Variant.of(PAPER, SWITCHES)
