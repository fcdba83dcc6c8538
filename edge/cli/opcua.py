"""`edge opcua`: the OPC UA server, its users, and the clients that it trusts."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from edge.cli.options import root_option
from edge.usage import GROUP, example

INSTALL = "pip install 'rgbd-inspection[opcua]'"


class _ServeByDefault(TyperGroup):
    """`edge opcua` is `edge opcua serve`."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Put `serve` before arguments that name no command and do not ask for help."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["serve", *args]
        return super().parse_args(context, args)


app = typer.Typer(
    cls=_ServeByDefault,
    **GROUP,
    help="The OPC UA server, its users and the clients that it trusts. `edge opcua` is `edge opcua"
    " serve`.",
    epilog=example("edge opcua user plc --role operate", "edge opcua trust 3f9c01d2", "edge opcua"),
)
ROOT = root_option()


@app.command(short_help="Serve OPC UA clients until stopped.", epilog=example("edge opcua serve"))
def serve(root: Path = ROOT) -> None:
    """Serve OPC UA clients for the `edge run` of the same root, until stopped.

    Address, users and certificates are set in [opcua] of etc/edge/station.toml.
    """
    from edge.config import read_config
    from edge.optional import optional_module
    from edge.station.store import Store

    config, store = read_config(root), Store(root)
    optional_module("asyncua", f"Install it: {INSTALL}")
    from edge.opcua.server import serve as serve_clients

    with store.inside():
        serve_clients(root, config)


@app.command(
    short_help="Make a user, or change one.",
    epilog=example("edge opcua user plc --role operate", "edge opcua user screen", "edge opcua"
                   " user plc --remove"),
)  # fmt: skip
def user(
    name: str = typer.Argument(..., help="Letters, digits, . _ - (at most 32).", metavar="NAME"),
    role: str = typer.Option(
        "look",
        help="look: read and subscribe; operate: also trigger parts and give commands.",
        metavar="ROLE",
    ),
    remove: bool = typer.Option(False, "--remove", help="Remove the user."),
    root: Path = ROOT,
) -> None:
    """Make a user, or give one another password and role. The password is asked for, or read from
    the first line of the standard input.

    A running server knows it at once; a session that is open keeps its rights until it ends.
    """
    from edge.errors import ConfigError
    from edge.opcua.users import Role, new_user, read_users, require_name, write_users

    require_name(name)
    if role not in [one.value for one in Role]:
        raise ConfigError(f"--role {role!a}: there are {', '.join(one.value for one in Role)}")
    entry = None if remove else new_user(name, _password(name), Role(role))
    with _changing(root) as config:
        path = root / config.opcua.users_file
        users = read_users(path)
        if entry is None and users.pop(name, None) is None:
            raise ConfigError(f"{path} has no user {name}: there are {', '.join(users) or 'none'}")
        if entry is not None:
            users[name] = entry
        write_users(path, users)
    print(f"{path}: user {name} {'is removed' if entry is None else f'may {role}'}")


@app.command(
    short_help="Trust a client's certificate.",
    epilog=example("edge opcua trust 3f9c01d2", "edge opcua trust plc.der"),
)
def trust(
    certificate: str = typer.Argument(
        ...,
        help="A file in DER or PEM, or the first digits of the SHA-1 thumbprint of a client that"
        " was refused.",
        metavar="CERTIFICATE",
    ),
    root: Path = ROOT,
) -> None:
    """Let a client connect whose certificate this is. Compare the printed thumbprint with the one
    that the client shows.

    To trust it no more, remove its file from trusted/ in the folder of the certificates.
    """
    from edge.opcua.certificates import TrustList

    with _changing(root) as config:
        folder = root / config.opcua.certificates
        thumbprint = TrustList(folder).trust(certificate)
    print(f"{folder}: the client with certificate {thumbprint} is trusted")


@contextmanager
def _changing(root: Path) -> Iterator[Any]:
    """The station's configuration, with the rights of the account that the service runs as."""
    from edge.config import read_config
    from edge.station.store import Store

    with Store(root).inside():
        yield read_config(root)


def _password(name: str) -> str:
    """Asked twice at a terminal, else the first line of the standard input.

    Raises: ConfigError if the two differ.
    """
    from edge.errors import ConfigError

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Once more: ") != password:
        raise ConfigError("the two passwords differ: give the same command again")
    return password
