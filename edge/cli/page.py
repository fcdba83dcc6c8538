"""`edge page`: the page for people, and its users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from edge.cli.options import root_option
from edge.usage import GROUP, example

INSTALL = "pip install 'rgbd-inspection[page]'"


class _ServeByDefault(TyperGroup):
    """`edge page` is `edge page serve`."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Put `serve` before arguments that name no command and do not ask for help."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["serve", *args]
        return super().parse_args(context, args)


app = typer.Typer(
    cls=_ServeByDefault,
    **GROUP,
    help="The page for people, and its users. `edge page` is `edge page serve`.",
    epilog=example("edge page user add anna --role administer", "edge page"),
)
user = typer.Typer(
    **GROUP,
    help="Who may use the page. A running page knows every change at once.",
    epilog=example("edge page user add anna --role calibrate", "edge page user list"),
)
app.add_typer(user, name="user", short_help="Who may use the page.")
ROOT = root_option()
NAME = typer.Argument(..., help="Letters, digits, . _ - (at most 32).", metavar="NAME")


@app.command(short_help="Serve browsers until stopped.", epilog=example("edge page serve"))
def serve(root: Path = ROOT) -> None:
    """Serve browsers for the `edge run` of the same root, until stopped.

    Address, certificate and wall view are set in [page] of etc/edge/station.toml.
    """
    from edge.config import read_config
    from edge.optional import optional_module
    from edge.page.vault import DATA
    from edge.station.account import acting_for

    config = read_config(root)
    for library in ("fastapi", "uvicorn"):
        optional_module(library, f"Install it: {INSTALL}")
    from edge.page.serve import serve as serve_browsers

    with acting_for(root, DATA):
        serve_browsers(root, config)


@user.command(
    short_help="Make a user.",
    epilog=example(
        "edge page user add anna --role administer",
        "edge page user add tom",
        "edge page user add prometheus --token",
    ),
)
def add(
    name: str = NAME,
    role: str = typer.Option(
        "look",
        help="look: see everything, mark parts; calibrate: also calibrate; administer: also choose"
        " what judges.",
        metavar="ROLE",
    ),
    token: bool = typer.Option(
        False, "--token", help="A program, which logs in with a token and may only read."
    ),
    root: Path = ROOT,
) -> None:
    """Make a user, and print the code of the first login: it is good for a day, and is used to
    choose a password. It is shown only here.
    """
    from edge.errors import ConfigError
    from edge.page.roles import Role

    if role not in [one.value for one in Role]:
        raise ConfigError(f"--role {role!a}: there are {', '.join(one.value for one in Role)}")
    if token and role != Role.LOOK.value:
        raise ConfigError("--token: a program may only look, leave --role out")
    with _users(root) as users:
        secret = users.add_program(name) if token else users.add(name, Role(role))
    _print_secret(name, "token" if token else "code", secret)


@user.command(
    "list", short_help="The users and their roles.", epilog=example("edge page user list")
)
def list_users(root: Path = ROOT) -> None:
    """The users: name, role, and what they log in with."""
    with _users(root) as users:
        found = users.all()
    for one in found:
        print(f"{one.name:<32}  {one.role.value:<10}  {one.secret}")
    if not found:
        print("no users: make one with `edge page user add NAME --role administer`")


@user.command(
    short_help="Remove a user, whose sessions end.", epilog=example("edge page user remove anna")
)
def remove(name: str = NAME, root: Path = ROOT) -> None:
    """Remove a user. Sessions of the user end at once."""
    with _users(root) as users:
        users.remove(name)
    print(f"user {name} is removed")


@user.command(
    short_help="Another code, for a forgotten password.",
    epilog=example("edge page user reset anna"),
)
def reset(name: str = NAME, root: Path = ROOT) -> None:
    """Print another code of first login (another token for a program). The old password does not
    work any more, and sessions of the user end at once.
    """
    with _users(root) as users:
        secret = users.reset(name)
        found = users.find(name)
    _print_secret(name, "code" if found is None else found.secret, secret)


@contextmanager
def _users(root: Path) -> Iterator[Any]:
    """The users, with the rights of the account that the service runs as."""
    from edge.page.users import Users
    from edge.page.vault import DATA, open_vault
    from edge.station.account import acting_for

    with acting_for(root, DATA):
        vault = open_vault(root)
        try:
            yield Users(vault)
        finally:
            vault.close()


def _print_secret(name: str, kind: str, secret: str) -> None:
    print(f"user {name}: {kind} {secret}")
    if kind == "code":
        print("It is good for 24 hours and one login, at which the user chooses a password.")
    else:
        print("The program sends it as `Authorization: Bearer ...`. It is shown only here.")
