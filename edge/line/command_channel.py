"""Commands over MQTT: what is heard on `command`, and the answer on `command/answer`.

They arrive as triggers do, on the link of the verdicts (edge/line/triggers.py). A broker does not
tell who has published a message. So a command counts as authenticated if the station itself had to
prove who it is, and the broker's access list must let nobody but the PLC publish `command`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from edge.line.commands import CommandAnswer, Commanded, Unreadable, answer_payload, read_command
from edge.line.connection import Arrival, Message
from edge.line.inbound import Reply, usable_reply
from edge.line.topics import Topics
from edge.line.verdicts import VerdictChannel
from edge.trouble import Trouble

log = logging.getLogger(__name__)

ANSWER_EXPIRY_S = 60
WHO = "mqtt"


class CommandChannel:
    """Hears commands and sends their answers. `hear` is called in the library's thread."""

    def __init__(
        self,
        verdicts: VerdictChannel,
        topics: Topics,
        is_authenticated: bool,
        commanded: Callable[[Commanded], None],
    ) -> None:
        """verdicts: the channel whose link the commands use. is_authenticated: whether the station
        has shown the broker a user name or a certificate.

        commanded: is given each command, also one that cannot be read; it must not wait.
        """
        self._verdicts, self._topics = verdicts, topics
        self._is_authenticated, self._commanded = is_authenticated, commanded
        self._unread = Trouble(log, "commands can be read again")

    def hear(self, arrival: Arrival) -> None:
        """A message came on `command`."""
        if arrival.is_retained or arrival.expiry_s == 0:
            log.warning("a command that is retained or has expired is ignored")
            return
        sent = read_command(arrival.payload)
        if isinstance(sent.command, Unreadable):
            self._unread.happened(
                f"a command cannot be taken: {sent.command.why}", cause="bad request"
            )
        else:
            self._unread.ended()
        self._commanded(
            Commanded(
                sent.command,
                f"{WHO} {sent.who}".rstrip(),
                usable_reply(arrival.response_topic, arrival.correlation, self._topics.prefix),
                self._is_authenticated,
                arrival.is_dup,
            )
        )

    def answer(self, answer: CommandAnswer, reply: Reply) -> None:
        """`command/answer`, and the same to the response topic; once, if there is a connection."""
        connection = self._verdicts.link.connection
        if connection is None:
            return
        message = Message(
            self._topics("command/answer"), answer_payload(answer), correlation=reply.correlation
        )
        for one in (message, *([replace(message, topic=reply.topic)] if reply.topic else [])):
            connection.publish(one, expiry_s=ANSWER_EXPIRY_S)
