"""A station that takes commands, its camera, and a PLC that sends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config import EdgeConfig
from edge.install.install import install_bundle
from edge.runtime.plan import RunPlan
from edge.sections import CommandsConfig
from edge.station.audit import AuditRow, read_audit
from edge.types import Geometry
from tests.support.broker import wait_until
from tests.support.service import new_service, running
from tests.support.station import EMPTY, HEIGHT, INTRINSICS, SERIAL, WIDTH, StationRoot, write_belt
from tests.support.tiny_bundle import PLANE, make_tiny_bundle
from tests.support.triggering import FPS, Cell, LiveCamera, TriggerPlc

USERNAME = "s1"


class CountedCamera(LiveCamera):
    """may_open: whether it can be opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.closed = 0

    def open(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed += 1


@dataclass
class CommandCell(Cell):
    """A station that takes commands, at work."""

    camera: CountedCamera
    root: Path

    def send(self, do: str, **more: Any) -> None:
        properties = {key: more.pop(key) for key in list(more) if key[0].isupper()}
        self.plc.publish(json.dumps({"do": do, **more}).encode(), to="command", **properties)

    def answers(self, name: str) -> list[dict[str, Any]]:
        """To the command with this id."""
        return [one.json for one in self.plc.of("command/answer") if one.json["id"] == name]

    def answer(self, name: str, count: int = 1) -> dict[str, Any]:
        wait_until(lambda: len(self.answers(name)) >= count, 20, f"no answer to {name}")
        return self.answers(name)[count - 1]

    def ask(self, do: str, name: str, **more: Any) -> dict[str, Any]:
        """Send it under this id, and wait for the answer."""
        self.send(do, id=name, **more)
        return self.answer(name)

    def rows(self, name: str) -> list[AuditRow]:
        """Of the command with this id, in the audit table."""
        return [
            row
            for row in read_audit(self.root)
            if row.act == "command" and row.detail.get("id") == name
        ]

    @property
    def judging(self) -> str:
        work = self.service.at_work
        assert work is not None
        return work.current.get().bundle


def make_products(made: StationRoot, folder: Path) -> StationRoot:
    """washer 1.0.0, screw 1.0.0 and then washer 2.0.0, which is current, with their planes."""
    station = made.copied_to(folder)
    for product, version in (("screw", "1.0.0"), ("washer", "2.0.0")):
        bundle = make_tiny_bundle(folder, station.key, product, version, height=HEIGHT, width=WIDTH)
        install_bundle(bundle, station.root)
    station.store.save_geometry(
        "screw", SERIAL, Geometry(PLANE, 0, 0), INTRINSICS, frames=30, who="test"
    )
    return station


def configured(station: StationRoot, port: int, protocol: str, mode: str) -> EdgeConfig:
    """station.toml plays files, for `edge calibrate`; the station itself has a live camera."""
    write_belt(station.root / "empty", [EMPTY] * 30)
    write_belt(station.root / "belt", [EMPTY] * 2)
    more = f'empty = "empty"\nfps = {FPS}\n[decision]\nmode = "{mode}"\nmax_frames = 9999\n'
    config = station.configure("folder", Path("belt"), port, more)
    camera = config.camera.model_copy(update={"kind": "realsense", "path": ""})
    broker = config.broker.model_copy(update={"protocol": protocol, "username": USERNAME})
    commands = CommandsConfig(enabled=True)
    return config.model_copy(update={"camera": camera, "broker": broker, "commands": commands})


@contextmanager
def command_cell(
    station: StationRoot, port: int, config: EdgeConfig, **parts: Any
) -> Iterator[CommandCell]:
    """parts: of the service, as new_service takes them."""
    camera, plc = CountedCamera(), TriggerPlc(port, config.broker.protocol)
    service = new_service(
        station, [], plan=RunPlan(), config=config, make_camera=lambda _: camera, **parts
    )
    try:
        with running(service):
            wait_until(
                lambda: service.at_work is not None and service.health.is_ready,
                20,
                "the station is not ready",
            )
            yield CommandCell(camera, plc, service, station.root)
    finally:
        plc.stop()


def settled(cell: CommandCell) -> None:
    """Ready, with nothing in view."""
    cell.camera.show = EMPTY
    wait_until(lambda: cell.state["ready"] and not cell.state["busy"], 10, "not ready")
