"""The account that people use on a board: its key for ssh, and what it may do."""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import ConfigError
from edge.files import read_text, write_atomically
from jetson.identity import folder_in, place_in

PASSWD = "etc/passwd"
SUDOERS = Path("etc/sudoers.d/edge-inspector")
FIRST_TARGET = Path("etc/systemd/system/default.target")
WIZARD = "nv-oem-config"  # NVIDIA's setup on a screen, which waits before ssh is there


def has_user(rootfs: Path, name: str) -> bool:
    """Whether the system under `rootfs` has this account."""
    return _entry(rootfs, name) is not None


def allow_key(rootfs: Path, name: str, key: str, without_password: bool) -> None:
    """Let whoever has the key in as this account, and no other key.

    without_password: it may use sudo without one, since nobody knows its password.
    Raises: ConfigError if there is no such account.
    """
    entry = _entry(rootfs, name)
    if entry is None:
        raise ConfigError(f"{rootfs} has no account {name}: NVIDIA's tool has not made it")
    user, group, home = int(entry[2]), int(entry[3]), entry[5].lstrip("/")
    folder = folder_in(rootfs, Path(home) / ".ssh")
    folder.chmod(0o700)
    path = place_in(rootfs, Path(home) / ".ssh" / "authorized_keys")
    write_atomically(path, f"{key}\n".encode(), mode=0o600)
    for made in (folder.parent, folder, path):
        if made.stat().st_uid != user:
            os.chown(made, user, group)
    sudoers = place_in(rootfs, SUDOERS)
    if without_password:
        write_atomically(sudoers, f"{name} ALL=(ALL) NOPASSWD: ALL\n".encode(), mode=0o440)
    else:
        sudoers.unlink(missing_ok=True)


def require_no_wizard(rootfs: Path) -> None:
    """Require that the system starts by itself. apply_binaries.sh has it start NVIDIA's setup, and
    the tool that makes the account undoes that; applied again, it is back.

    Raises: ConfigError naming the link.
    """
    link = rootfs / FIRST_TARGET
    if link.is_symlink() and WIZARD in str(link.readlink()):
        raise ConfigError(
            f"{link} starts NVIDIA's setup on a screen, for which the board would wait:"
            " apply_binaries.sh was run again after the account was made; remove this link"
        )


def _entry(rootfs: Path, name: str) -> list[str] | None:
    """The fields of etc/passwd, see passwd(5)."""
    path = rootfs / PASSWD
    if not path.is_file():
        return None
    entries = (line.split(":") for line in read_text(path).splitlines())
    return next((entry for entry in entries if len(entry) == 7 and entry[0] == name), None)
