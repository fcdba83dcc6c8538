"""The kinds of faults: each is done, lasts, and has ended when its function returns."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from tests.endurance.rig import Rig

STALL_S = 2.6  # longer than a verdict is worth, and than a camera may be silent
NEVER_FAR = 400_000_000  # seconds to 2038 and beyond


@dataclass(frozen=True)
class Fault:
    """One kind. quick: takes few seconds, so that it has a place in the short form. about: camera,
    broker, process, disk or other: which limit of recovery it has. missing: why it cannot be done
    here; empty where it can.
    """

    name: str
    inject: Callable[[Rig], None]
    about: str
    quick: bool
    missing: Callable[[Rig], str]


KINDS: list[Fault] = []


def _always(_: Rig) -> str:
    return ""


def _needs_disk(rig: Rig) -> str:
    return "" if rig.disk.is_own else "mounting a file system is not allowed here"


def _needs_child(rig: Rig) -> str:
    return "" if rig.camera_process() is not None else "the station captures in its own process"


def _needs_clock(rig: Rig) -> str:
    return "" if rig.clock.works else "there is no C compiler to make the clock"


def kind(
    about: str, quick: bool = False, missing: Callable[[Rig], str] = _always
) -> Callable[[Callable[[Rig], None]], Callable[[Rig], None]]:
    """Registers a function as a kind of fault under its own name."""

    def register(inject: Callable[[Rig], None]) -> Callable[[Rig], None]:
        KINDS.append(Fault(inject.__name__.replace("_", " "), inject, about, quick, missing))
        return inject

    return register


# --- the process ---


@kind("process", quick=True)
def station_killed(rig: Rig) -> None:
    ended = len(rig.supervisor.exits)
    rig.supervisor.signal(signal.SIGKILL)
    rig.wait(lambda: len(rig.supervisor.exits) > ended, "SIGKILL did not end the station")


@kind("process", quick=True)
def station_restarted(rig: Rig) -> None:
    ended = len(rig.supervisor.exits)
    rig.supervisor.signal(signal.SIGTERM)
    rig.wait(lambda: len(rig.supervisor.exits) > ended, "SIGTERM did not end the station")
    if rig.supervisor.exits[-1] != 0:
        words = rig.supervisor.last_words(5)
        rig.complaints.append(f"SIGTERM ended the station with {rig.supervisor.exits[-1]}: {words}")


@kind("other")
def station_stopped(rig: Rig) -> None:
    rig.supervisor.signal(signal.SIGSTOP)
    time.sleep(STALL_S)
    rig.supervisor.signal(signal.SIGCONT)


# --- the broker ---


@kind("broker", quick=True)
def broker_killed(rig: Rig) -> None:
    """With records in flight.

    What it has acknowledged has left it before: that is not the station's to repeat.
    """
    rig.proxy.stall()
    time.sleep(0.3)
    rig.broker.kill()
    _bring_back(rig)


def _bring_back(rig: Rig) -> None:
    """The broker starts, and the archive is there before the station."""
    archive, plc = rig.archive.subscribed, rig.plc.subscribed
    rig.proxy.refuse()
    rig.broker.start()
    rig.wait(
        lambda: rig.archive.subscribed > archive and rig.plc.subscribed > plc,
        "nobody subscribed again",
    )
    rig.proxy.heal()


@kind("broker")
def broker_stopped(rig: Rig) -> None:
    rig.broker.freeze()
    time.sleep(STALL_S)
    rig.broker.thaw()


@kind("broker", quick=True)
def broker_lost_its_memory(rig: Rig) -> None:
    """What a broker takes while nobody has subscribed is not the station's to keep."""
    rig.proxy.stall()
    time.sleep(0.3)
    rig.broker.stop()
    rig.broker.forget()
    _bring_back(rig)


@kind("broker", quick=True)
def session_taken_over(rig: Rig) -> None:
    """Each of the station's clients once: another client comes with its name, and goes."""
    for client_id in dict.fromkeys(rig.proxy.client_ids[-4:]):
        thief = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        thief.connect("127.0.0.1", rig.broker.port, clean_start=True)
        thief.loop_start()
        time.sleep(0.3)
        thief.disconnect()
        thief.loop_stop()


