"""Discrete lines: a trigger comes in on one, the verdict and the station's readiness go out on the
others (docs/gpio.md).

    station's threads   acknowledge, answer, publish_verdict: into a queue, never waiting
    gpio thread         edges, queue and clock to the cycle (gpio_cycle.py), its outputs to the chip
    gpio-guard thread   releases the lines if the gpio thread hangs

A released line means reject, so everything that goes wrong ends in released lines. A trigger is
dated by the kernel: what has passed since the edge is taken off its delay and its deadline, in
whole milliseconds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from edge.background import Repeated, keep_running
from edge.dialect_sections import GpioConfig
from edge.errors import ConfigError
from edge.line.base import LineSetup
from edge.line.gpio_cycle import Cycle, Told
from edge.line.gpio_lines import Edge, Lines, LinesLost
from edge.line.inbound import Ack, Asked, BadRequest, Reply, TriggerRequest, checked_trigger
from edge.line.quiet import QuietLine
from edge.optional import optional_module
from edge.trouble import Trouble
from edge.types import Code

log = logging.getLogger(__name__)

NAME = "gpio"
REMEDY = "Install it: pip install 'rgbd-inspection[gpio]'"
MS = 1_000_000  # nanoseconds
TICK_S = 0.05  # `ready` follows the station this fast
FAULT_S = 0.5  # and `fault`
REFRESH_S = 1.0  # outputs are written again, so that a chip that is gone is noticed
RETRY_S = 1.0  # between two tries to get the lines
HUNG_S = 1.2  # the gpio thread makes a pass each TICK_S: after this long without one it hangs
GUARD_S = 0.25
END_S = 0.5
WINDOW_MS = 2  # the station opens a part's window a little after its edge was read
QUEUE_LIMIT = 32  # acknowledgments and verdicts on their way to the gpio thread
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class GpioLine(QuietLine):
    """The lines of a station. See edge.line.base.Line."""

    tells_plc = True

    def __init__(
        self,
        config: GpioConfig,
        open_lines: Callable[[], Lines],
        is_ready: Callable[[], bool],
        is_fault: Callable[[], bool],
        changed: Callable[[], None],
        triggered: Callable[[Asked], None] | None,
        period_ms: float,
    ) -> None:
        """No line is held before start(). triggered: None where no trigger comes on a line.

        Raises: ConfigError if no trigger with these times could be answered.
        """
        super().__init__()
        self._config, self._open_lines = config, open_lines
        self._is_ready, self._is_fault, self._changed = is_ready, is_fault, changed
        self._triggered, self._period_ms = triggered, period_ms
        self._open_ms = (config.frames + 1) * period_ms + WINDOW_MS
        self._cycle = Cycle(config.pulse_ms * MS, config.mode == "level", triggered is not None)
        if triggered is not None:
            self._require_possible()
        self._inbox: queue.Queue[Callable[[], None]] = queue.Queue(QUEUE_LIMIT)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wake)  # a thread of the station may ring to the end
        self._stopping = threading.Event()
        self._holding = threading.Lock()  # guards _lines, and every call of it
        self._lines: Lines | None = None
        self._shown: frozenset[str] | None = None  # on the lines; None: nothing was set yet
        self._counting = threading.Lock()
        self._edges = self._edges_before = self._dropped = 0
        self._written_s = self._fault_s = 0.0
        self._fault = False
        self._fed_s = time.monotonic()
        self._held = threading.Event()
        self._trouble = Trouble(log, "gpio: the lines are held again")
        self._missed = Trouble(log, "gpio: triggers are accepted again")
        self._note("the GPIO lines are not held yet")
        self._thread = threading.Thread(
            target=keep_running, args=(log, self._work, self._stopping), name=NAME, daemon=True
        )
        self._guard = Repeated("gpio-guard", log, self._check_fed, GUARD_S)

    def start(self) -> None:
        """Take the lines, now or as soon as they can be had."""
        self._thread.start()
        self._guard.start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until the lines are held."""
        return self._held.wait(timeout_s)

    def publish_verdict(self, fields: Mapping[str, Any], deadline_mono_ns: int) -> bool:
        """A pulse, if the lines are held and its deadline is not over. Does not wait."""
        return self._hand_over(Told(None, Code(fields["code"]), deadline_mono_ns))

    def answer(
        self,
        fields: Mapping[str, Any],
        deadline_mono_ns: int,
        completed_mono_ns: int,  # noqa: ARG002  # Line's signature
        reply: Reply,
    ) -> bool:
        """As publish_verdict. Where triggers come on a line, only the verdicts of these are shown:
        nothing on a line says which part is meant.
        """
        if self._triggered is None:
            return self.publish_verdict(fields, deadline_mono_ns)
        n = _number_of(reply)
        return n is not None and self._hand_over(Told(n, Code(fields["code"]), deadline_mono_ns))

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        """`busy`, if the trigger is accepted; without it the machine knows that it was missed."""
        n, is_accepted = _number_of(reply), ack.reason is None
        if n is None:
            return
        if is_accepted:
            self._missed.ended()
        else:
            self._miss(f"gpio: a trigger is refused: {ack.reason and ack.reason.value}")
        self._put(partial(self._cycle.acknowledge, n, is_accepted))

    def state_changed(self) -> None:
        """`ready` follows at once."""
        self._ring()

    def stop(self) -> None:
        """Release all lines."""
        self._stopping.set()
        self._ring()
        if self._thread.is_alive():
            self._thread.join(END_S)
        self._release()
        self._guard.stop(END_S)

    # --- any thread ---

    def _hand_over(self, told: Told) -> bool:
        is_in_time = time.monotonic_ns() < told.deadline_ns
        taken = is_in_time and self._held.is_set() and self._put(partial(self._tell, told))
        if not taken:
            self._count_unsent(1)
        return taken

    def _put(self, job: Callable[[], None]) -> bool:
        try:
            self._inbox.put_nowait(job)
        except queue.Full:
            return False
        self._ring()
        return True

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it was rung often enough
            os.eventfd_write(self._wake, 1)

    def _count_unsent(self, count: int) -> None:
        with self._counting:
            self.counters.verdicts_unsent += count

    def _miss(self, why: str) -> None:
        with self._counting:
            self.counters.triggers_refused += 1
        self._missed.happened(why)

    def _note(self, problem: str | None) -> None:
        self.verdict_problem = self.problem = problem
        self.is_connected = problem is None
        if problem is None:
            self._held.set()
        else:
            self._held.clear()

    def _release(self, why: str = "the GPIO lines are released") -> None:
        """Give the lines back, whoever hangs; the thread that uses them notices it."""
        if not self._holding.acquire(timeout=GUARD_S):
            log.error("gpio: a call of the GPIO chip does not return: the lines cannot be released")
            return
        try:
            lines, self._lines = self._lines, None
            if lines is not None:
                self._note(why)
                lines.release()
        finally:
            self._holding.release()

    # --- the guard's thread ---

    def _check_fed(self) -> None:
        age_s = time.monotonic() - self._fed_s
        if self._lines is not None and age_s > HUNG_S:
            why = f"the thread of the GPIO lines hangs since {age_s:.1f} s: they are released"
            self._release(why)
            self._trouble.happened(f"gpio: {why}: report this", cause="hang")
            self._changed()

    # --- the gpio thread ---

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._lines is None and not self._connect():
                    self._stopping.wait(RETRY_S)
                    continue
                try:
                    self._pass()
                except LinesLost as lost:
                    self._lose(str(lost))
                    self._stopping.wait(RETRY_S)
        finally:
            self._lose("the GPIO lines are released")

    def _connect(self) -> bool:
        self._reset()
        try:
            lines = self._open_lines()
        except LinesLost as lost:
            if self.verdict_problem != str(lost):
                self._note(str(lost))
                self._changed()
            self._trouble.happened(f"gpio: {lost}")
            return False
        self._fed_s = time.monotonic()
        with self._holding:
            self._lines = lines
        self._note(None)
        self._trouble.ended()
        self._changed()
        return True

    def _reset(self) -> None:
        """Nothing is held: what was open is over, and the kernel counts edges from 1 again."""
        self._take_inbox()
        self._cycle.reset()
        self._shown, self._edges_before = None, self._edges

    def _lose(self, why: str) -> None:
        had = self._lines is not None
        with contextlib.suppress(LinesLost):
            self._set(dict.fromkeys(self._config.outputs, False))
        self._release(why)
        if had and not self._stopping.is_set():
            self._trouble.happened(f"gpio: {why}")
            self._changed()

    def _pass(self) -> None:
        """Wait for something to happen, and show what follows from it."""
        has_edges = self._wait()
        self._fed_s = time.monotonic()
        self._take_inbox()
        for edge in self._read_edges() if has_edges else ():
            self._begin(edge)
        self._cycle.pass_time(time.monotonic_ns())
        self._count_unsent(self._cycle.dropped - self._dropped)
        self._dropped = self._cycle.dropped
        self._show()
        self._look_for_fault()

    def _take_inbox(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._inbox.get_nowait()()

    def _wait(self) -> bool:
        """Whether edges wait. Raises: LinesLost."""
        next_ns, left_s = self._cycle.next_ns, TICK_S
        if next_ns is not None:
            left_s = min(TICK_S, max(0.0, (next_ns - time.monotonic_ns()) / 1e9))
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        with self._holding:
            fd = None if self._lines is None else self._lines.fd
        if fd is not None:
            poll.register(fd, select.POLLIN)
        happened = dict(poll.poll(left_s * 1e3))
        if self._wake in happened:
            os.eventfd_read(self._wake)
        mask = 0 if fd is None else happened.get(fd, 0)
        if mask & GONE:
            raise LinesLost("the GPIO chip of the trigger is gone")
        return bool(mask)

    def _read_edges(self) -> list[Edge]:
        with self._holding:
            return [] if self._lines is None else list(self._lines.read_edges())

    def _begin(self, edge: Edge) -> None:
        """An edge of the trigger: ask the station, unless the part before it is not decided."""
        n = self._edges_before + edge.number
        lost, self._edges = n - self._edges - 1, n
        if lost > 0:
            self._missed.happened(f"gpio: {lost} triggers came faster than they can be read")
            with self._counting:
                self.counters.triggers_ignored += lost
        now_ns = time.monotonic_ns()
        lag_ms = max(0, now_ns - edge.moment_ns) // MS
        window_ms = max(0, self._config.delay_ms - lag_ms) + self._open_ms
        window_ns = now_ns + round(window_ms * MS)
        deadline_ns = edge.moment_ns + self._config.deadline_ms * MS
        if not self._cycle.begin(n, edge.moment_ns, window_ns, deadline_ns, now_ns):
            self._miss("gpio: a trigger came while `busy` was active for the one before it")
            return
        try:
            request = self._request(n, lag_ms)
        except BadRequest as bad:  # too late
            self._cycle.acknowledge(n, is_accepted=False)
            self._miss(f"gpio: a trigger is not taken, its part may have passed: {bad}")
            return
        if self._triggered is not None:
            self._triggered(Asked(request, reply=Reply(correlation=str(n).encode(), dialect=NAME)))

    def _request(self, n: int, lag_ms: int) -> TriggerRequest:
        """lag_ms: since the edge.

        Raises: BadRequest if a frame of the part may have passed meanwhile, or [gpio] has times
            that no verdict could keep.
        """
        config = self._config
        if lag_ms > config.delay_ms + self._period_ms:
            raise BadRequest("", f"it was read {lag_ms} ms after its edge")
        asked = {
            "part": f"G{n}",
            "n": n,
            "deadline_ms": config.deadline_ms - lag_ms,
            "delay_ms": max(0, config.delay_ms - lag_ms),
            "frames": config.frames,
            "answer_ms": max(0, config.answer_ms - lag_ms),
        }
        return checked_trigger(asked, self._period_ms)

    def _require_possible(self) -> None:
        """Raises: ConfigError if the verdict could not come before the deadline."""
        try:
            self._request(1, 0)
        except BadRequest as bad:
            raise ConfigError(f"[gpio] of station.toml: {bad}: correct it") from bad

    def _tell(self, told: Told) -> None:
        if not self._cycle.tell(told, time.monotonic_ns()):
            self._count_unsent(1)

    def _show(self) -> None:
        """Bring the outputs to what they should be; the result before `valid`, and off after it."""
        now_s = time.monotonic()
        wanted = self._cycle.active
        wanted |= {"ready"} if self._is_ready() else frozenset()
        wanted |= {"fault"} if self._fault else frozenset()
        if wanted == self._shown and now_s < self._written_s + REFRESH_S:
            return
        if "valid" not in wanted:
            self._set({"valid": False})
        self._set({key: key in wanted for key in self._config.outputs if key != "valid"})
        if "valid" in wanted:
            self._set({"valid": True})
        self._shown, self._written_s = wanted, now_s

    def _look_for_fault(self) -> None:
        """After the verdict: the state of a station takes a while to be put together."""
        now_s = time.monotonic()
        if self._config.fault and now_s >= self._fault_s + FAULT_S:
            self._fault_s, self._fault = now_s, self._is_fault()

    def _set(self, values: Mapping[str, bool]) -> None:
        """Those of them that have a line. Raises: LinesLost."""
        outputs = self._config.outputs
        named = {key: value for key, value in values.items() if key in outputs}
        with self._holding:
            if self._lines is not None and named:
                self._lines.set(named)


def _number_of(reply: Reply) -> int | None:
    """Of the edge that was asked for; None if another dialect asked."""
    is_ours = reply.dialect == NAME and reply.correlation is not None
    return int(reply.correlation or b"0") if is_ours else None


def make_gpio_line(setup: LineSetup) -> GpioLine:
    """For edge.line.factory: the lines that [gpio] names.

    Raises: MissingDependency without the library gpiod; ConfigError if no trigger could be
        answered in time.
    """
    optional_module("gpiod", REMEDY)
    from edge.line.gpio_chip import open_lines

    config = setup.config.gpio
    triggered = setup.triggered if config.brings_triggers else None
    return GpioLine(
        config,
        open_lines=lambda: open_lines(config, triggered is not None),
        is_ready=setup.is_ready,
        is_fault=lambda: setup.state().state == "fault",
        changed=setup.changed,
        triggered=triggered,
        period_ms=1e3 / setup.config.camera.fps,
    )
