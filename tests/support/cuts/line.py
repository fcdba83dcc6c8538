"""The acts of the outbox, each telling what must not be taken back.

committed SEQ   the record is on disk: the verdict may be told
reserved SEQ    the disk was full, and the part was told UNKNOWN under this number
handed SEQ      given to the line to be sent
sent SEQ        the broker's acknowledgement is noted
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.line.outbox import Outbox
from tests.support.cuts.act import Act, Mark

PLACE = Path("var/lib/edge/line.sqlite")
DAY_S = 86400.0


def fields(seq: int) -> dict[str, Any]:
    return {"seq": seq, "part": f"P{seq}", "text": "x" * 300}


def commit(outbox: Outbox, mark: Mark, count: int) -> None:
    for _ in range(count):
        mark(f"committed {outbox.commit(fields)['seq']}")


def reserve(outbox: Outbox, mark: Mark, count: int) -> None:
    for _ in range(count):
        mark(f"reserved {outbox.commit_failed(fields)['seq']}")


def send(outbox: Outbox, mark: Mark, seqs: Sequence[int]) -> None:
    for one in outbox.unsent(0, 3):
        mark(f"handed {one.seq}")
    outbox.mark_sent(seqs)
    for seq in seqs:
        mark(f"sent {seq}")


def with_records(count: int) -> Callable[[Path, Path], None]:
    def prepare(root: Path, files: Path) -> None:
        outbox = Outbox(root / PLACE)
        commit(outbox, lambda _: None, count)
        outbox.close()

    return prepare


def killed_on_a_full_disk(root: Path, files: Path) -> None:
    """8 records, and 3 parts that were told while the disk was full, of a process that ended before
    it had space.
    """
    with_records(8)(root, files)
    child = os.fork()
    if child == 0:
        reserve(Outbox(root / PLACE), lambda _: None, 3)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def open_again(root: Path, files: Path, mark: Mark) -> None:
    outbox = Outbox(root / PLACE)
    commit(outbox, mark, 1)
    outbox.close()


def first_records(root: Path, files: Path, mark: Mark) -> None:
    outbox = Outbox(root / PLACE)
    commit(outbox, mark, 3)
    outbox.close()


def deliver(root: Path, files: Path, mark: Mark) -> None:
    outbox = Outbox(root / PLACE)
    send(outbox, mark, [1, 2])
    commit(outbox, mark, 2)
    send(outbox, mark, [3])
    outbox.checkpoint()
    commit(outbox, mark, 1)


def full_disk(root: Path, files: Path, mark: Mark) -> None:
    """From 8 records on, so that the numbers grow by a digit."""
    outbox = Outbox(root / PLACE)
    reserve(outbox, mark, 3)
    commit(outbox, mark, 1)
    reserve(outbox, mark, 1)
    outbox.probe()
    commit(outbox, mark, 1)
    reserve(outbox, mark, 1)
    outbox.close()


def retention(root: Path, files: Path, mark: Mark) -> None:
    outbox = Outbox(root / PLACE)
    outbox.mark_sent(range(1, 31))
    outbox.retain(DAY_S, 20)
    outbox.checkpoint()
    commit(outbox, mark, 1)
    outbox.close()


@dataclass(frozen=True)
class LineAct(Act):
    """before: records there were. acknowledges: numbers that the act marks as sent.

    kept: the first that it keeps.
    """

    before: int = 0
    acknowledges: frozenset[int] = frozenset()
    kept: int = 1


ACTS = {
    "first records": LineAct(lambda *_: None, first_records),
    "delivery": LineAct(with_records(4), deliver, before=4, acknowledges=frozenset((1, 2, 3))),
    "full disk": LineAct(with_records(8), full_disk, before=8),
    "opening again": LineAct(killed_on_a_full_disk, open_again, before=11),
    "retention": LineAct(
        with_records(40), retention, before=40, acknowledges=frozenset(range(1, 31)), kept=21
    ),
}
