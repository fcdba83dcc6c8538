"""The key files of a repository: NAME.key and NAME.pub as `trainer keygen` makes them, in a folder
`offline` and one `online`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle.key_files import generate_key, load_signer
from edge.errors import ConfigError
from trainer.release.roles import ROLES

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

PLACES = ("offline", "online")


def make_role_keys(folder: Path, role: str) -> list[CryptoSigner]:
    """New keys for one role, in `folder`/offline or `folder`/online, with the next free numbers.

    Raises: ConfigError if the disk does not take them.
    """
    about = ROLES[role]
    place = folder / ("offline" if about.offline else "online")
    numbers = [path.stem.removeprefix(f"{role}-") for path in place.glob(f"{role}-*.key")]
    first = 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)
    names = [f"{role}-{number}" for number in range(first, first + about.keys)]
    return [load_signer(generate_key(place / name)[0]) for name in names]


def find_signers(folders: Sequence[Path]) -> dict[str, CryptoSigner]:
    """The signers of every .key file in these folders and their `offline` and `online`, by key id.

    Raises: ConfigError if a folder holds none, or one is not a key.
    """
    signers: dict[str, CryptoSigner] = {}
    for folder in folders:
        files = sorted(path for place in (".", *PLACES) for path in (folder / place).glob("*.key"))
        if not files:
            raise ConfigError(f"--keys {folder} holds no .key file: name the folder of the keys")
        for path in files:
            signer = load_signer(path)
            signers[signer.public_key.keyid] = signer
    return signers


def chosen(
    role: str, keyids: Iterable[str], threshold: int, signers: dict[str, CryptoSigner]
) -> list[CryptoSigner]:
    """Those of `signers` that may sign for a role.

    Raises: ConfigError if there are fewer than the threshold.
    """
    found = [signers[keyid] for keyid in keyids if keyid in signers]
    if len(found) < threshold:
        raise ConfigError(
            f"{role} needs {threshold} of its keys, and --keys gives {len(found)}: name every"
            " folder or stick that holds one of them, each with a --keys of its own"
        )
    return found
