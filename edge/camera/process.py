"""The station's view of the camera's process: its socket, its output, whether it works, its end."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from pydantic import ValidationError

from edge.camera.wire import (
    LOG_MARK,
    PACKET_BYTES,
    READ_CAMERA,
    FromCamera,
    Order,
    Packet,
    RingMade,
)
from edge.errors import CameraError, CameraLost

log = logging.getLogger(__name__)
# output of libraries: in the log only at level DEBUG
foreign = logging.getLogger("edge.camera.driver")

END_S = 1.0  # from closing its socket to its end
STOPPED_S = 1.0  # a process that does not run is waited for no longer
KILL_S = 5.0  # from SIGKILL to its end
LINE_BYTES = 4096  # of one line of a library's output

PACKAGES = Path(__file__).resolve().parents[2]  # where the station's own `edge` lies
CHILD = ("-m", "edge.camera.child")
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


class CameraProcess:
    """The camera's process: its socket, its output, its end.

    Used from one thread; `end` from any.
    """

    def __init__(self, order: Order) -> None:
        """Start the process. Raises: CameraError if that fails."""
        self._output, self._last_line, self._has_said_all = b"", "", False
        self._using = threading.RLock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pipe, output = os.pipe()
        words = [sys.executable, *CHILD, str(theirs.fileno()), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                words,
                cwd=PACKAGES,
                env=child_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        except OSError as error:
            self._socket.close()
            os.close(self._pipe)
            raise CameraError(
                f"the camera's process cannot be started: {error.strerror}. Is memory short?"
            ) from error
        finally:
            theirs.close()
            os.close(output)
        os.set_blocking(self._pipe, False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._pipe, select.POLLIN)
        self.send(order)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, packet: Packet) -> None:
        """Send a message without waiting; a closed socket shows in `receive`."""
        try:
            self._socket.send(packet.packed(), socket.MSG_DONTWAIT)
        except OSError:
            return

    def receive(self, timeout_s: float) -> tuple[FromCamera, list[int]] | None:
        """The next message with the descriptors that came with it; None after timeout_s.

        Raises: CameraLost, saying why, if the process has ended or sends an invalid message.
        """
        limit_s = time.monotonic() + timeout_s
        with self._using:
            while True:
                remaining_s = limit_s - time.monotonic()
                ready = {fd for fd, _ in self._poll.poll(max(0, remaining_s * 1e3))}
                if self._pipe in ready:
                    self._pass_on_output()
                if ready - {self._pipe}:
                    return self._message()
                if remaining_s <= 0:
                    return None

    def processor_ticks(self) -> int:
        """Processor time used by the process in clock ticks; -1 after its end."""
        fields = self._stat()
        return int(fields[11]) + int(fields[12]) if fields else -1  # utime and stime, proc(5)

    def is_stopped(self) -> bool:
        """Whether a signal (SIGSTOP) or a debugger has stopped the process."""
        return self._stat()[:1] in (["T"], ["t"])

    def end(self, grace_s: float) -> None:
        """Ask the process to end, kill it after grace_s, and wait for its end, forever if need be.

        A process that survives SIGKILL hangs in a system call of a broken driver, and so would a
        second one on the same camera. Only a restart of the service is left: because this call does
        not return, the watchdog restarts it.
        """
        self._shut()
        if not self._is_gone(grace_s):
            self._process.kill()
            if not self._is_gone(KILL_S):
                log.error(
                    "camera process %d cannot be killed: its driver hangs in the kernel, restart"
                    " the machine",
                    self.pid,
                )
                self._process.wait()
        with self._using:
            if self._socket.fileno() >= 0:
                self._pass_on_output()
                self._socket.close()
                os.close(self._pipe)

    def kill(self) -> None:
        """Kill the process without waiting for its end."""
        self._process.kill()

    def _stat(self) -> list[str]:
        """The fields of /proc/PID/stat from the third on; empty after the end of the process."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return []

    def _shut(self) -> None:
        try:
            # wakes a thread that waits in `receive`, at both ends
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already, by either end

    def _is_gone(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _message(self) -> tuple[FromCamera, list[int]]:
        packet, fds = self._packet()
        if not packet:
            raise CameraLost(self._how_it_ended())
        try:
            message = READ_CAMERA.validate_json(packet)
            if len(fds) != isinstance(message, RingMade):
                raise CameraLost(
                    "the camera's process sends unexpected file descriptors: it is not trusted"
                    " further"
                )
        except (ValidationError, CameraLost) as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, CameraLost):
                raise
            raise CameraLost(
                "the camera's process sends an invalid message: it is not trusted further"
            ) from error
        return message, fds

    def _packet(self) -> tuple[bytes, list[int]]:
        """The next packet; empty at the end.

        If the process ended with messages of the station unread, the socket first reports an error
        and then delivers the last packets.
        """
        for _ in range(2):
            try:
                packet, fds, _, _ = socket.recv_fds(self._socket, PACKET_BYTES, 4)
            except ConnectionResetError:
                continue
            return packet, fds
        return b"", []

    def _how_it_ended(self) -> str:
        if not self._is_gone(END_S):
            return "the camera's process has closed its end: it is not trusted further"
        self._pass_on_output()
        code = self._process.returncode
        if code >= 0:
            return (
                f"the camera's process ended by itself with exit code {code}:"
                f" {self._last_line or 'it said nothing'}"
            )
        name = signal.Signals(-code).name
        if -code in CRASHES:
            return (
                f"the camera's driver crashed ({name}): check the USB 3 cable, its power and the"
                " camera's firmware"
            )
        return f"the camera's process was ended by {name}: somebody killed it, or memory was short"

    def _pass_on_output(self) -> None:
        """Pass log records of the process to this log, and the output of libraries at level
        DEBUG.
        """
        if self._has_said_all:
            return
        try:
            data = os.read(self._pipe, PACKET_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._poll.unregister(self._pipe)
            self._has_said_all = True
            return
        *lines, self._output = (self._output + data).split(b"\n")
        self._output = self._output[-LINE_BYTES:]
        for line in lines:
            self._pass_on(line.decode(errors="replace"))

    def _pass_on(self, line: str) -> None:
        try:
            if not line.startswith(LOG_MARK):
                raise ValueError(line)
            told = json.loads(line[len(LOG_MARK) :])
            logging.getLogger(str(told["name"])).log(int(told["level"]), "%s", told["text"])
        except (ValueError, KeyError, TypeError):
            self._last_line = line.strip()[:LINE_BYTES] or self._last_line
            foreign.debug("%s", line)


class Patience:
    """A countdown from limit_s. watched: it runs only while the process uses no processor time.

    For a process that is stopped it is over after STOPPED_S.
    """

    def __init__(self, process: CameraProcess, limit_s: float, watched: bool) -> None:
        self._process, self._limit_s, self._watched = process, limit_s, watched
        self._end_s = time.monotonic() + limit_s
        self._ticks = process.processor_ticks() if watched else 0
        self._stopped_s: float | None = None  # since when it is stopped
        self.has_worked = False  # since the last check

    @property
    def remaining_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._end_s - time.monotonic())

    def is_over(self) -> bool:
        """Check process and clock: whether the time is up."""
        if self._watched:
            before, self._ticks = self._ticks, self._process.processor_ticks()
            self.has_worked = self._ticks > before
            if self.has_worked:
                self._end_s = time.monotonic() + self._limit_s
        now_s = time.monotonic()
        if not self._process.is_stopped():
            self._stopped_s = None
        elif self._stopped_s is None:
            self._stopped_s = now_s
        elif now_s - self._stopped_s >= STOPPED_S:
            return True
        return now_s >= self._end_s


def child_environment() -> dict[str, str]:
    """This process's environment without the variables that systemd sets for it alone, and with
    absolute search paths.
    """
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    if "PYTHONPATH" in environment:
        paths = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(
            str(Path(path).absolute()) for path in paths if path
        )
    return environment
