"""A real fleet server on the loopback: goosebit (PyPI, Apache-2.0) speaks hawkBit's DDI API. It is
installed into an environment of its own, since it needs libraries of other versions than the
project.

EDGE_TEST_GOOSEBIT names an environment that has it; otherwise .venv/goosebit is made at first use.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import patience_s

VERSION = "0.2.12"
REPOSITORY = Path(__file__).resolve().parents[2]
ADMIN = {"username": "admin@example.org", "password": "secretsecret"}
SERVE = (
    "import sys, uvicorn; from goosebit import app;"
    " tls = dict(zip(('ssl_certfile', 'ssl_keyfile'), sys.argv[2:]));"
    " uvicorn.run(app, host='127.0.0.1', port=int(sys.argv[1]), log_level='warning', **tls)"
)


def find_goosebit() -> Path:
    """The environment; the test is skipped, with a sentence, where there can be none."""
    named = os.environ.get("EDGE_TEST_GOOSEBIT")
    folder = Path(named) if named else REPOSITORY / ".venv" / "goosebit"
    if (folder / "bin" / "aerich").exists():
        return folder
    if sys.version_info < (3, 11):
        pytest.skip("goosebit needs Python 3.11 or newer")
    venv.create(folder, with_pip=True, clear=True)
    words = [folder / "bin" / "pip", "install", "-q", f"goosebit=={VERSION}"]
    if subprocess.run(words, check=False).returncode != 0:
        shutil.rmtree(folder)
        pytest.skip(f"goosebit {VERSION} cannot be installed: no package index is reached")
    return folder


def write_swu(bundle: Path, folder: Path) -> Path:
    """The bundle wrapped by cpio, as docs/fleet.md says it."""
    product, _, version = bundle.stem.partition("-")
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    (folder / "sw-description").write_text(
        f'software:\n{{\n  version = "{version}";\n  edge-station = {{ hardware-compatibility:'
        f' ["default"]; files: ( {{ filename = "{bundle.name}"; type = "edge-bundle"; sha256 ='
        f' "{digest}"; }} ); }};\n}};\n'
    )
    if bundle.parent != folder:
        shutil.copy(bundle, folder)
    path = folder / f"{product}-{version}.swu"
    with path.open("wb") as out:
        subprocess.run(
            ["cpio", "-o", "-H", "crc", "--quiet"],
            input=f"sw-description\n{bundle.name}\n".encode(),
            stdout=out,
            cwd=folder,
            check=True,
        )
    return path


class Goosebit:
    """A server with its own database, which may die and come back."""

    def __init__(
        self,
        environment: Path,
        folder: Path,
        port: int,
        certificate: tuple[Path, Path] | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """certificate: PEM files of a certificate for localhost and its key, for https; ca_file:
        of the authority that signed it.
        """
        self._base = f"https://localhost:{port}" if certificate else f"http://127.0.0.1:{port}"
        self.address = f"{self._base}/DEFAULT"
        self._environment, self._folder, self._port = environment, folder, port
        self._certificate = certificate or ()
        self._trusted = ssl.create_default_context(cafile=ca_file) if certificate else None
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self._settings = {
            **os.environ,
            "GOOSEBIT_PORT": str(port),
            "GOOSEBIT_DB_URI": f"sqlite://{folder}/db.sqlite3",
            "GOOSEBIT_ARTIFACTS_DIR": f"{folder}/artifacts",
            "GOOSEBIT_SECRET_KEY": "0123456789abcdef0123456789abcdef",
        }
        self._settings.pop("PYTHONPATH", None)

    def prepare(self, more: dict[str, str] | None = None) -> None:
        """Make its database. more: settings."""
        self._settings |= more or {}
        python = self._environment / "bin" / "python"
        where = "import goosebit, pathlib; print(pathlib.Path(goosebit.__file__).parent)"
        package = subprocess.check_output(
            [python, "-c", where], env=self._settings, text=True, cwd=self._folder
        ).strip()
        (self._folder / "pyproject.toml").write_text(
            f'[tool.aerich]\ntortoise_orm = "goosebit.db.config.TORTOISE_CONF"\nlocation ='
            f' "{package}/db/migrations"\nsrc_folder = "./."\n'
        )
        words = [self._environment / "bin" / "aerich", "upgrade"]
        subprocess.run(
            words, cwd=self._folder, env=self._settings, check=True, stdout=subprocess.DEVNULL
        )

    def start(self) -> None:
        """Start it, and log in; the first time also make the administrator."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._environment / "bin" / "python", "-c", SERVE, str(self._port)),
                    *self._certificate,
                ],
                cwd=self._folder,
                env=self._settings,
                stdout=log,
                stderr=log,
            )
        end_s = time.monotonic() + patience_s(90)
        while not self._answers():
            assert time.monotonic() < end_s, (self._folder / "server.log").read_text()
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            time.sleep(0.1)
        form = urllib.parse.urlencode(ADMIN).encode()
        if not self._token:
            self._ask("POST", "/setup", form, "application/x-www-form-urlencoded")
        form = urllib.parse.urlencode({**ADMIN, "grant_type": "password"}).encode()
        answer = self._ask("POST", "/login", form, "application/x-www-form-urlencoded")
        self._token = json.loads(answer)["access_token"]

    @property
    def answered(self) -> int:
        """How many requests of stations it has logged."""
        return (self._folder / "server.log").read_bytes().count(b"device=")

    def kill(self) -> None:
        """As a machine that loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def upload(self, swu: Path) -> int:
        """Returns the software's number."""
        mark = "7e3f0a6c0d5f4b1e"
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{swu.name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + swu.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        kind = f"multipart/form-data; boundary={mark}"
        return int(json.loads(self._ask("PUT", "/api/v1/software", body, kind))["id"])

    def roll_out(self, software: int, feed: str) -> int:
        """To every station of a feed; returns the rollout's number."""
        value = {"name": f"{software} to {feed}", "feed": feed, "software_id": software}
        return int(self.ask("PUT", "/api/v1/rollouts", value)["id"])

    def pause(self, rollout: int) -> None:
        self.ask("PATCH", "/api/v1/rollouts", {"ids": [rollout], "paused": True})

    def rollout(self, number: int) -> dict[str, Any]:
        found = self.ask("GET", "/api/v1/rollouts")["rollouts"]
        return next(one for one in found if one["id"] == number)

    def devices(self) -> dict[str, dict[str, Any]]:
        """Stations by id."""
        return {one["id"]: one for one in self.ask("GET", "/api/v1/devices")["devices"]}

    def change(self, stations: Iterable[str], **values: object) -> None:
        self.ask("PATCH", "/api/v1/devices", {"devices": list(stations), **values})

    def ask(self, method: str, path: str, value: object = None) -> Any:
        """The API for people and their programs."""
        data = None if value is None else json.dumps(value).encode()
        return json.loads(self._ask(method, path, data, "application/json"))

    def _ask(self, method: str, path: str, data: bytes | None, kind: str) -> bytes:
        request = urllib.request.Request(self._base + path, data, method=method)
        request.add_header("Content-Type", kind)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(
            request, timeout=patience_s(30), context=self._trusted
        ) as answer:
            return bytes(answer.read())

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/login", timeout=5, context=self._trusted):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


def kill_and_start(server: Goosebit, stop: threading.Event, chance: random.Random) -> None:
    """Each time after it has answered a few stations, however fast this machine is."""
    while not stop.is_set():
        enough = server.answered + chance.randint(1, 8)
        while server.answered < enough and not stop.wait(0.02):
            pass
        server.kill()
        server.start()
