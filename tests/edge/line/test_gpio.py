"""The dialect of discrete lines, over chips that stand in for the kernel's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pytest

from edge.config import EdgeConfig
from edge.errors import ConfigError, MissingDependency
from edge.line.base import Line, LineSetup
from edge.line.factory import dialects_of, make_line, require_triggers
from edge.line.gpio import QUEUE_LIMIT, GpioLine, make_gpio_line
from edge.line.inbound import NO_REPLY, Ack, Asked, Refusal, Reply
from edge.line.message import StationState
from edge.types import Code
from tests.support.broker import wait_until
from tests.support.fake_gpio import NAMES, PATH, SETTINGS, FakeBoard, fake_board
from tests.support.patience import slowness

MS = 1_000_000


@dataclass
class Station:
    """What stands in for the station: notes the triggers, answers when the test says so."""

    board: FakeBoard
    asked: list[Asked] = field(default_factory=list)
    is_ready: bool = True
    state: str = "online"
    changes: int = 0
    line: Any = None
    hangs: threading.Event = field(default_factory=threading.Event)
    at_once: Refusal | Code | None = None

    def hear(self, asked: Asked) -> None:
        self.asked.append(asked)
        if self.at_once is not None:
            self.reply(self.at_once)

    def ready(self) -> bool:
        while self.hangs.is_set():
            time.sleep(0.01)
        return self.is_ready

    def note(self) -> None:
        self.changes += 1

    def trigger(self, *, at_ns: int | None = None) -> Asked:
        count = len(self.asked)
        self.board.pulse(at_ns)
        wait_until(lambda: len(self.asked) > count, 5, "nothing was asked")
        return self.asked[-1]

    def accept(self, reason: Refusal | None = None) -> None:
        asked = self.asked[-1]
        ack = Ack(asked.request.part, asked.request.n, None if reason else 1, reason)
        self.line.acknowledge(ack, asked.reply)

    def judge(self, code: Code, left_s: float = 1.0) -> bool:
        deadline_ns = time.monotonic_ns() + round(left_s * 1e9)
        told: bool = self.line.answer({"code": int(code)}, deadline_ns, 0, self.asked[-1].reply)
        return told

    def reply(self, what: Refusal | Code) -> None:
        self.accept(what if isinstance(what, Refusal) else None)
        if isinstance(what, Code):
            self.judge(what)

    def part(self, code: Code) -> None:
        """One part from its trigger to what is shown."""
        self.trigger()
        self.accept()
        self.board.wait("ready", "busy")
        assert self.judge(code)


def config_of(mode: str = "triggered", **changes: Any) -> EdgeConfig:
    section = {"enabled": True, "mode": "level", **SETTINGS, **changes}
    return EdgeConfig.model_validate(
        {"broker": {"enabled": False}, "gpio": section, "decision": {"mode": mode}}
    )


def line_for(station: Station, config: EdgeConfig, outbox: Any = None) -> Line:
    setup = LineSetup(
        config,
        root=None,  # type: ignore[arg-type]
        outbox=outbox,
        state=lambda: StationState("s1", station.state, "", ready=station.is_ready),
        is_ready=station.ready,
        changed=station.note,
        triggered=station.hear if config.decision.is_triggered else None,
    )
    return make_gpio_line(setup)


@contextmanager
def at_work(config: EdgeConfig | None = None, **changes: Any) -> Iterator[Station]:
    with fake_board() as board:
        station = Station(board)
        station.line = line = line_for(station, config or config_of(**changes))
        line.start()
        try:
            assert line.wait_connected(60)
            yield station
        finally:
            station.hangs.clear()
            board.may_write.set()
            line.stop()
        assert not any(one.user for one in board.lines[PATH])
        assert board.active == frozenset()
        assert not any({"ok", "ng"} <= shown for _, shown in board.history)


def test_a_part_from_its_trigger_to_the_next() -> None:
    with at_work() as station:
        station.board.wait("ready")
        before_ns = time.monotonic_ns()
        asked = station.trigger()
        request = asked.request
        assert (request.part, request.n, request.frames, asked.reply.dialect) == (
            "G1",
            1,
            1,
            "gpio",
        )
        assert request.deadline_ms <= 2000
        assert station.board.active == {"ready"}  # not accepted yet
        station.accept()
        station.board.wait("ready", "busy")
        assert station.judge(Code.OK)
        station.board.wait("ready", "ok", "valid")
        time.sleep(0.15)
        assert "ok" in station.board.active  # until the next trigger
        assert station.trigger(at_ns=before_ns + 10**12).request.part == "G2"
        station.board.wait("ready")


@pytest.mark.parametrize(
    ("code", "shown"), [(Code.OK, "ok"), (Code.NG, "ng"), (Code.UNKNOWN, "unknown")]
)
def test_the_result_is_there_before_valid_and_goes_after_it(code: Code, shown: str) -> None:
    with at_work() as station:
        station.part(code)
        station.board.wait("ready", shown, "valid")
        station.trigger()
        station.board.wait("ready")
        seen = [key for key, _ in groupby(one - {"busy"} for _, one in station.board.history)]
        assert frozenset({"ready", shown}) in seen
        rising = seen.index(frozenset({"ready", shown, "valid"}))
        assert seen[rising - 1] == seen[rising + 1] == {"ready", shown}


def test_unknown_without_a_line_of_its_own_shows_neither_ok_nor_ng() -> None:
    with at_work(unknown="", valid="") as station:
        station.part(Code.OK)
        station.board.wait("ready", "ok")
        station.part(Code.UNKNOWN)
        station.board.wait("ready")


def test_a_pulse_ends_by_itself() -> None:
    config = config_of(pulse_ms=80)
    pulse = config.model_copy(update={"gpio": config.gpio.model_copy(update={"mode": "pulse"})})
    with at_work(pulse) as station:
        station.part(Code.NG)
        station.board.wait("ready", "ng", "valid")
        station.board.wait("ready")
        times = [at_s for at_s, shown in station.board.history if shown & {"ng"}]
        ended_s = station.board.history[-1][0]
        assert ended_s - times[0] >= 0.075


def test_an_edge_while_busy_is_missed_and_changes_nothing() -> None:
    with at_work() as station:
        station.trigger()
        station.accept()
        station.board.wait("ready", "busy")
        station.board.pulse()
        wait_until(lambda: station.line.counters.triggers_refused == 1, 5, "not counted")
        assert station.judge(Code.OK)
        station.board.wait("ready", "ok", "valid")
        assert len(station.asked) == 1
        assert station.trigger().request.n == 3  # every edge counts


def test_an_edge_that_came_before_the_verdict_was_shown_is_missed() -> None:
    with at_work() as station:
        moment_ns = time.monotonic_ns()
        station.part(Code.OK)
        station.board.wait("ready", "ok", "valid")
        station.board.pulse(at_ns=moment_ns)  # read late
        wait_until(lambda: station.line.counters.triggers_refused == 1, 5, "not counted")
        assert "ok" in station.board.active


def test_busy_lasts_as_long_as_the_station_would_refuse_another_trigger() -> None:
    with at_work(frames=5, deadline_ms=1000) as station:  # 6 frames of 33 ms
        begun_s = time.monotonic()
        station.trigger()
        station.reply(Code.OK)
        station.board.wait("ready", "ok", "valid", "busy")
        station.board.pulse()
        wait_until(lambda: station.line.counters.triggers_refused == 1, 5, "not counted")
        station.board.wait("ready", "busy")  # nobody can say which part is meant: reject
        station.board.wait("ready")
        assert station.board.history[-1][0] - begun_s >= 0.2


def test_a_refused_trigger_never_gets_busy() -> None:
    with at_work() as station:
        station.at_once = Refusal.NOT_READY
        station.trigger()
        wait_until(lambda: station.line.counters.triggers_refused == 1, 5, "not counted")
        station.at_once = None
        station.trigger()
        assert not station.board.was("ready", "busy")


def test_bounces_are_one_edge() -> None:
    with at_work(debounce_us=1000) as station:
        station.board.pulse(bounces=5)
        wait_until(lambda: station.asked, 5, "nothing was asked")
        time.sleep(0.1)
        assert [one.request.n for one in station.asked] == [1]


def test_edges_that_the_kernel_has_lost_are_counted() -> None:
    with at_work() as station:
        station.hangs.set()
        time.sleep(0.1)
        for _ in range(100):  # it keeps 64
            station.board.pulse()
        station.hangs.clear()
        wait_until(lambda: station.asked, 5, "nothing was asked")
        counters = station.line.counters
        wait_until(lambda: counters.triggers_refused == 63, 5, f"not missed: {counters}")
        assert (station.asked[0].request.n, counters.triggers_ignored) == (37, 36)


def test_an_edge_that_was_read_too_late_is_missed() -> None:
    with at_work() as station:
        station.board.pulse(at_ns=time.monotonic_ns() - 500 * MS)
        wait_until(lambda: station.line.counters.triggers_refused == 1, 5, "not counted")
        assert not station.asked


def test_the_delay_and_the_deadline_count_from_the_edge() -> None:
    with at_work(delay_ms=400, deadline_ms=1500, frames=3, answer_ms=1200) as station:
        request = station.trigger(at_ns=time.monotonic_ns() - 100 * MS).request
        assert (request.frames, request.answer_ms) == (3, request.deadline_ms - 300)
        assert 0 < request.delay_ms <= 300
        assert request.deadline_ms - request.delay_ms == 1100


def test_no_verdict_by_the_deadline_ends_busy_and_a_later_one_is_not_shown() -> None:
    with at_work(deadline_ms=200) as station:
        station.trigger()
        station.accept()
        station.board.wait("ready", "busy")
        station.board.wait("ready")
        station.judge(Code.OK)
        wait_until(lambda: station.line.counters.verdicts_unsent == 1, 5, "not counted")
        assert not station.judge(Code.OK, left_s=-0.01)
        assert not any("ok" in shown for _, shown in station.board.history)


def test_a_part_that_another_dialect_has_triggered_is_not_shown() -> None:
    with at_work() as station:
        station.trigger()
        station.accept()
        station.board.wait("ready", "busy")
        later_ns = time.monotonic_ns() + 10**9
        for reply in (NO_REPLY, Reply(dialect="gpio"), Reply(correlation=b"1", dialect="mqtt")):
            assert not station.line.answer({"code": 1}, later_ns, 0, reply)
            station.line.acknowledge(Ack("A", 1, None, Refusal.BUSY), reply)
        time.sleep(0.1)
        assert station.board.active == {"ready", "busy"}
        assert station.line.counters.verdicts_unsent == 0


@pytest.mark.parametrize("changes", [{"mode": "free_run"}, {"trigger": ""}])
def test_without_a_trigger_line_every_verdict_is_a_pulse(changes: dict[str, str]) -> None:
    config = config_of(changes.pop("mode", "triggered"), pulse_ms=40, **changes)
    with at_work(config) as station:
        later_ns = time.monotonic_ns() + 10**10
        assert station.line.publish_verdict({"code": 1}, later_ns)
        assert station.line.answer({"code": 1}, later_ns, 0, NO_REPLY)
        assert station.line.publish_verdict({"code": 2}, later_ns)
        wait_until(lambda: any("ng" in shown for _, shown in station.board.history), 5, "no NG")
        station.board.wait("ready")
        verdicts = [shown & {"ok", "ng"} for _, shown in station.board.history if "valid" in shown]
        assert verdicts == [{"ok"}, {"ok"}, {"ng"}]


def test_ready_and_fault_follow_the_station() -> None:
    with at_work() as station:
        station.board.wait("ready")
        station.is_ready, station.state = False, "fault"
        station.line.state_changed()
        station.board.wait("fault")
        station.is_ready, station.state = True, "online"
        station.board.wait("ready")


def test_a_station_that_hangs_releases_the_lines_within_two_seconds() -> None:
    with at_work() as station:
        station.part(Code.OK)
        station.board.wait("ready", "ok", "valid")
        hung_s = time.monotonic()
        station.hangs.set()
        wait_until(lambda: not station.board.active, 5, "the lines are held")
        released_s = station.board.history[-1][0]
        assert released_s - hung_s < 2.0 * slowness()
        assert "hangs since" in station.line.verdict_problem
        assert not station.judge(Code.OK)
        station.hangs.clear()
        assert station.line.wait_connected(60)
        station.board.wait("ready")


def test_a_chip_that_disappears_is_told_and_taken_again(caplog: pytest.LogCaptureFixture) -> None:
    with at_work() as station:
        station.trigger()
        station.accept()
        station.board.wait("ready", "busy")
        changes = station.changes
        station.board.vanish()
        wait_until(lambda: station.line.verdict_problem, 5, "not noticed")
        assert station.board.active == frozenset()
        assert not station.line.is_connected
        wait_until(lambda: station.changes > changes, 5, "not told")
        assert not station.judge(Code.OK)
        station.board.come_back()
        assert station.line.wait_connected(60)
        station.board.wait("ready")
        station.judge(Code.OK)  # of the part before it
        assert station.trigger().request.n == 2  # the kernel counts from 1 again
        assert not any("ok" in shown for _, shown in station.board.history)
    assert sum("is gone" in one.message for one in caplog.records) == 1


def test_outputs_alone_notice_that_the_chip_is_gone() -> None:
    with at_work(trigger="") as station:
        station.board.gone = True
        wait_until(lambda: station.line.verdict_problem, 5, "not noticed")
        assert station.board.active == frozenset()


def test_a_chip_that_hangs_holds_up_no_station() -> None:
    with at_work() as station:
        station.part(Code.OK)
        station.board.may_write.clear()
        time.sleep(0.1)
        begun_s = time.monotonic()
        later_ns = time.monotonic_ns() + 10**10
        reply = station.asked[-1].reply
        for _ in range(2 * QUEUE_LIMIT):
            station.line.answer({"code": 1}, later_ns, 0, reply)
        assert time.monotonic() - begun_s < 0.5
        assert station.line.counters.verdicts_unsent >= QUEUE_LIMIT


def test_a_machine_without_chips_does_not_stop_the_station() -> None:
    with fake_board({PATH: []}) as board:
        station = Station(board)
        line = station.line = line_for(station, config_of())
        line.start()
        try:
            wait_until(lambda: "no line DIO_" in (line.verdict_problem or ""), 5, "not told")
            assert not line.publish_verdict({"code": 1}, time.monotonic_ns() + 10**9)
            assert not line.wait_connected(0)
        finally:
            line.stop()


def test_without_the_library_the_sentence_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with fake_board() as board, pytest.raises(MissingDependency, match=r"rgbd-inspection\[gpio\]"):
        line_for(Station(board), config_of())


def test_times_that_no_verdict_could_keep_stop_the_start() -> None:
    with (
        fake_board() as board,
        pytest.raises(ConfigError, match=r"\[gpio\] of station.toml: deadline_ms: .* 133 ms"),
    ):
        line_for(Station(board), config_of(deadline_ms=100, delay_ms=100))


def test_station_toml_chooses_it() -> None:
    config = config_of()
    assert dialects_of(config) == ("gpio",)
    require_triggers(config)
    with pytest.raises(ConfigError, match=r"\[broker\].*\[gpio\]"):
        require_triggers(config_of(trigger=""))
    with fake_board() as board:
        state = StationState("s1", "online", "", ready=True)
        setup = LineSetup(config, None, Board(), lambda: state, lambda: True,  # type: ignore[arg-type]
                          changed=lambda: None, triggered=Station(board).hear)  # fmt: skip
        assert isinstance(make_line(setup), GpioLine)


class Board:
    """An outbox in which nobody has a place."""

    def forget_consumer(self, name: str) -> None:
        pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ok": ""}, "ok is empty: no part would ever be let through"),
        ({"ng": NAMES[2]}, "two keys have the line DIO_OK"),
        ({"active_low": ["gate"]}, "active_low"),
    ],
)
def test_lines_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_of(**changes)
