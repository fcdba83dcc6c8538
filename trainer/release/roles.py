"""The roles of a repository: how long what each signs is valid, and how many keys must sign.

root, targets          offline keys: which keys count, which bundles there are
rings                  online key: which of these bundles a ring's stations run
snapshot, timestamp    online keys: that nothing is mixed or kept back
usb-root, usb          offline keys: the same for copies on sticks, where nobody signs daily
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Role:
    """keys: made at the start. threshold: how many of them must sign. valid: how long."""

    keys: int
    threshold: int
    valid: timedelta
    offline: bool


ROLES = {  # TUF, specification 1.0, section 2.1
    "root": Role(3, 2, timedelta(days=730), True),
    "targets": Role(1, 1, timedelta(days=730), True),
    "rings": Role(1, 1, timedelta(days=365), False),
    "snapshot": Role(1, 1, timedelta(days=30), False),
    "timestamp": Role(1, 1, timedelta(days=7), False),
    "usb-root": Role(3, 2, timedelta(days=730), True),
    "usb": Role(1, 1, timedelta(days=180), True),  # a stick may lie in a drawer
}
RENEWED_BEFORE = 0.5  # of its time, rings and snapshot are renewed when this share of it is left
WARN_BEFORE = timedelta(days=60)  # that root or targets end, which need their offline keys
