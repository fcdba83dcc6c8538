"""One MQTT client that is kept connected: when a connection ends, why, and how long until the next.

Each connection is a new one, edge/line/connection.py.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge.background import keep_running
from edge.backoff import backoff_s
from edge.errors import ConfigError
from edge.line.connection import Connection, Ears, Message
from edge.line.credentials import find_alert, read_password, tls_context
from edge.line.identity import short_id
from edge.line.remedy import (
    CLIENT_ID,
    QOS,
    RETAIN,
    TAKEN_OVER,
    Cause,
    cause_of_end,
    cause_of_error,
    cause_of_takeover,
)
from edge.sections import BrokerConfig
from edge.trouble import Trouble

log = logging.getLogger(__name__)

ALERT_S = 3.0  # for a server that closed the connection to say why
STABLE_S = 5.0  # a connection that lasted this long resets the back-off and ends the trouble
# Caps of the back-off: for what passes by itself, for what somebody has to mend.
QUICK_S, SLOW_S = 3.0, 30.0
TAKEOVER_S, TAKEOVER_LIMIT_S = 4.0, 60.0


class Link:
    """One MQTT client that is kept connected by its own thread."""

    def __init__(
        self,
        broker: BrokerConfig,
        client_id: str,
        will: Message | None,
        topics: Sequence[str] = (),
        wake: Callable[[], None] = lambda: None,
        heard: Callable[[str, bytes], None] = lambda *_: None,
        trouble: Trouble | None = None,
        ears: Ears | None = None,
    ) -> None:
        """Prepare; nothing is sent before start().

        Args:
            will: what the broker publishes when this link breaks without a goodbye.
            topics: to subscribe to. wake, heard, ears: as Connection's.
            trouble: where failures are logged; shared by the links of one broker.
        Raises: ConfigError if a file of [broker] cannot be used.
        """
        self._broker, self.client_id, self._will, self._topics = broker, client_id, will, topics
        self._readable_id, self._wake, self._heard = client_id, wake, heard
        self._ears = ears
        self._trouble = trouble or Trouble(log, f"{client_id}: connected again")
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._connection: Connection | None = None  # while it stands
        self._problem: str | None = None
        self._attempt = self._takeovers = 0
        self._is_again = False  # why the connection before ended was logged elsewhere
        self._thread = threading.Thread(target=self._loop, name=client_id, daemon=True)
        read_password(broker)
        tls_context(broker)

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    @property
    def connection(self) -> Connection | None:
        """The present connection; None while there is none."""
        found = self._connection
        return found if found is not None and found.is_up else None

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted this client and the connection stands."""
        return self.connection is not None

    @property
    def problem(self) -> str | None:
        """Why there is no connection, or why it may not last; None if nothing is wrong."""
        return self._problem

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False if it took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_connected, timeout_s)

    def note_twin(self) -> None:
        """A message of another station of this name was received.

        Not every broker gives that reason when it disconnects one of the two.
        """
        cause = cause_of_takeover(self._broker, self.client_id)
        self._takeovers, self._problem = max(1, self._takeovers), cause.sentence
        self._trouble.happened(cause.sentence, self.client_id, cause.key)
        self._tell()

    def say_goodbye(self) -> None:
        """Disconnect, so that the will is not published, and connect no more."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            connection.client.disconnect()
        self._tell()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end after say_goodbye."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._wake()

    def _loop(self) -> None:
        keep_running(log, self._run, self._stopping)

    def _run(self) -> None:
        while not self._stopping.is_set():
            cause = self._run_connection()
            self._tell()
            if not self._stopping.is_set():
                self._stopping.wait(self._delay_s(cause))

    def _run_connection(self) -> Cause:
        """One connection from CONNECT to its end; returns why that came."""
        try:
            connection = self._new_connection()
        except ConfigError as error:  # a file that was there at the start is gone
            return self._note_end(Cause(str(error), str(error)), None)
        try:
            connection.open()
            if connection.is_up:
                self._connection = connection
                level = logging.DEBUG if self._trouble.is_on or self._is_again else logging.INFO
                log.log(
                    level,
                    "%s: connected to %s:%d",
                    self.client_id,
                    self._broker.host,
                    self._broker.port,
                )
                self._tell()
                self._stay(connection)
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            connection.cause = cause_of_error(error, self._broker)
        finally:
            self._connection = None
            connection.close(grace_s=0.2 if self._stopping.is_set() else 0.0)
        cause = connection.cause or Cause("closed", "closed")
        if cause.key == "closed at once" and (alert := find_alert(self._broker, ALERT_S)):
            cause = cause_of_end(0, "", alert, False, False, self._broker, self.client_id)
        return self._note_end(cause, connection.up_at_s)

    def _new_connection(self) -> Connection:
        """One that is not open yet. Raises: ConfigError."""
        return Connection(
            self._broker,
            self.client_id,
            self._will,
            self._topics,
            self._tell,
            self._heard,
            self._ears,
            self._note_opened,
        )

    def _note_opened(self) -> None:
        """CONNECT is about to be sent, with the present will."""

    def _stay(self, connection: Connection) -> None:
        """Wait until the connection ends. The end of the trouble is logged once the connection has
        lasted for STABLE_S.

        After a takeover it has to last before there is no problem any more: the other station may
        come again.
        """
        while not connection.is_over.wait(0.1) and not self._stopping.is_set():
            connection.see_to_reader()
            quiet_s = TAKEOVER_LIMIT_S if self._takeovers else 0.0
            up_s = time.monotonic() - (connection.up_at_s or 0.0)
            if self._problem is not None and up_s >= quiet_s:
                self._takeovers, self._problem = 0, None
                self._tell()
            if up_s >= max(quiet_s, STABLE_S):
                self._trouble.ended(self.client_id)

    def _note_end(self, cause: Cause, up_at_s: float | None) -> Cause:
        if self._stopping.is_set():
            return cause
        if self._takeovers and up_at_s is not None and not cause.code:
            cause = cause_of_takeover(self._broker, self.client_id)
        self._problem, self._is_again = cause.sentence, cause.is_told
        if not cause.is_told and not self._gives_way(cause):
            self._trouble.happened(cause.sentence, self.client_id, cause.key)
        lasted = up_at_s is not None and time.monotonic() - up_at_s > STABLE_S
        self._attempt = 0 if lasted else self._attempt + 1
        self._takeovers += cause.code == TAKEN_OVER
        return cause

    def _gives_way(self, cause: Cause) -> bool:
        """Whether CONNECT was refused for something that the next CONNECT leaves out."""
        asked = self.client_id, self._will
        if cause.code == CLIENT_ID:
            self.client_id = short_id(self._readable_id)
        if self._will is not None and cause.code == RETAIN:
            self._will = replace(self._will, retain=False)
        if self._will is not None and cause.code == QOS:
            self._will = replace(self._will, qos=0)
        return asked != (self.client_id, self._will)

    def _delay_s(self, cause: Cause) -> float:
        if cause.code == TAKEN_OVER:
            limit_s = min(TAKEOVER_LIMIT_S, TAKEOVER_S * 2.0 ** min(self._takeovers, 10))
            return limit_s * random.uniform(0.5, 1.0)
        return max(
            cause.pause_s,
            backoff_s(self._attempt, random.random(), SLOW_S if cause.slow else QUICK_S),
        )


# From the topics to subscribe to, and `wake`.
LinkMaker = Callable[[tuple[str, ...], Callable[[], None]], Link]
