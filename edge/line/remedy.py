"""Why a broker cannot be used, in one sentence with the remedy: pure functions from errors and
reason codes.

Reason codes: MQTT 5.0, section 2.4; paho translates those of MQTT 3.1.1 (section 3.2.2.3) into
them.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from edge.sections import BrokerConfig

# Verification results of X.509 certificates (openssl-verification-options(1)).
NOT_YET_VALID, EXPIRED, WRONG_HOST, WRONG_ADDRESS = 9, 10, 62, 64

SERVER_BUSY, TAKEN_OVER, CLIENT_ID, RETAIN, QOS = 0x89, 0x8E, 0x85, 0x9A, 0x9B
PACKET_TOO_LARGE = 0x95
# Not available, busy, shutting down, ... : soon over.
PASSING = (0x88, SERVER_BUSY, 0x8B, 0x8D, 0x97, 0x9F)

CONNECT_REMEDY = {
    0x84: 'set protocol = "3.1.1" in [broker], or "5" where it is "3.1.1" already',
    CLIENT_ID: "shorten site, line or station in station.toml",
    0x86: "check username and password_file in [broker]",
    0x87: "check username and password_file in [broker], and that the broker allows this user",
    0x88: "the broker is starting or out of order, look at its log",
    SERVER_BUSY: "the broker is overloaded, look at its log",
    0x8A: "the broker has banned this client, lift that in its configuration",
    0x8C: "check username and password_file in [broker]",
    PACKET_TOO_LARGE: "raise the broker's maximum packet size",
    0x9C: "set host in [broker] to the server that it names in its log",
    0x9D: "set host in [broker] to the server that it has moved to",
    0x9F: "raise the broker's limit of connections per second",
}
PUBLISH_REMEDY = {
    0x87: "allow this user to publish there, in the broker's access list",
    0x90: "allow this topic in the broker's configuration",
    PACKET_TOO_LARGE: "raise the broker's maximum packet size",
    0x97: "raise the broker's quota for this user",
    0x99: "the broker checks payloads: let it take UTF-8 JSON",
}


@dataclass(frozen=True)
class Cause:
    """Why a connection could not be made, or ended.

    key: the same for all causes of one kind. slow: it does not pass by itself, so that the station
    tries less often.
    code: the broker's reason, 0 where it gave none. pause_s: before the next try, at least.
    is_told: it was logged already.
    """

    key: str
    sentence: str
    slow: bool = False
    code: int = 0
    pause_s: float = 0.0
    is_told: bool = False


def address_of(broker: BrokerConfig) -> str:
    """host:port, as sentences name the broker."""
    return f"broker {broker.host}:{broker.port}"


def cause_of_error(error: Exception, broker: BrokerConfig) -> Cause:
    """For an error of the operating system or of TLS while connecting."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what, remedy = _certificate_complaint(error, broker)
    elif isinstance(error, (ssl.SSLError, ConnectionResetError)) and broker.tls:
        what, remedy = _tls_complaint(error)
    elif isinstance(error, (socket.gaierror, UnicodeError)):
        what, remedy = "its name is not known", "check host in [broker] and this machine's DNS"
    elif isinstance(error, ConnectionRefusedError):
        what, remedy = (
            "nothing listens there",
            "start the broker, or check host and port in [broker]",
        )
    elif isinstance(error, TimeoutError):
        what = "no answer" + (", or no TLS there" if broker.tls else "")
        remedy = "check the network, its firewall, and host and port in [broker]"
    else:
        text = getattr(error, "strerror", None) or str(error)
        what, remedy = (
            f"cannot be reached ({text})",
            "check the network, and host and port in [broker]",
        )
    return Cause(f"connect {what}", f"{address_of(broker)}: {what}: {remedy}")


def _certificate_complaint(
    error: ssl.SSLCertVerificationError, broker: BrokerConfig
) -> tuple[str, str]:
    if error.verify_code in (WRONG_HOST, WRONG_ADDRESS):
        return (
            f"its certificate is not for the name {broker.host}",
            (
                "set host in [broker] to a name that the certificate carries, or have one made for"
                " this name"
            ),
        )
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        word = "has expired" if error.verify_code == EXPIRED else "is not valid yet"
        return (
            f"its certificate {word}",
            "check this machine's clock, then renew the broker's certificate",
        )
    return (
        (
            "its certificate is not from an authority that this station trusts"
            f" ({error.verify_message})"
        ),
        "set ca_file in [broker] to the PEM file of the authority that signed it",
    )


def _tls_complaint(error: Exception) -> tuple[str, str]:
    text = str(error).lower()
    if "alert" in text:
        return _alert_complaint(text)
    return (
        "it does not speak TLS on this port",
        "set port in [broker] to its TLS port (often 8883), or tls = false",
    )


