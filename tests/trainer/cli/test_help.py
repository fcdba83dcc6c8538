"""`trainer --help`: verbs in the order of use, nothing cut short, an example that parses."""

from __future__ import annotations

import shlex
from importlib import metadata

import pytest
import typer
from typer.testing import CliRunner

from trainer.cli import VERBS, Verb, app


def help_of(*words: str) -> str:
    answer = CliRunner().invoke(app, [*words, "-h"], catch_exceptions=False)
    assert answer.exit_code == 0
    return answer.output


def test_the_verbs_are_listed_in_the_order_of_use_with_whole_summaries() -> None:
    listed = help_of().partition("Commands:")[2]
    for verb in VERBS:
        assert f"  {verb.name:<10}  {verb.summary}\n" in listed
    places = [listed.index(f"  {verb.name} ") for verb in VERBS]
    assert places == sorted(places)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_shows_an_example_that_parses(verb: Verb) -> None:
    assert " ".join(help_of(verb.name).split()).endswith(f"Example: {verb.example}")
    program, *rest = shlex.split(verb.example)
    assert (program, rest[0]) == ("trainer", verb.name)
    command = typer.main.get_command(app)
    while isinstance(command, typer.core.TyperGroup):
        context = command.make_context("trainer", list(rest))
        words = [*context._protected_args, *context.args]
        _, found, rest = command.resolve_command(context, words)
        assert found is not None
        command = found
    assert command.make_context(verb.name, list(rest)).params


@pytest.mark.parametrize(
    ("verb", "usage", "first"),
    [
        ("train", "{SYSTEM} {PRODUCT}", "--out RUN"),
        ("export", "{RUN}", "--product NAME"),
        ("evaluate", "{RUN} [DATA]", "--defects FOLDER"),
        ("benchmark", "[OPTIONS]", "--data NAME=FOLDER"),
        ("campaign", "{FILE}", "--out FOLDER"),
        ("synthesize", "{OUT}", "--products NAMES"),
    ],
)
def test_the_required_options_come_first_and_every_option_names_what_it_takes(
    verb: str, usage: str, first: str
) -> None:
    page = help_of(verb)
    assert usage in page.splitlines()[0]
    options = [line.strip() for line in page.partition("Options:")[2].splitlines()]
    assert options[1].startswith(first)
    assert "<" not in "".join(line for line in options if line.startswith("--"))


def test_the_version_is_the_packages() -> None:
    answer = CliRunner().invoke(app, ["--version"], catch_exceptions=False)
    assert answer.output == f"rgbd-inspection {metadata.version('rgbd-inspection')}\n"
