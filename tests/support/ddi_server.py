"""A small server that answers as hawkBit's DDI API is documented, and lies where a test says so.
A stand-in for hawkBit itself, which needs Java; tests/edge/update/test_fleet.py has a real server.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.pki import server_context

PREFIX = "/DEFAULT/controller/v1/"


class DdiServer:
    """One order for one station.

    file: what is downloaded. told: (path, body) of each PUT and POST. asked: (path, headers).
    lie: changes an answer, by its path below the station. shown: the base of the links, as a proxy
    may have changed it. cut_after: bytes after which a download breaks off once.
    """

    def __init__(self, base: str) -> None:
        """base: its own address."""
        self.address = f"{base}/DEFAULT"
        self.shown = self.address.removesuffix("/DEFAULT")
        self.file, self.name, self.version = b"", "washer-2.0.0.bundle", "2.0.0"
        self.token, self.window, self.download = "", "available", "forced"
        self.links = {"deploymentBase": "deploymentBase/7?c=123"}
        self.hashes: dict[str, str] | None = None
        self.size: int | None = None
        self.artifacts = 1
        self.file_link: str | None = None
        self.told: list[tuple[str, Any]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.status: dict[str, int] = {}
        self.cut_after: int | None = None

    def answer(self, path: str) -> Any:
        """By the path below the station's own."""
        if path == "":
            return {
                "config": {"polling": {"sleep": "00:05:00"}},
                "_links": {name: {"href": self.link(to)} for name, to in self.links.items()},
            }
        if path.startswith("cancelAction/"):
            return {"id": "9", "cancelAction": {"stopId": "7"}}
        hashes = self.hashes
        if hashes is None:
            hashes = {kind: hashlib.new(kind, self.file).hexdigest() for kind in ("sha1", "sha256")}
        artifact = {
            "filename": self.name,
            "hashes": hashes,
            "size": len(self.file) if self.size is None else self.size,
            "_links": {
                "download-http": {"href": self.file_link or self.link("softwaremodules/1/f")}
            },
        }
        chunk = {"part": "bApp", "name": "washer", "version": self.version}
        return {
            "id": "7",
            "deployment": {
                "download": self.download,
                "update": self.download,
                "maintenanceWindow": self.window,
                "chunks": [{**chunk, "artifacts": [artifact] * self.artifacts}],
            },
        }

    def link(self, path: str) -> str:
        return f"{self.shown}{PREFIX}plant:l1:s1/{path}"

    def closed(self) -> list[tuple[str, list[str]]]:
        """(result, details) of every order that was closed."""
        said = [body["status"] for path, body in self.told if path.startswith("deploymentBase")]
        return [
            (one["result"]["finished"], one["details"])
            for one in said
            if one["execution"] == "closed"
        ]


@contextmanager
def ddi_server(certificate: tuple[Path, Path] | None = None) -> Iterator[DdiServer]:
    """It answers until the body ends. certificate: PEM files of certificate and key, for https."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            made.asked.append((self.path, dict(self.headers)))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = re.sub(r".*/plant(:|%3A)l1(:|%3A)s1/?", "", self.path).partition("?")[0]
            code = made.status.get(path, 200)
            if (
                made.token
                and self.headers.get("Authorization") != made.token
                and "other" not in path
            ):
                code = 401
            if code != 200:
                self._write(code, b"{}")
            elif self.command != "GET":
                made.told.append((path, json.loads(body)))
                if path == "configData":
                    made.links.pop("configData", None)
                if path.startswith("cancelAction"):
                    made.links = {}
                self._write(200, b"{}")
            elif path.startswith("softwaremodules") or path.endswith("other.bundle"):
                self._send_file()
            else:
                data = made.answer(path)
                self._write(200, data if isinstance(data, bytes) else json.dumps(data).encode())

        def _send_file(self) -> None:
            first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            begin = int(first[1]) if first else 0
            self.send_response(206 if first else 200)
            if first:
                end = len(made.file) - 1
                self.send_header("Content-Range", f"bytes {begin}-{end}/{len(made.file)}")
            self.send_header("Content-Length", str(len(made.file) - begin))
            self.end_headers()
            cut, made.cut_after = made.cut_after, None
            self.wfile.write(made.file[begin : None if cut is None else begin + cut])
            self.close_connection = True

        def _write(self, code: int, data: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    base = f"http://127.0.0.1:{server.server_address[1]}"
    if certificate is not None:
        server.socket = server_context(certificate).wrap_socket(server.socket, server_side=True)
        base = f"https://localhost:{server.server_address[1]}"
    made = DdiServer(base)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
