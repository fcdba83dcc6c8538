"""An engine that takes long to open, because it has to be built: at the start, and when a bundle is
changed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import EngineError
from edge.install.install import install_bundle
from edge.install.proven import ProvenEngine, open_proven_engine
from edge.runtime import changes
from edge.runtime.active import resolve_active
from edge.runtime.current import CurrentBundle
from edge.runtime.service import Service
from edge.station.store import Installed
from tests.support.active import Closable
from tests.support.broker import wait_until
from tests.support.fakes import Step, committed, frame_of, frames_of
from tests.support.patience import patience_s
from tests.support.service import (
    ALIVE,
    READY,
    STOPPING,
    Listener,
    in_thread,
    new_service,
    taken_as_proven,
)
from tests.support.station import EMPTY, HEIGHT, WIDTH, StationRoot, belt
from tests.support.tiny_bundle import make_tiny_bundle


class SlowBuilder:
    """Opens the installed engine; from the version given on, only after `release` is set."""

    def __init__(self, station: StationRoot, slow_version: str) -> None:
        self._station, self._slow_version = station, slow_version
        self.began, self.release = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self.building_s: list[float] = []  # from when to when it was slow

    def __call__(self, installed: Installed) -> ProvenEngine:
        if installed.manifest.version == self._slow_version:
            self.building_s.append(time.monotonic())
            self.began.set()
            assert self.release.wait(patience_s(60))
            self.building_s.append(time.monotonic())
            if self.failure is not None:
                raise self.failure
        return open_proven_engine(self._station.store, installed)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def second(station: StationRoot, tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path, station.key, version="2.0.0", height=HEIGHT, width=WIDTH)


def service_with(
    station: StationRoot, script: list[Step], builder: SlowBuilder, listener: Listener
) -> Service:
    return new_service(station, script, notifier=listener, load_engine=builder)


def empty_view(count: int, first: int = 1) -> list[Step]:
    return [frame_of(EMPTY, number) for number in range(first, first + count)]


# --- at the start ---


def test_systemd_waits_while_the_first_engine_is_built(
    station: StationRoot, listener: Listener
) -> None:
    builder = SlowBuilder(station, "1.0.0")
    thread, _ = in_thread(service_with(station, empty_view(5), builder, listener))
    wait_until(lambda: len(listener.heard) >= 2, 10, "no more time was asked for")
    assert {message for _, message in listener.heard} == {"EXTEND_TIMEOUT_USEC=30000000"}
    builder.release.set()
    thread.join(20)
    told = [message for _, message in listener.heard if not message.startswith("EXTEND")]
    assert (told[0], told[-1]) == (READY, STOPPING)
    after = listener.heard[[message for _, message in listener.heard].index(READY) :]
    assert not any(message.startswith("EXTEND") for _, message in after)


def test_a_first_engine_that_hangs_is_not_waited_for_for_ever(
    station: StationRoot, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.runtime.starting.OPEN_LIMIT_S", 1.0)
    monkeypatch.setattr("edge.runtime.starting.START_PASS_S", 0.05)
    builder = SlowBuilder(station, "1.0.0")
    service = service_with(station, [], builder, listener)
    thread, parts = in_thread(service)
    wait_until(lambda: listener.heard, 60, "more time is not asked for")
    time.sleep(1.1)
    asked = len(listener.heard)
    time.sleep(0.4)
    assert len(listener.heard) == asked  # no more after the limit: systemd's patience ends
    service.stop()
    thread.join(patience_s(2))
    assert parts == [0]  # a signal still ends it, while the builder hangs
    assert [message for _, message in listener.heard][asked:] == [STOPPING]
    builder.release.set()


def test_a_first_engine_that_cannot_be_built_ends_the_run(
    station: StationRoot, listener: Listener
) -> None:
    builder = SlowBuilder(station, "1.0.0")
    builder.failure = EngineError("planted")
    builder.release.set()
    with pytest.raises(EngineError, match="planted"):
        service_with(station, [], builder, listener).run()
    assert listener.heard == []


# --- at a change ---


def building(
    builder: SlowBuilder, bundle: Path, station: StationRoot, seconds: float | None = None
) -> Callable[[], None]:
    """A step of a script: install a bundle whose engine takes so long, None: it hangs.

    Frames go on meanwhile.
    """

    def install() -> None:
        install_bundle(bundle, station.root)
        assert builder.began.wait(patience_s(10))
        if seconds is not None:
            threading.Timer(seconds, builder.release.set).start()

    return install


def test_the_watchdog_is_fed_and_parts_are_judged_while_the_next_engine_is_built(
    station: StationRoot, second: Path, listener: Listener
) -> None:
    builder = SlowBuilder(station, "2.0.0")
    shown: list[Step] = frames_of(belt([8] * 22, gap=4))

    def finish() -> None:
        builder.release.set()
        wait_until(lambda: service.at_work.current.is_waited_for, 60, "the next engine is not open")

    install = building(builder, second, station)
    script = [*shown[:24], install, *shown[24:224], finish, *shown[224:]]  # in the middle of a part
    service = service_with(station, script, builder, listener)
    service.run()
    bundles = [record["bundle"][:5] for record in committed(station.root)]
    assert bundles == ["1.0.0"] * bundles.count("1.0.0") + ["2.0.0"] * bundles.count("2.0.0")
    assert len(bundles) == 22
    # 2 were judged before, the others while the engine was built
    assert bundles.count("1.0.0") > 16
    assert bundles[-1] == "2.0.0"
    assert len(listener.times_of(ALIVE, *builder.building_s)) > 3


def test_a_main_loop_that_hangs_starves_the_watchdog_even_while_an_engine_is_built(
    station: StationRoot, second: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = SlowBuilder(station, "2.0.0")
    hangs, freed, hung_s = threading.Event(), threading.Event(), []
    follow = changes.Changes.follow

    def follow_or_hang(self: changes.Changes) -> None:
        if hangs.is_set():
            hung_s.append(time.monotonic())
            freed.wait(20)
            hangs.clear()
            hung_s.append(time.monotonic())
        follow(self)

    install = building(builder, second, station)

    def install_and_hang() -> None:
        install()
        hangs.set()
        wait_until(lambda: hung_s, 5, "the main loop does not turn")

    monkeypatch.setattr(changes.Changes, "follow", follow_or_hang)
    script = [
        *empty_view(20),
        install_and_hang,
        *empty_view(300, 21),
        freed.set,
        *empty_view(40, 321),
    ]
    service_with(station, script, builder, listener).run()
    builder.release.set()
    assert hung_s[1] - hung_s[0] > 1.0  # 300 frames were judged meanwhile
    assert listener.times_of(ALIVE, hung_s[0], hung_s[1]) == []
    assert listener.times_of(ALIVE, hung_s[1], float("inf"))


def test_a_station_that_judges_nothing_starves_the_watchdog_even_while_an_engine_is_built(
    station: StationRoot, second: Path, listener: Listener
) -> None:
    builder = SlowBuilder(station, "2.0.0")
    quiet_s: list[float] = []

    def hang() -> None:
        wait_until(
            lambda: time.monotonic() - listener.heard[-1][0] > 0.5,
            60,
            "what was judged before is told",
        )
        quiet_s.append(time.monotonic())
        time.sleep(1.2)
        quiet_s.append(time.monotonic())

    script = [*empty_view(20), building(builder, second, station), hang, *empty_view(20, 21)]
    service_with(station, script, builder, listener).run()
    builder.release.set()
    assert listener.times_of(ALIVE, quiet_s[0], quiet_s[1]) == []


def test_a_next_engine_that_hangs_is_said_once_and_the_station_goes_on(
    station: StationRoot,
    second: Path,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(changes, "OPEN_LIMIT_S", 0.3)
    builder = SlowBuilder(station, "2.0.0")
    shown: list[Step] = frames_of(belt([8] * 16, gap=4))
    with caplog.at_level(logging.ERROR, "edge.runtime.changes"):
        script = [*shown[:24], building(builder, second, station), *shown[24:]]
        service_with(station, script, builder, listener).run()
    builder.release.set()
    assert [record["bundle"][:5] for record in committed(station.root)] == ["1.0.0"] * 16
    assert caplog.text.count("an engine is not open after") == 1


def test_a_next_engine_that_cannot_be_built_leaves_the_station_as_it_was(
    station: StationRoot, second: Path, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    builder = SlowBuilder(station, "2.0.0")
    builder.failure = EngineError("planted")
    shown: list[Step] = frames_of(belt([8] * 12, gap=4))
    with caplog.at_level(logging.ERROR, "edge.runtime.changes"):
        script = [*shown[:24], building(builder, second, station, 0.1), *shown[24:]]
        service_with(station, script, builder, listener).run()
    assert [record["bundle"][:5] for record in committed(station.root)] == ["1.0.0"] * 12
    assert (
        caplog.text.count("the change is not taken up, the station goes on as it was: planted") == 1
    )


# --- engines that are not needed any more ---


def test_a_change_that_is_overtaken_before_it_took_effect_gives_its_engine_back(
    station: StationRoot, tmp_path: Path, second: Path
) -> None:
    opened: list[Closable] = []

    def load(installed: Installed) -> ProvenEngine:
        opened.append(Closable(installed.manifest.version))
        return taken_as_proven(opened[-1], installed)

    def follow_until(count: int) -> None:
        wait_until(
            lambda: following.follow() or len(opened) == count, 10, "the change was not noticed"
        )
        wait_until(
            lambda: following.follow() or not following.is_opening,
            10,
            "the change was not resolved",
        )

    current = CurrentBundle(resolve_active(station.store, load))
    following = changes.Changes(station.store, load, current)
    install_bundle(second, station.root)
    follow_until(2)
    station.calibrate()  # new site state of the bundle that waits: its engine is kept
    follow_until(2)
    install_bundle(
        make_tiny_bundle(tmp_path, station.key, version="3.0.0", height=HEIGHT, width=WIDTH),
        station.root,
    )
    follow_until(3)
    assert [engine.closed for engine in opened] == [False, True, False]
    assert current.take().installed.manifest.version == "1.0.0"
    assert current.get().installed.manifest.version == "3.0.0"
    assert not current.is_waited_for
