"""Passwords, one-time codes and tokens: made, and compared with their hashes.

Passwords and codes are kept as scrypt hashes (RFC 7914), each with a salt of its own. A token has
256 random bits, so that a plain SHA-256 of it is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata

from edge.errors import ConfigError

COST, BLOCK, PARALLEL = 1 << 15, 8, 1  # scrypt's N, r and p: 32 MiB, about 0.1 s
MEMORY_LIMIT = 64 << 20  # bytes, for OpenSSL
PASSWORD_LENGTH = (10, 128)  # characters
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no l, i, o, 0, 1
CODE_GROUPS, CODE_GROUP = 4, 4  # 79 bits


def new_code() -> str:
    """A one-time code that can be read aloud: four groups of four."""
    groups = (
        "".join(secrets.choice(ALPHABET) for _ in range(CODE_GROUP)) for _ in range(CODE_GROUPS)
    )
    return "-".join(groups)


def new_token() -> str:
    """A secret for a program."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """As it is kept: 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def require_password(name: str, password: str) -> None:
    """Raises: ConfigError if this cannot be the password of the user `name`."""
    low, high = PASSWORD_LENGTH
    if not low <= len(password) <= high or not password.isprintable():
        raise ConfigError(f"a password has {low} to {high} characters on one line: choose another")
    if name.lower() in password.lower() or len(set(password)) < 4:
        raise ConfigError(
            "a password has at least four different characters and not the user's name in it:"
            " choose another"
        )


def hash_of(secret: str, salt: bytes) -> bytes:
    """scrypt of a password or code; 32 bytes. What is too long to be one is cut first."""
    plain = unicodedata.normalize("NFKC", secret[: PASSWORD_LENGTH[1]]).encode()
    return hashlib.scrypt(
        plain, salt=salt, n=COST, r=BLOCK, p=PARALLEL, maxmem=MEMORY_LIMIT, dklen=32
    )


def is_same(secret: str, salt: bytes, known: bytes) -> bool:
    """Whether this is the secret of that hash. Takes the same time for every answer."""
    return hmac.compare_digest(hash_of(secret, salt), known)


def new_salt() -> bytes:
    """16 random bytes."""
    return secrets.token_bytes(16)
