"""The request to root for a package: a file whose being there lets edge-package-update.path start
edge-package-update.service.

    run/edge/package-update

Its folder belongs to the station's account, which may lay anything there, at any moment. So
whoever leaves or takes the request, root too, does it with that account's rights, follows no link,
opens nothing that is there already, and walks through no folder.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from edge.errors import StorageError
from edge.files import sentence_of
from edge.runtime.status_file import make_place
from edge.station.store import Store

REQUEST = Path("run/edge/package-update")
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def leave_request(store: Store) -> None:
    """Ask for edge-package-update.service. Raises: StorageError."""
    path = store.root / REQUEST
    make_place(store)
    try:
        with store.inside(REQUEST.parent), suppress(FileExistsError):  # it is asked for already
            os.close(os.open(path, NEW, 0o644))
    except OSError as error:
        raise StorageError(f"cannot ask for the package: {sentence_of(error, path)}") from error


def take_request(store: Store) -> None:
    """Remove the request, so that it starts nothing again; a folder in its place is put aside, as
    it may be as deep and as large as somebody likes.

    Raises: StorageError.
    """
    path = store.root / REQUEST
    try:
        with store.inside(REQUEST.parent):
            try:
                path.unlink(missing_ok=True)
            except IsADirectoryError:
                path.rename(path.with_name(f".{path.name}.{secrets.token_hex(8)}"))
    except OSError as error:
        raise StorageError(f"the request stays: {sentence_of(error, path)}") from error
