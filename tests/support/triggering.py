"""A PLC that sends triggers, a camera that shows what a test wants, and a station between them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from numpy.typing import NDArray
from paho.mqtt.enums import CallbackAPIVersion

from edge.camera.protocol import FrameOverdue
from edge.engine.protocol import Engine
from edge.frames.camera_info import CameraInfo
from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from edge.types import Frame
from tests.support.broker import PROTOCOLS, wait_until
from tests.support.fakes import ScriptedEngine, frame_of
from tests.support.patience import HANG_S, patience_s
from tests.support.service import new_service, running
from tests.support.station import EMPTY, HEIGHT, SERIAL, WIDTH, Shot, StationRoot

PREFIX = "edge/site/line/s1"
FPS = 50
PERIOD_S = 1 / FPS
SHARP_NS = 2_000_000


class LiveCamera:
    """Gives a frame each period, dated at its delivery. show: what is in view; None: no frame."""

    def __init__(self, show: Shot | None = EMPTY, fps: int = FPS) -> None:
        self.show, self._period_s = show, 1 / fps
        self.serial = SERIAL
        self.info = CameraInfo(width=WIDTH, height=HEIGHT)
        self.number = 0
        self._drawn: dict[Shot, Frame] = {}

    def open(self) -> None:
        pass

    def next_frame(self, timeout_s: float) -> Frame:
        end_s = time.monotonic() + timeout_s
        time.sleep(self._period_s)
        while self.show is None:
            if time.monotonic() > end_s:
                raise FrameOverdue("no frame")
            time.sleep(0.005)
        self.number += 1
        now_ns, shot = self._look()
        drawn = self._drawn.setdefault(shot, frame_of(shot, 0))
        color = drawn.color.copy()
        color[0, 0] = self.number % 256  # no two pictures in a row are the same
        return replace(drawn, color=color, frame_number=self.number, captured_mono_ns=now_ns)

    def _look(self) -> tuple[int, Shot]:
        """What is in view at a moment: a busy machine may not make one older than the other."""
        while True:
            now_ns, shot = time.monotonic_ns(), self.show
            if time.monotonic_ns() - now_ns < SHARP_NS:
                return now_ns, shot or EMPTY

    def close(self) -> None:
        pass


class HeldEngine(ScriptedEngine):
    """Judges only while `may_run` is set."""

    def __init__(self, score: float) -> None:
        super().__init__([{"score": score}])
        self.may_run = threading.Event()
        self.may_run.set()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        assert self.may_run.wait(HANG_S)
        return super().run(feeds)


@dataclass(frozen=True)
class Heard:
    """One message for the PLC. topic: below the prefix, or whole where it is another's."""

    topic: str
    payload: bytes
    correlation: bytes | None
    at_s: float

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


class TriggerPlc:
    """Sends triggers and notes what comes back."""

    def __init__(self, port: int, protocol: str = "5") -> None:
        self.heard: list[Heard] = []
        self._protocol, ready = protocol, threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, "trigger-plc", protocol=PROTOCOLS[protocol]
        )
        self._client.on_message = self._note
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([(f"{PREFIX}/#", 0), ("plc/#", 0)])
        self._client.loop_start()
        assert ready.wait(patience_s(5))

    def publish(
        self, payload: bytes, retain: bool = False, to: str = "trigger", **properties: Any
    ) -> float:
        """Returns when."""
        said = None
        if properties:
            said = paho.Properties(paho.PacketTypes.PUBLISH)
            for name, value in properties.items():
                setattr(said, name, value)
        self._client.publish(f"{PREFIX}/{to}", payload, 1, retain, said)
        return time.monotonic()

    def trigger(self, part: str, deadline_ms: int = 5000, **more: Any) -> float:
        asked = {"part": part, "deadline_ms": deadline_ms, **more}
        return self.publish(json.dumps(asked).encode())

    def of(self, topic: str, part: str | None = None) -> list[Heard]:
        return [
            one
            for one in list(self.heard)
            if one.topic == topic and (part is None or one.json["part"] == part)
        ]

    def wait(self, topic: str, part: str, count: int = 1) -> Heard:
        """The message number `count` about this part on that topic."""
        wait_until(lambda: len(self.of(topic, part)) >= count, 10, f"no {topic} of {part}")
        return self.of(topic, part)[count - 1]

    def ack(self, part: str, count: int = 1) -> dict[str, Any]:
        return self.wait("trigger/ack", part, count).json

    def verdict(self, part: str, count: int = 1) -> dict[str, Any]:
        return self.wait("verdict", part, count).json

    def judged(self, part: str, count: int = 1) -> tuple[int, str]:
        said = self.verdict(part, count)
        return said["code"], said["reason"]

    def record(self, part: str, count: int = 1) -> dict[str, Any]:
        return self.wait("record", part, count).json

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _note(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        self.heard.append(
            Heard(
                message.topic.removeprefix(f"{PREFIX}/"),
                message.payload,
                getattr(message.properties, "CorrelationData", None),
                time.monotonic(),
            )
        )


@dataclass
class Cell:
    """A triggered station at work."""

    camera: LiveCamera
    plc: TriggerPlc
    service: Service

    def show(self, shot: Shot, frames: int = 3) -> None:
        """Let the camera show this until so many frames of it were judged."""
        self.camera.show = shot
        begun = self.state["frames"] + 1  # one may have been on its way
        wait_until(lambda: self.state["frames"] >= begun + frames, 10, "no frames")

    def pass_window(self, part: str, count: int = 1) -> None:
        """Wait until the window of a trigger without delay, for one frame, is over."""
        left_s = self.plc.wait("trigger/ack", part, count).at_s + 3 * PERIOD_S - time.monotonic()
        time.sleep(max(0.0, left_s))

    @property
    def state(self) -> dict[str, Any]:
        work = self.service.at_work
        assert work is not None
        found: dict[str, Any] = work.report.for_status()
        return found


@contextmanager
def triggered_cell(
    station: StationRoot, port: int, protocol: str = "5", engine: Engine | None = None,
    fps: int = FPS, more: str = "",
) -> Iterator[Cell]:  # fmt: skip
    """A station that is ready, its camera and its PLC. engine: judges in place of the bundle's.
    more: further sections of station.toml.
    """
    sections = f'fps = {fps}\n[decision]\nmode = "triggered"\n{more}'
    config = station.configure("realsense", None, port, sections)
    if protocol != "5":
        config = config.model_copy(
            update={"broker": config.broker.model_copy(update={"protocol": protocol})}
        )
    camera, plc = LiveCamera(fps=fps), TriggerPlc(port, protocol)
    service = new_service(station, [], engine, RunPlan(), config, make_camera=lambda _: camera)
    try:
        with running(service):
            cell = Cell(camera, plc, service)
            wait_until(
                lambda: service.at_work is not None and service.health.is_ready,
                20,
                "the station is not ready",
            )
            yield cell
    finally:
        plc.stop()
