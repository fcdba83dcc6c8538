"""Between the camera's thread and the engine's: the newest frame, and every event."""

from __future__ import annotations

import threading

from edge.errors import CameraLost
from edge.runtime.mailbox import Ended, Lost, Mailbox
from tests.support.broker import wait_until
from tests.support.fakes import frame_of
from tests.support.station import GOOD


def test_it_keeps_the_newest_frame_and_every_event() -> None:
    mailbox = Mailbox()
    lost = Lost(CameraLost("unplugged"))
    for item in (
        frame_of(GOOD, 1),
        frame_of(GOOD, 2),
        lost,
        frame_of(GOOD, 3),
        frame_of(GOOD, 4),
        Ended(),
    ):
        mailbox.put(item)
    second, event, fourth, end = (mailbox.take(0.1) for _ in range(4))
    assert (second.frame_number, fourth.frame_number) == (2, 4)  # type: ignore[union-attr]
    assert (event, type(end)) == (lost, Ended)
    assert (mailbox.dropped, mailbox.take(0.01)) == (2, None)


def test_a_lossless_one_lets_the_camera_wait() -> None:
    mailbox, passed = Mailbox(lossless=True), threading.Event()

    def play() -> None:
        for number in (1, 2):
            mailbox.put(frame_of(GOOD, number))
        passed.set()

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    assert not passed.wait(0.05)
    assert mailbox.take(1.0).frame_number == 1  # type: ignore[union-attr]
    assert passed.wait(60)
    assert mailbox.take(1.0).frame_number == 2  # type: ignore[union-attr]
    assert mailbox.dropped == 0
    thread.join(60)


def test_closing_it_wakes_who_waits_and_delivers_nothing_more() -> None:
    mailbox, full = Mailbox(lossless=True), Mailbox(lossless=True)
    full.put(frame_of(GOOD, 1))
    threads = [
        threading.Thread(target=lambda: mailbox.take(600), daemon=True),
        threading.Thread(target=lambda: full.put(frame_of(GOOD, 2)), daemon=True),
    ]
    for thread in threads:
        thread.start()
    mailbox.close()
    full.close()
    wait_until(lambda: not any(one.is_alive() for one in threads), 60, "they wait")
    assert full.take(0.01) is None