def _alert_complaint(text: str) -> tuple[str, str]:
    if "certificate required" in text or "handshake failure" in text:
        return "it wants a client certificate", "set cert_file and key_file in [broker]"
    if "certificate" in text or "unknown ca" in text:
        return (
            "it does not accept this station's client certificate",
            (
                "have cert_file signed by the authority that the broker trusts, and check that it"
                " has not expired"
            ),
        )
    return f"its TLS refuses ({text})", "let the broker offer TLS 1.2 or 1.3"


def cause_of_refusal(code: int, name: str, broker: BrokerConfig, client_id: str) -> Cause:
    """For a CONNACK with a failure. name: the reason in the standard's words."""
    remedy = CONNECT_REMEDY.get(code, "look at the broker's log")
    sentence = (
        f"{address_of(broker)}: it refuses this client ({client_id}): {name} (0x{code:02X}):"
        f" {remedy}"
    )
    return Cause(f"refused {code}", sentence, slow=code not in PASSING, code=code)


def cause_of_silence(broker: BrokerConfig) -> Cause:
    """The connection stands and no CONNACK comes."""
    port = "is it the right port, " if not broker.tls else ""
    what = (
        f"it accepts the connection and does not answer CONNECT: {port}does it hang? Look at its"
        " log, restart it"
    )
    return Cause("silence", f"{address_of(broker)}: {what}")


def cause_of_garbage(broker: BrokerConfig) -> Cause:
    """The MQTT library broke on what the broker sent."""
    what = (
        "it sent what is not MQTT: look at its log, and at what stands between it and this station"
    )
    return Cause("garbage", f"{address_of(broker)}: {what}")


def cause_of_end(
    code: int,
    name: str,
    log_text: str,
    was_up: bool,
    unheard: bool,
    broker: BrokerConfig,
    client_id: str,
) -> Cause:
    """For a connection that ended.

    Args:
        code, name: of the broker's DISCONNECT; 0 where it sent none.
        log_text: the last error that the MQTT library wrote to its log.
        was_up: whether the broker had accepted this client. unheard: whether messages were sent and
            the broker had returned none.
    """
    where = address_of(broker)
    if code == TAKEN_OVER:
        return cause_of_takeover(broker, client_id)
    if code:
        remedy = PUBLISH_REMEDY.get(code, CONNECT_REMEDY.get(code, "look at the broker's log"))
        return Cause(
            f"ended {code}",
            f"{where}: it ended the connection: {name} (0x{code:02X}): {remedy}",
            code=code,
        )
    if "alert" in log_text.lower():
        what, remedy = _alert_complaint(log_text.lower())
        return Cause(f"tls {what}", f"{where}: {what}: {remedy}", slow=True)
    if was_up and unheard:
        what = "it ends the connection when the station publishes"
        remedy = (
            "allow this user to publish and to read heartbeat, verdict, verdict/code, record and"
            " state"
        )
        return Cause("closed unheard", f"{where}: {what}: {remedy}, or look at its log")
    if was_up:
        what = "the connection was lost: the broker or the network ended it"
        return Cause("closed", f"{where}: {what}: look at the broker's log")
    # the library spells it so
    if "unrecognised command" in log_text.lower() or "malformed" in log_text.lower():
        remedy = "set tls = true if this is its TLS port, or check port in [broker]"
        return Cause("not mqtt", f"{where}: what answers is not MQTT: {remedy}", slow=True)
    remedy = "if this is its TLS port, set tls = true; " if not broker.tls else ""
    other = (
        'if it knows MQTT 3.1.1 only, set protocol = "3.1.1"; ' if broker.protocol == "5" else ""
    )
    what = "it closes the connection without a word before it has accepted this client"
    return Cause("closed at once", f"{where}: {what}: {remedy}{other}look at its log")


def cause_of_takeover(broker: BrokerConfig, client_id: str) -> Cause:
    """A broker disconnects the first of two clients with one identifier (MQTT 5.0, section 3.1.4);
    not every broker gives the reason.
    """
    what = f"session taken over: another station uses the name of this one (client id {client_id})"
    remedy = "give each station its own site, line and station in station.toml"
    return Cause("takeover", f"{address_of(broker)}: {what}: {remedy}", slow=True, code=TAKEN_OVER)


def refused_publication(topic: str, code: int, name: str) -> str:
    """For a PUBACK with a failure."""
    remedy = PUBLISH_REMEDY.get(code, "look at the broker's log")
    return f"the broker refuses {topic}: {name} (0x{code:02X}): {remedy}"


def refused_subscription(topic: str, code: int, name: str) -> str:
    """For a SUBACK with a failure: the station cannot see whether its messages are delivered."""
    return (
        f"the broker refuses the subscription of {topic}: {name} (0x{code:02X}): allow this user to"
        " read it, the station sees there that its own messages arrive"
    )
