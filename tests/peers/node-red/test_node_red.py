"""Node-RED, as npm has it, drives a station with the flow that docs/node-red.md shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import MOSQUITTO, Broker, free_port, wait_until
from tests.support.patience import HANG_S
from tests.support.peers import node_modules
from tests.support.station import BAD, GOOD, make_station
from tests.support.triggering import PREFIX, Cell, triggered_cell

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
FLOW = HERE.parents[2] / "docs/node-red/flow.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SETTINGS = """\
module.exports = {
  flowFile: 'flows.json', uiHost: '127.0.0.1', credentialSecret: 'test',
  telemetry: { enabled: false, updateNotification: false },
  externalModules: { palette: { allowInstall: false }, modules: { allowInstall: false } },
  editorTheme: { tours: false }
}
"""
# what an integrator sets, and times that a busy machine keeps
CHANGES = {
    "edge/plant/line/cell7": PREFIX,
    "DEADLINE_MS = 1000": "DEADLINE_MS = 20000",
    "ACK_MS = 100": "ACK_MS = 20000",
    "SILENT_MS = 3000": "SILENT_MS = 20000",
}


@dataclass
class NodeRed:
    """Running. cell: the station that it drives."""

    port: int
    cell: Cell
    peer: Path

    def press(self) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/press", b"", method="POST")
        with urllib.request.urlopen(request, timeout=HANG_S) as answer:
            assert answer.status == 204

    @property
    def lamp(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/cell", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
        except OSError:  # it starts
            return {}
        return found

    def wait(self, **shows: object) -> dict[str, Any]:
        wait_until(lambda: shows.items() <= self.lamp.items(), 20, f"not {shows}: {self.lamp}")
        return self.lamp


@contextmanager
def running(peer: Path, folder: Path, broker_port: int, cell: Cell) -> Iterator[NodeRed]:
    folder.mkdir()
    flow = FLOW.read_text()
    for old, new in CHANGES.items():
        assert old in flow
        flow = flow.replace(old, new)
    nodes = json.loads(flow)
    for node in nodes:
        if node["type"] == "mqtt-broker":
            node |= {"broker": "127.0.0.1", "port": str(broker_port)}
    (folder / "flows.json").write_text(json.dumps(nodes))
    (folder / "settings.js").write_text(SETTINGS)
    port = free_port()
    words = ["node", str(peer / "node_modules/node-red/red.js"), "--userDir", str(folder)]
    words += ["--settings", str(folder / "settings.js"), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    try:
        node_red = NodeRed(port, cell, peer)
        node_red.wait(ready=True)
        assert "[error]" not in (folder / "log").read_text()
        yield node_red
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


@pytest.fixture(scope="module")
def node_red(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeRed]:
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    peer, folder = node_modules("node-red").parent, tmp_path_factory.mktemp("node-red")
    station = make_station(folder / "station")
    with (
        Broker(folder / "broker", "set_tcp_nodelay true\n") as broker,
        triggered_cell(station, broker.port) as cell,
        running(peer, folder / "user", broker.port, cell) as made,
    ):
        yield made


def test_the_button_triggers_and_the_lamp_shows_the_verdict(node_red: NodeRed) -> None:
    before = node_red.wait(ready=True, settle=0)
    node_red.cell.show(BAD)
    node_red.press()
    shown = node_red.wait(lamp="ng", ng=before["ng"] + 1, open=None)
    part = f"R{shown['n']}"
    assert shown["text"].startswith(f"{part}: anomaly, ")
    assert node_red.cell.plc.verdict(part)["n"] == shown["n"]
    assert node_red.cell.plc.record(part)["code"] == 2


def test_a_part_that_gets_no_verdict_is_a_reject(node_red: NodeRed) -> None:
    before = node_red.wait(ready=True, settle=0)
    node_red.cell.plc.trigger("other", frames=30)  # a window of 0.6 s
    node_red.cell.plc.ack("other")
    node_red.press()
    shown = node_red.wait(lamp="none", none=before["none"] + 1, open=None)
    assert shown["text"] == f"R{shown['n']}: refused, busy"
    node_red.cell.plc.verdict("other")


def test_the_dashboard_in_a_browser(node_red: NodeRed, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    before = node_red.wait(ready=True, settle=0)
    node_red.cell.show(GOOD)
    time.sleep(0.2)
    picture = Path(os.environ.get("SCREENSHOT") or tmp_path / "panel.png")
    script = node_red.peer / "panel.mjs"  # its imports are looked for beside it
    shutil.copy(HERE / "panel.mjs", script)
    url = f"http://127.0.0.1:{node_red.port}/dashboard/cell7"
    done = subprocess.run(
        ["node", str(script), url, browser, str(picture)],
        capture_output=True, text=True, timeout=HANG_S * 3,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["lamp"], seen["ok"]) == ("OK", str(before["ok"] + 1))
    assert seen["text"].startswith(f"R{node_red.lamp['n']}: normal, ")
    assert seen["ng"] == str(before["ng"])
    assert seen["ready"] == "station ready"
    assert seen["elsewhere"] == 0  # it asks nobody but this machine
    assert picture.stat().st_size > 5_000
