"""`edge install --to`: package, key and bundle to another machine over ssh, and what is done there.

Copying goes on where a dropped link left it, and changes nothing but a folder of the account's own.
The steps that change the station are one script over there, which comes to its end without the
link; each of them is whole or not made, and the same command again finds what is done.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.archive import open_bundle
from edge.bundle.key_files import PublicKey, read_public_key
from edge.config import require_station_name
from edge.errors import BundleError, ConfigError, RemoteError
from edge.files import open_plain, sha256_of
from edge.install.remote_script import (
    APPEND,
    ASK_SIZE,
    CLEAR,
    LAUNCH,
    PROBE,
    STEPS,
    assignments,
    with_values,
)
from edge.install.ssh import Ssh
from edge.provision.package import PACKAGE, Package, read_package

Say = Callable[[str], object]


@dataclass(frozen=True)
class Order:
    """What is wanted on the other machine.

    root: of the station over there. package: None where it has one already. trust: .pub files.
    station: its name; None: as its station.toml has it.
    """

    bundle: Path
    root: str = "/"
    package: Path | None = None
    trust: Sequence[Path] = ()
    station: str | None = None
    allow_downgrade: bool = False


@dataclass(frozen=True)
class Staged:
    """A file of this machine and its name over there, which no other content has."""

    path: Path
    sha256: str
    name: str

    @classmethod
    def of(cls, path: Path, name: str = "") -> Staged:
        """name: where another is better than the file's own."""
        digest = sha256_of(path)
        own = f"{digest[:16]}-{re.sub(r'[^A-Za-z0-9._+~-]', '_', path.name)}"
        return cls(path, digest, name or own)


@dataclass(frozen=True)
class Machine:
    """What the other machine says of itself.

    becomes_root: by what words; None: not at all. python: version of its package python3, version:
    of its edge-station, blank where it has none. takes: whether the package that was named is
    newer, or the first.
    """

    user: str
    becomes_root: str | None
    processor: str
    python: str
    has_edge: bool
    version: str
    takes: bool


def install_remotely(ssh: Ssh, order: Order, say: Say, dry_run: bool = False) -> int:
    """Carry out the order on the machine that `ssh` reaches; returns the exit code of its steps.

    dry_run: look at both machines, say what would be done, and change nothing.
    Raises: ConfigError if the order contradicts itself or that machine, BundleError if the bundle
        is not signed by a key of the order, RemoteError if the link fails.
    """
    _check_order(ssh, order)
    keys = [read_public_key(path) for path in order.trust]
    _check_bundle(order.bundle, keys, say)
    package = None if order.package is None else read_package(order.package)
    machine = _machine(ssh, "" if package is None else package.version)
    say(
        f"{ssh.host}: {machine.processor}, account {machine.user},"
        f" {PACKAGE} {machine.version or 'not installed'}"
    )
    if package is not None:
        _check_package(ssh, machine, package, say)
    _require_able(ssh, machine, order)
    taken = [order.package] if order.package is not None and machine.takes else []
    if dry_run:
        files = ", ".join(path.name for path in (*taken, order.bundle, *order.trust))
        say(f"would copy {files} and install under {order.root} of {ssh.host}; nothing is changed")
        return 0
    staged = [Staged.of(path) for path in (*taken, order.bundle)]
    staged += [
        Staged.of(path, f"{key.keyid}.pub") for path, key in zip(order.trust, keys, strict=True)
    ]
    for file in staged:
        _copy(ssh, file, say)
    names = {
        "package": staged[0].name if taken else "",
        "bundle": staged[len(taken)].name,
        "keys": " ".join(file.name for file in staged[len(taken) + 1 :]),
    }
    return _carry_out(ssh, machine, order, names, say)


def _check_order(ssh: Ssh, order: Order) -> None:
    """What can be told without looking at anything."""
    if not order.root.startswith("/"):
        raise ConfigError(f"--root {order.root} is a folder of {ssh.host}: write it from / on")
    if order.station is not None:
        require_station_name(order.station)


