"""A repository behind an address: https, or http where somebody wants that; what comes is verified
either way.
"""

from __future__ import annotations

import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge.errors import ConfigError, UpdateError
from edge.files import open_plain, sentence_of
from edge.line.remedy import EXPIRED, NOT_YET_VALID, WRONG_ADDRESS, WRONG_HOST
from edge.update.reach import NotThere, Refused, TooLong, require_below

SILENCE_S = 30.0  # without a byte
SMALL_S = 60.0  # for a file that is read at once, and what a large one has beyond its bytes
SLOWEST = 16 << 10  # bytes per second of a large one
BLOCK = 1 << 18  # bytes
NOT_THERE = (403, 404, 410)  # as servers of static files say it, and fleet servers
LATER = (401, 407, 408, 425, 429)  # of 4xx: another token or another time may help
PARTIAL = 206
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")  # OpenSSL's names


class WebReach:
    """The files below an address. See edge.update.reach.Reach."""

    def __init__(self, address: str, ca_file: Path | None = None, secret: str = "") -> None:
        """address: of the folder. ca_file: PEM of the authority; None takes the system's. secret:
        value of the header Authorization, which is not repeated to where the server redirects.

        Raises: ConfigError if ca_file cannot be used.
        """
        self._base, self.where = f"{address.rstrip('/')}/", address
        self._secret = secret
        try:
            if ca_file is not None:
                os.close(open_plain(ca_file))  # OpenSSL would wait for a pipe
            context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except ssl.SSLError as error:
            raise ConfigError(
                f"update.ca_file: {ca_file} contains no certificate in PEM"
            ) from error
        except OSError as error:
            raise ConfigError(f"update.ca_file: {sentence_of(error, ca_file)}") from error
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))

    def read(self, path: str, limit: int) -> bytes:
        """As Reach.read."""
        data = bytearray()
        with self._asked(path, 0) as answer:
            for block in _blocks(answer, time.monotonic() + SMALL_S, self._base + path):
                data += block
                if len(data) > limit:
                    raise TooLong(f"{self._base}{path} has more than {limit} bytes")
        return bytes(data)

    def send(self, path: str, method: str, data: bytes) -> None:
        """Send a JSON text to an address below this one; what is answered to it does not matter.

        Raises: NotThere, Refused, UpdateError.
        """
        with self._asked(path, 0, method, data):
            pass

    def copy(self, path: str, target: Path, size: int) -> None:
        """As Reach.copy."""
        there = target.stat().st_size if target.exists() else 0
        if there == size:
            return
        if there > size:
            there = 0
        with self._asked(path, there) as answer:
            goes_on = answer.status == PARTIAL and _first_byte(answer) == there
            with target.open("ab" if goes_on else "wb") as file:
                got = there if goes_on else 0
                self._copy(answer, file, path, size, got)

    def _copy(
        self, answer: http.client.HTTPResponse, file: BinaryIO, path: str, size: int, got: int
    ) -> None:
        """got: bytes of the file that are there already."""
        ends_s = time.monotonic() + SMALL_S + (size - got) / SLOWEST
        for block in _blocks(answer, ends_s, self._base + path):
            got += len(block)
            if got > size:
                raise TooLong(f"{self._base}{path} has more than the {size} bytes that it may")
            file.write(block)
        if got < size:
            raise UpdateError(
                f"{self._base}{path} ended after {got} of {size} bytes: the next check goes on"
                " from there"
            )

    @contextmanager
    def _asked(
        self, path: str, first: int, method: str = "GET", data: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request for a file, from byte `first` on where the server can do that; or
        to a JSON text.
        """
        require_below(path)
        request = urllib.request.Request(self._base + path, data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if self._secret:
            request.add_unredirected_header("Authorization", self._secret)
        request.add_header("User-Agent", "edge-update")
        if first:
            request.add_header("Range", f"bytes={first}-")
        try:
            with self._opener.open(request, timeout=SILENCE_S) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in NOT_THERE:
                raise NotThere(f"{self.where} has no {path} ({error.code})") from error
            is_final = error.code // 100 == 4 and error.code not in LATER
            kind = Refused if is_final else UpdateError
            raise kind(f"{self._base}{path}: the server answers {error.code}") from error
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError) as error:
            raise UpdateError(f"{self.where} cannot be reached: {_why(error)}") from error
        except (TimeoutError, ConnectionError) as error:
            raise UpdateError(f"{self.where} does not answer any more: {_why(error)}") from error


def _blocks(answer: http.client.HTTPResponse, ends_s: float, where: str) -> Iterator[bytes]:
    """What the server sends, as it comes.

    ends_s: on the monotonic clock. Raises: UpdateError if it takes longer.
    """
    while block := answer.read1(BLOCK):
        yield block
        if time.monotonic() > ends_s:
            raise UpdateError(f"{where} comes too slowly: tried again at the next check")


def _first_byte(answer: http.client.HTTPResponse) -> int:
    """Where a part of a file begins, -1 where the server does not say so."""
    word = (answer.getheader("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
    return int(word) if word.isdecimal() else -1


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _certificate_complaint(reason)
    if isinstance(reason, ssl.SSLError) and reason.reason:
        return _tls_complaint(reason.reason)
    return " ".join(str(reason).split()) or type(error).__name__


def _tls_complaint(code: str) -> str:
    if code in NO_TLS:
        return "it does not speak TLS there: check scheme and port of url in [update]"
    return (
        f"its TLS refuses ({code.lower().replace('_', ' ')}): let the server offer TLS 1.2 or 1.3,"
        " and ask for no client certificate"
    )


def _certificate_complaint(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (WRONG_HOST, WRONG_ADDRESS):
        return (
            "its certificate is not for this name: set url in [update] to a name that the"
            " certificate carries, or have one made for this name"
        )
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        word = "has expired" if error.verify_code == EXPIRED else "is not valid yet"
        return (
            f"its certificate {word}: check this machine's clock, then renew the server's"
            " certificate"
        )
    return (
        "its certificate is not from an authority that this station trusts"
        f" ({error.verify_message}): set ca_file in [update] to the PEM file of the authority that"
        " signed it"
    )
