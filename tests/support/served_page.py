"""The page of a root, served by uvicorn in a thread, and a client with a browser's habits."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from edge.page.roles import Role
from edge.page.serve import make_server
from edge.page.sessions import Sessions
from edge.page.tls import Certificate
from edge.page.users import Users
from edge.page.vault import open_vault
from tests.support.patience import patience_s

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def place(self) -> str:
        """Where it leads."""
        return self.headers["location"] or ""


@dataclass
class Client:
    """Keeps cookies and sends what a browser sends, unless a test says otherwise."""

    port: int
    host: str = ""
    tls: ssl.SSLContext | None = None
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http{'s' if self.tls else ''}://{self.named}"

    @property
    def named(self) -> str:
        return self.host or f"127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, headers={"accept": "text/html", **headers})

    def api(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, headers={"accept": "application/json", **headers})

    def post(self, path: str, /, **form: str) -> Answer:
        headers = {
            "accept": "text/html",
            "content-type": "application/x-www-form-urlencoded",
            "origin": self.origin,
            "sec-fetch-site": "same-origin",
        }
        return self.send("POST", path, urlencode(form).encode(), headers)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        known = {"host": self.named}
        if self.cookies:
            known["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience_s(5))
            if self.tls is None
            else http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=patience_s(5), context=self.tls
            )
        )
        try:
            said = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {**known, **said})
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        finally:
            connection.close()
        self._keep(answer)
        return answer

    def log_in(self, name: str, secret: str = PASSWORD) -> Answer:
        return self.post("/login", name=name, secret=secret, next="/")

    def _keep(self, answer: Answer) -> None:
        for line in answer.headers.get_all("set-cookie") or ():
            name, value = re.match(r'([^=]+)="?([^;"]*)', line).groups()  # type: ignore[union-attr]
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)


@contextmanager
def served_page(root: Path, certificate: Certificate | None = None) -> Iterator[int]:
    """The port at which the page of `root` is served."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = make_server(root, certificate)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        end_s = time.monotonic() + patience_s(10)
        while not server.started and thread.is_alive() and time.monotonic() < end_s:
            time.sleep(0.01)
        assert server.started
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(patience_s(10))
        listener.close()


def write_page_config(root: Path, page: str = "", more: str = "", tls: bool = False) -> None:
    """station.toml with a page at an address of this machine."""
    path = root / "etc/edge/station.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = '[station]\nsite = "plant"\nline = "hall2"\nstation = "cell7"\n'
    path.write_text(f"{names}[page]\nenabled = true\ntls = {str(tls).lower()}\n{page}\n{more}")


@contextmanager
def users_of(root: Path) -> Iterator[Users]:
    """As another process has them, such as `edge page user`."""
    vault = open_vault(root)
    try:
        yield Users(vault)
    finally:
        vault.close()


def session_of(root: Path, name: str) -> str:
    """The id of a session that begins now, for the cookie."""
    vault = open_vault(root)
    try:
        return Sessions(vault).begin(name)
    finally:
        vault.close()


def add_user(root: Path, name: str, role: Role) -> None:
    """One who has chosen PASSWORD."""
    with users_of(root) as users:
        users.add(name, role)
        users.choose_password(name, PASSWORD)
