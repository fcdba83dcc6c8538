"""The client's end of the socket of a running station: for `edge calibrate`, for the page."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.control.protocol import (
    DATA_LIMIT,
    SOCKET,
    STRANGE,
    BadMessage,
    Hello,
    Live,
    Message,
    Request,
    error_of,
)
from edge.control.stream import PeerGone, Stream, connected_socket
from edge.errors import ControlError

ANSWER_S = 10.0  # for an answer that waits for nothing
CROWDED = "too many others want to connect, repeat this"
FORBIDDEN = "run this as the account of `edge run` or as one of its group"
NOBODY = (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED)


@dataclass(frozen=True, eq=False)
class LivePicture:
    """What a station sees and says at this moment.

    said: `state`, `picture` (null: there is none), `verdicts` (newest last), `session` (null: no
    calibration is at work); docs/station.md says what they hold. jpeg: empty without a picture.
    """

    said: Mapping[str, Any]
    jpeg: bytes


class ControlClient:
    """A connection to a running station. For one thread."""

    def __init__(self, stream: Stream) -> None:
        """As find_station has made it."""
        self._stream = stream

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """May be called twice. A session of this client ends with it."""
        self._stream.close()

    def hello(self) -> Mapping[str, Any]:
        """`version` of the language, `pid`, `station` and what judges. Raises: ControlError."""
        return self.ask(Hello()).said

    def live(self) -> LivePicture:
        """What the station sees and says now. Raises: ControlError."""
        answer = self.ask(Live())
        return LivePicture(answer.said, bytes(answer.data))

    def ask(
        self,
        request: Request,
        pieces: Sequence[memoryview | bytes] = (),
        timeout_s: float = ANSWER_S,
    ) -> Message:
        """One request and its one answer.

        Args:
            pieces: the raw bytes that the request describes. timeout_s: until the answer begins.
        Raises: the EdgeError with which the station refuses; ControlError.
        """
        return next(self._asked(request, pieces, timeout_s))

    def ask_many(
        self,
        request: Request,
        pieces: Sequence[memoryview | bytes] = (),
        timeout_s: float = ANSWER_S,
    ) -> Iterator[Message]:
        """One request and the messages that answer it, but for the last one, which says `end`.

        The next request may be sent only after the end. Raises: as ask, each time one is awaited.
        """
        for message in self._asked(request, pieces, timeout_s):
            if message.said.get("end"):
                return
            yield message

    def _asked(
        self, request: Request, pieces: Sequence[memoryview | bytes], timeout_s: float
    ) -> Iterator[Message]:
        try:
            with contextlib.suppress(PeerGone):  # it may have said why
                self._stream.send(request.model_dump(mode="json"), pieces)
            while True:
                if not self._stream.wait(timeout_s):
                    raise ControlError(
                        f"`edge run` has not answered {request.do} within {timeout_s:g} s: see its"
                        " log"
                    )
                answer = self._stream.receive(DATA_LIMIT)
                if answer.said.get("ok") is not True:
                    raise error_of(answer.said)
                yield answer
        except (PeerGone, OSError) as gone:
            raise ControlError(
                f"`edge run` has ended, or has closed this connection ({gone}): repeat the command"
            ) from gone
        except BadMessage as bad:
            raise ControlError(f"`edge run`: {bad}: {STRANGE}") from bad


def find_station(root: Path, timeout_s: float = ANSWER_S) -> ControlClient | None:
    """A connection to the `edge run` that is at work on this root; None if there is none.

    Raises: ControlError if this account may not connect, or too many others want to.
    """
    path = root / SOCKET
    try:
        return ControlClient(Stream(connected_socket(path, timeout_s)))
    except OSError as error:
        if error.errno in NOBODY:
            return None
        remedy = CROWDED if error.errno == errno.EAGAIN else FORBIDDEN
        why = error.strerror or str(error)
        raise ControlError(f"{path} cannot be connected to ({why}): {remedy}") from error
