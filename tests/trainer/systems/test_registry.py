"""The registry: a system is one folder and one line."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import trainer.systems
from edge.errors import ConfigError
from trainer.systems.registry import SYSTEM_MODULES, find_system

FOLDERS = {path.parent.name for path in Path(trainer.systems.__path__[0]).glob("*/system.py")}


def test_every_folder_is_registered_and_every_line_has_its_folder() -> None:
    assert set(SYSTEM_MODULES) == FOLDERS
    for name, module in SYSTEM_MODULES.items():
        assert module == f"trainer.systems.{name}.system"


@pytest.mark.parametrize("name", sorted(SYSTEM_MODULES))
def test_a_system_knows_its_name_and_begins_with_the_two_presets_of_all(name: str) -> None:
    system = find_system(name)
    assert system.name == name
    assert list(system.presets)[:2] == ["paper", "compact"]


@pytest.mark.parametrize("name", sorted(SYSTEM_MODULES))
def test_no_system_imports_another(name: str) -> None:
    others = [f"trainer.systems.{other}" for other in SYSTEM_MODULES if other != name]
    folder = Path(importlib.import_module(f"trainer.systems.{name}").__path__[0])
    for path in folder.glob("*.py"):
        found = [other for other in others if f"from {other}" in path.read_text()]
        assert found == [], path


def test_an_unknown_system_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="mats"):
        find_system("nonsense")
