"""A repository that `trainer release` made, served to a station, and what a liar makes of it."""

from __future__ import annotations

import http.server
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from edge.install.install import install_bundle
from edge.station.store import Store
from edge.station.trust import trust
from edge.update.roots import trust_root
from tests.support.pki import server_context
from tests.support.tiny_bundle import KeyPair, make_key, make_tiny_bundle
from trainer.release.acts import add, begin, set_ring

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Released:
    """A folder with a repository `updates`, its `keys`, the line's key and tiny bundles."""

    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "updates"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def line(self) -> KeyPair:
        return KeyPair(self.folder / "line.key", self.folder / "line.pub")

    @property
    def metadata(self) -> Path:
        return self.repository / "metadata"

    def copied_to(self, folder: Path) -> Released:
        shutil.copytree(self.folder, folder)
        return Released(folder)

    def release(self, version: str, ring: str = "stable", **bundle: Any) -> None:
        """Add a washer of this version, and let the ring run it."""
        path = make_tiny_bundle(self.folder, self.line, version=version, **bundle)
        add(self.repository, path, [self.line.public], [self.keys])
        set_ring(self.repository, ring, "washer", [self.keys], version)

    def station(self, root: Path, version: str | None = "1.0.0") -> Store:
        """A root that trusts the line's key and both roots, with a washer installed."""
        store = Store(root)
        trust(store, self.line.public)
        trust_root(store, self.repository / "root.json")
        trust_root(store, self.repository / "usb-root.json")
        if version is not None:
            install_bundle(self.folder / f"washer-{version}.bundle", root)
        return store

    # --- what a liar does ---

    def newest(self, role: str) -> Path:
        """The file of a role's newest version."""
        if role == "timestamp":
            return self.metadata / "timestamp.json"
        files = self.metadata.glob(f"*.{role}.json")
        return max(files, key=lambda path: int(path.name.partition(".")[0]))

    def forge(
        self,
        role: str,
        change: Callable[[Any], object],
        signed_by: tuple[str, ...] = (),
        to: Path | None = None,
    ) -> None:
        """Change what a role signed, and sign that with the keys of these names (`timestamp-1`);
        without names, its signatures stay as they were.

        to: the file to write, in place of the role's newest.
        """
        path = self.newest(role)
        metadata: Metadata[Any] = Metadata.from_file(str(path))
        change(metadata.signed)
        if signed_by:
            metadata.signatures.clear()
            files = [next(self.keys.rglob(f"{name}.key")) for name in signed_by]
            for file in files:
                metadata.sign(signer_of(file), append=True)
        (to or path).write_bytes(metadata.to_bytes())


def signer_of(file: Path) -> Any:
    from edge.bundle.key_files import load_signer

    return load_signer(file)


def ends(when: datetime) -> Callable[[Any], None]:
    """A change: valid until then."""

    def change(signed: Any) -> None:
        signed.expires = when

    return change


def make_released(folder: Path) -> Released:
    """A repository with the washers 1.0.0 and 1.1.0; ring stable runs 1.1.0."""
    folder.mkdir(parents=True, exist_ok=True)
    key = make_key(folder)
    released = Released(folder)
    begin(released.repository, released.keys)
    make_tiny_bundle(folder, key, version="1.0.0")
    released.release("1.1.0")
    return released


@dataclass
class Server:
    """A web server over a folder. answers: by the end of a path, what is answered in place of the
    file. asked: every path so far.
    """

    folder: Path
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, about: Server) -> None:
        self.about = about
        super().__init__(*arguments, directory=str(about.folder))

    def do_GET(self) -> None:
        self.about.asked.append(self.path)
        answer = next(
            (one for end, one in self.about.answers.items() if self.path.endswith(end)), None
        )
        with suppress(ConnectionError):
            super().do_GET() if answer is None else answer(self)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A server of this machine. certificate: PEM files of certificate and key, for https."""
    about = Server(folder)
    server = http.server.ThreadingHTTPServer(("localhost", 0), partial(_Handler, about=about))
    server.daemon_threads = True
    if certificate is not None:
        context = server_context(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        about.scheme = "https"
    about.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield about
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Zeros, forever, with no length."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(bytes(1 << 16))
    handler.close_connection = True


def dripping(handler: http.server.BaseHTTPRequestHandler) -> None:
    """A byte now and then, forever."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.01)
    handler.close_connection = True


def failing(code: int) -> Answer:
    """An error of HTTP."""
    return lambda handler: handler.send_error(code)


def sending(data: bytes, length: int | None = None) -> Answer:
    """Other bytes. length: that the header claims."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    return answer