def _check_bundle(bundle: Path, keys: Sequence[PublicKey], say: Say) -> None:
    """Where keys are given, one of them must have signed it; else the other machine decides."""
    if not keys:
        if not bundle.is_file():
            raise BundleError(f"{bundle} is no file: give the .bundle file of `trainer export`")
        return
    with open_bundle(bundle, keys) as opened:
        opened.check_members()
        say(
            f"{bundle.name}: {opened.manifest.product} {opened.manifest.version}, signed by key"
            f" {opened.key.keyid}"
        )


def _machine(ssh: Ssh, wanted: str) -> Machine:
    told = ssh.ask(assignments({"wanted": wanted}) + PROBE)
    facts = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    try:
        return Machine(
            user=facts["user"],
            becomes_root={"yes": "", "sudo": "sudo -n"}.get(facts["root"]),
            processor=facts["processor"],
            python=facts["python"],
            has_edge=bool(facts["edge"]),
            version=facts["version"],
            takes=facts["newer"] == "yes",
        )
    except KeyError as error:
        raise RemoteError(
            f"{ssh.host} does not answer what a Debian or Ubuntu system answers (no {error}): see"
            " that its login prints nothing and starts a shell"
        ) from error


def _check_package(ssh: Ssh, machine: Machine, package: Package, say: Say) -> None:
    package.require_fits(ssh.host, machine.processor, machine.python)
    if not machine.takes:
        say(f"{ssh.host} has {PACKAGE} {machine.version} already, {package.version} is not newer")


def _require_able(ssh: Ssh, machine: Machine, order: Order) -> None:
    if machine.becomes_root is None:
        raise RemoteError(
            f"{machine.user} may not become root on {ssh.host} without a password: use an account"
            f" that may, or allow it there: echo '{machine.user} ALL=(ALL) NOPASSWD: ALL' | sudo"
            f" tee /etc/sudoers.d/{machine.user}"
        )
    if not machine.has_edge and order.package is None:
        raise ConfigError(f"{ssh.host} has no {PACKAGE}: give its .deb with --package")


def _copy(ssh: Ssh, file: Staged, say: Say) -> None:
    """Bring a file over. What an earlier attempt brought is not sent again.

    Raises: RemoteError if the link fails, or what arrived is not what was sent.
    """
    size = file.path.stat().st_size
    there = _last_line(ssh.ask(with_values(ASK_SIZE, name=file.name)))
    if there == "whole":
        say(f"{file.path.name} is there already")
        return
    begin, began_s = min(int(there), size), time.monotonic()
    say(f"copying {file.path.name}: {size / 1e6:.1f} MB")
    with os.fdopen(open_plain(file.path), "rb") as data:
        data.seek(begin)
        about = {"name": file.name, "size": str(size), "sha256": file.sha256}
        arrived = _last_line(ssh.ask(with_values(APPEND, **about), data))
    if arrived != "whole":
        raise RemoteError(
            f"{file.path.name} did not arrive whole on {ssh.host} (it is {arrived}): give the same"
            " command again"
        )
    before = f", {begin / 1e6:.1f} MB were there" if begin else ""
    say(
        f"copied {file.path.name}: {(size - begin) / 1e6:.1f} MB in"
        f" {time.monotonic() - began_s:.1f} s{before}"
    )


def _last_line(printed: str) -> str:
    """The answer; a login may print lines of its own before it."""
    return printed.splitlines()[-1]


def _carry_out(ssh: Ssh, machine: Machine, order: Order, names: dict[str, str], say: Say) -> int:
    """Run the steps over there and show what they print; returns their exit code."""
    run = f"{secrets.token_hex(4)}.sh"
    wanted = {
        **names,
        "root": order.root,
        "station": order.station or "",
        "more": "--allow-downgrade" if order.allow_downgrade else "",
    }
    steps = assignments(wanted) + STEPS
    launch = with_values(LAUNCH, run=run, steps=steps, sudo=machine.becomes_root or "")
    try:
        code = ssh.show(launch, say)
    except RemoteError as error:
        raise RemoteError(f"{error}; what was begun comes to its end there by itself") from error
    if code == 0:
        ssh.ask(with_values(CLEAR, run=run, **names))
        say(f"{ssh.host} is ready")
    else:
        say(f"{ssh.host} stopped at the step above; the files stay there for the next attempt")
    return code
