"""Who may use the OPC UA server: names, roles and password hashes in one file.

Passwords are kept as scrypt hashes (RFC 7914), each with a salt of its own. The file is read at
every log-in, so that a change holds at once for those who log in afterwards.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import stat
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edge.errors import ConfigError
from edge.files import is_there, make_folder, read_text, write_atomically

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}"
PASSWORD_LENGTH = (8, 128)  # characters
SIZE_LIMIT = 256 << 10  # bytes of the file
COST, BLOCK, PARALLEL = 1 << 14, 8, 1  # scrypt's N, r and p: 16 MiB
MODE, FOLDER_MODE = 0o600, 0o700


class Role(str, Enum):
    """What a user may do."""

    LOOK = "look"  # read and subscribe
    OPERATE = "operate"  # also trigger parts and give commands


class User(BaseModel):
    """One entry of the file. salt, hash: hexadecimal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")


USERS = TypeAdapter(dict[str, User])


def read_users(path: Path) -> dict[str, User]:
    """The users by name; none if there is no file yet.

    Raises: ConfigError if the file is damaged, or other accounts can read or change it.
    """
    if not is_there(path):
        return {}
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path}: other accounts can read or change it: chmod 600 it")
    try:
        return USERS.validate_json(read_text(path, limit=SIZE_LIMIT))
    except ValidationError as error:
        raise ConfigError(
            f"{path} is damaged: remove it and make the users again with `edge opcua user NAME`"
        ) from error


def write_users(path: Path, users: Mapping[str, User]) -> None:
    """Replace the file, readable for its owner alone. Raises: OSError."""
    make_folder(path.parent, FOLDER_MODE)
    entries = {name: user.model_dump(mode="json") for name, user in sorted(users.items())}
    write_atomically(path, (json.dumps(entries, indent=1) + "\n").encode("ascii"), MODE)


def new_user(name: str, password: str, role: Role) -> User:
    """An entry for this password. Raises: ConfigError if the name or the password cannot be one."""
    require_name(name)
    low, high = PASSWORD_LENGTH
    if not low <= len(password) <= high or not password.isprintable():
        raise ConfigError(
            f"the password of {name} must have {low} to {high} characters on one line: choose"
            " another"
        )
    salt = secrets.token_bytes(16)
    return User(role=role, salt=salt.hex(), hash=_hash(password, salt).hex())


def require_name(name: str) -> None:
    """Raises: ConfigError if nobody may be called so."""
    if re.fullmatch(NAME, name) is None:
        raise ConfigError(
            f"{name!a} cannot be a user's name: letters, digits, . _ - (at most 32, a letter"
            " or digit first)"
        )


def role_for(users: Mapping[str, User], name: str, password: str) -> Role | None:
    """The role of whoever knows this password; None if name or password is wrong.

    Takes as long for a name that does not exist.
    """
    user = users.get(name)
    salt = secrets.token_bytes(16) if user is None else bytes.fromhex(user.salt)
    given = _hash(password[: PASSWORD_LENGTH[1]], salt)
    if user is None or not hmac.compare_digest(given, bytes.fromhex(user.hash)):
        return None
    return user.role


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=PARALLEL, dklen=32)
