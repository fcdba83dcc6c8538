"""The link of a Sparkplug edge node: every CONNECT carries a last will with the next bdSeq.

Sparkplug 3.0.0, section 5.4: bdSeq begins at 0, rises by one with every CONNECT packet, and is 0
again after 255. The newest number is kept in a file, so that a last will that comes late, after a
restart of the process, is not taken for the death of the session that has begun since.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import ConfigError
from edge.files import read_text, sentence_of, write_atomically
from edge.line.connection import Connection, Message
from edge.line.link import Link
from edge.line.remedy import CLIENT_ID, Cause
from edge.trouble import Trouble

log = logging.getLogger(__name__)

FILE_NAME, FILE_LIMIT_BYTES = "sparkplug.bdseq", 64
NUMBERS = 256
DISCONNECT_WITH_WILL = 0x04  # MQTT 5.0, section 3.14.2.1
FLUSH_S = 0.5


class BirthNumbers:
    """bdSeq: which number the next CONNECT has, and that it has been used."""

    def __init__(self, path: Path) -> None:
        """path: of the file that keeps the newest number."""
        self._path = path
        self._trouble = Trouble(log, f"{path} can be written again")
        self._used = _read(path)

    @property
    def next(self) -> int:
        """The number for the next CONNECT."""
        return 0 if self._used is None else (self._used + 1) % NUMBERS

    def use(self, number: int) -> None:
        """A CONNECT with this number is about to be sent. If the disk does not take the number, it
        is used again after a restart of the process.
        """
        self._used = number
        try:
            write_atomically(self._path, f"{number}\n".encode())
        except OSError as error:
            self._trouble.happened(sentence_of(error, self._path))
        else:
            self._trouble.ended()


def _read(path: Path) -> int | None:
    if not path.exists():
        return None
    try:
        number = int(read_text(path, limit=FILE_LIMIT_BYTES))
    except (ConfigError, ValueError) as error:
        log.warning("%s is damaged, bdSeq begins at 0 again: %s", path, error)
        return None
    return number % NUMBERS


class NodeLink(Link):
    """A link whose will differs from connection to connection, and that says goodbye as Sparkplug
    demands.
    """

    def __init__(
        self, will: Callable[[int], Message], numbers: BirthNumbers, begins: Callable[[], None],
        *link: Any, **more: Any,
    ) -> None:  # fmt: skip
        """will: NDEATH with that bdSeq. begins: called before each try to connect. link, more: as
        Link's arguments, without the will.
        """
        broker, client_id, *others = link
        super().__init__(broker, client_id, None, *others, **more)
        self._new_will, self._numbers, self._begins = will, numbers, begins
        self._number = 0
        self._newest: Connection | None = None

    def number_of(self, connection: Connection) -> int | None:
        """The bdSeq in the will of this connection; None if another one has begun since."""
        number = self._number
        return number if connection is self._newest else None

    def restart(self, connection: Connection, cause: Cause) -> None:
        """End this connection with DISCONNECT, for this cause, and begin another."""
        connection.cause = cause
        self._disconnect(connection)
        connection.is_over.wait(FLUSH_S)
        connection.abort(cause)

    def say_goodbye(self) -> None:
        """Disconnect and connect no more."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            self._disconnect(connection)
        self._tell()

    def _disconnect(self, connection: Connection) -> None:
        """In MQTT 5 the broker publishes the will, as Sparkplug demands there."""
        reason = None
        if connection.gives_reasons:
            reason = ReasonCode(PacketTypes.DISCONNECT, identifier=DISCONNECT_WITH_WILL)
        connection.client.disconnect(reason)

    def _new_connection(self) -> Connection:
        self._begins()
        self._number = self._numbers.next
        self._will = self._new_will(self._number)
        self._newest = super()._new_connection()
        return self._newest

    def _note_opened(self) -> None:
        self._numbers.use(self._number)

    def _gives_way(self, cause: Cause) -> bool:
        """The will stays as the specification wants it."""
        return cause.code == CLIENT_ID and super()._gives_way(cause)


def now_ms() -> int:
    """UTC, milliseconds since 1970, by this machine's clock."""
    return int(time.time() * 1000)
