"""`--help` of every verb: an example, no summary cut short, options that mean the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from edge.cli import app

ROOT_COMMAND = typer.main.get_command(app)


def commands(command: Any = ROOT_COMMAND, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def help_of(*path: str) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.output


ALL = sorted(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_verb_shows_an_example_and_cuts_nothing_short(path: tuple[str, ...]) -> None:
    text = help_of(*path)
    assert "Example" in text
    assert f"edge {' '.join(path)}".strip() in text
    assert "..." not in text.replace("[ARGS]...", "")


def test_the_short_form_of_help_and_the_version() -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["install", "-h"]).output == help_of("install")
    version = runner.invoke(app, ["--version"])
    assert version.exit_code == 0
    assert version.output.startswith("edge 0.")


def test_commands_stand_in_the_order_of_use() -> None:
    listed = help_of()[help_of().index("Commands:") :].splitlines()[1:]
    names = [line.split()[0] for line in takewhile(str.strip, listed)]
    assert names == [
        "trust",
        "install",
        "doctor",
        "capture",
        "calibrate",
        "inspect",
        "run",
        "opcua",
        "page",
        "status",
        "verify",
        "bench",
        "update",
        "bundle",
        "products",
        "records",
        "audit",
        "report",
        "backup",
        "restore",
        "simulate",
    ]
    assert set(names) == {path[0] for path in ALL if path}


def test_the_same_option_has_the_same_type_everywhere() -> None:
    types: dict[str, set[str]] = {}
    for path in ALL:
        command: Any = ROOT_COMMAND
        for name in path:
            command = command.commands[name]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.is_flag:
                kind = "several" if parameter.multiple else str(parameter.metavar)
                types.setdefault(parameter.opts[0], set()).add(kind)
    types.pop("--product")  # `edge trust` takes several: a key may be for more products than one
    assert {option: kinds for option, kinds in types.items() if len(kinds) > 1} == {}