@kind("broker", quick=True)
def publishing_denied(rig: Rig) -> None:
    rig.broker.allow("topic read #")
    time.sleep(1.2)
    rig.proxy.reset()
    time.sleep(0.8)
    rig.broker.allow("topic readwrite #")


# --- the network ---


@kind("broker", quick=True)
def link_stalled(rig: Rig) -> None:
    rig.proxy.stall()
    time.sleep(STALL_S)
    rig.proxy.heal()


@kind("broker")
def link_slow(rig: Rig) -> None:
    rig.proxy.delay(0.5)
    time.sleep(5.0)
    rig.proxy.heal()


@kind("broker", quick=True)
def connection_reset(rig: Rig) -> None:
    rig.proxy.reset()


@kind("broker", quick=True)
def connection_half_closed(rig: Rig) -> None:
    rig.proxy.half_close()


@kind("broker")
def bytes_swallowed(rig: Rig) -> None:
    rig.proxy.swallow()
    time.sleep(STALL_S)
    rig.proxy.heal()


@kind("broker")
def broker_away(rig: Rig) -> None:
    rig.proxy.refuse()
    time.sleep(STALL_S)
    rig.proxy.heal()


# --- the disk ---


@kind("disk", quick=True, missing=_needs_disk)
def disk_full(rig: Rig) -> None:
    for _ in range(3):
        rig.disk.fill()  # also what the station freed meanwhile
        time.sleep(0.7)
    rig.disk.free()


@kind("process", missing=_needs_disk)
def disk_read_only(rig: Rig) -> None:
    """As a file system comes up after a crash; it cannot be made so under a process that writes."""
    rig.supervisor.hold()
    station_killed(rig)
    try:
        rig.wait(lambda: rig.disk.remount("ro"), "the disk did not become read-only")
        ended = len(rig.supervisor.exits)
        rig.supervisor.release()
        rig.wait(
            lambda: len(rig.supervisor.exits) > ended,
            "the station runs on a disk that it cannot write",
        )
    finally:
        rig.wait(lambda: rig.disk.remount("rw"), "the disk did not become writable again")
    if rig.supervisor.exits[-1] <= 0 or "Traceback" in rig.supervisor.last_words(10):
        rig.complaints.append(
            f"a read-only disk is not said in one sentence: {rig.supervisor.last_words(5)}"
        )


# --- the camera ---


@kind("camera", quick=True, missing=_needs_child)
def capture_killed(rig: Rig) -> None:
    child = rig.camera_process()
    if child is not None:
        child.kill()


@kind("camera", missing=_needs_child)
def capture_hung(rig: Rig) -> None:
    """Longer than the station waits before it starts another."""
    child = rig.camera_process()
    if child is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        child.suspend()
        time.sleep(STALL_S)
        child.resume()


@kind("camera", quick=True)
def camera_gone(rig: Rig) -> None:
    rig.belt.remove()
    time.sleep(1.5)
    rig.belt.show()


@kind("camera", quick=True)
def lens_covered(rig: Rig) -> None:
    from_s = time.time()
    rig.belt.darken()
    time.sleep(1.5)
    rig.dark.append((from_s, time.time()))
    rig.belt.show()


# --- what is installed, and the time ---


@kind("other", quick=True)
def another_bundle(rig: Rig) -> None:
    rig.edge("bundle", "rollback")


@kind("other", missing=_needs_clock)
def clock_at_1970(rig: Rig) -> None:
    rig.clock.set(-int(time.time()), synced=False)
    time.sleep(1.5)
    rig.clock.set(0, synced=True)


@kind("other", missing=_needs_clock)
def clock_past_2038(rig: Rig) -> None:
    rig.clock.set(NEVER_FAR, synced=True)
    time.sleep(1.5)
    rig.clock.set(0, synced=True)
