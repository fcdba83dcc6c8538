"""With whose rights a command of root works inside a station's folders.

The service's account owns var/lib/edge, so it can put a link wherever root expects a folder or a
file, at any moment. Checking paths before they are used does not help against that, and SQLite
opens its files by path. So root does not use its own rights there: what it changes inside a folder
that belongs to another account, it changes as that account, and a link then leads only to what that
account could have changed itself. The kernel enforces it at every single step, also against a link
that is put there meanwhile; and what root makes there belongs to the service, which can go on using
it.

Nothing changes for a command that root does not run, nor where root owns everything. There, and for
a clear sentence everywhere, `edge.station.links` refuses links in the places that are known.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import StorageError

# capget(2), capabilities(7): three words of rights 0 to 31, then three of the others
CAPABILITY_VERSION_3 = 0x20080522
EFFECTIVE, PERMITTED, INHERITABLE = range(3)
CAP_DAC_READ_SEARCH = 2
READ_AND_SEARCH = 1 << CAP_DAC_READ_SEARCH
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2

DEVICE_GROUPS = ("video", "render", "plugdev")  # as in edge.service: engines are built on the GPU


@dataclass(frozen=True)
class Account:
    """Whose rights the process uses. groups: the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class _Acting:
    """Whose rights this process has taken: it returns to `own` when it leaves `place`."""

    own: Account
    place: tuple[Path, Path]


class _Process:
    """Rights belong to the process, so all its threads share this one."""

    acting: _Acting | None = None


_process = _Process()


def real_uid() -> int:
    """The account that started this command, also while it works as another one."""
    return os.getuid() if _process.acting is None else _process.acting.own.uid


@contextmanager
def acting_for(root: Path, place: Path) -> Iterator[None]:
    """Work inside `root`/`place` with the rights of whoever owns it, if root runs this; else with
    one's own.

    May be nested, each for its own place. The threads of a process share their rights: what
    starts threads that write enters this first, and the same place entered again changes nothing.
    Raises: StorageError if root may not act as the owner here.
    """
    outer, inner = _process.acting, _current()
    is_root = outer is not None or os.getuid() == os.geteuid() == 0
    if not is_root or (outer is not None and outer.place == (root, place)):
        yield
        return
    own = inner if outer is None else outer.own
    try:
        _use(own)  # root sees every folder
        owner = _owner_of(root, place)
        if owner is not None:
            _use(owner)
        _process.acting = _Acting(own, (root, place))
        yield
    finally:
        _use(inner)
        _process.acting = outer


def _owner_of(root: Path, place: Path) -> Account | None:
    """The first account other than root that owns a folder on the way from `root` to `place`; None
    where none does.
    """
    path = root
    for step in (".", *place.parts):
        path = path / step
        try:
            about = path.stat()
        # not there yet: it will be made with the rights found so far; or a fault that the act
        # reports
        except OSError:
            return None
        if about.st_uid != 0:
            return _account(about.st_uid, about.st_gid)
    return None


def _account(uid: int, gid: int) -> Account:
    """An account as the service manager would start it: its own groups and those of the devices."""
    groups = {gid}
    with suppress(KeyError):  # a number without a name
        entry = pwd.getpwuid(uid)
        groups.update(os.getgrouplist(entry.pw_name, entry.pw_gid))
    for name in DEVICE_GROUPS:
        with suppress(KeyError):
            groups.add(grp.getgrnam(name).gr_gid)
    return Account(uid, gid, tuple(sorted(groups - {0})))


def _current() -> Account:
    return Account(os.geteuid(), os.getegid(), tuple(os.getgroups()))


def _use(account: Account) -> None:
    """Change to the account's rights. The saved user stays root, to which only this process can
    return.

    A program started meanwhile has the account's rights only. Raises: StorageError where the
    kernel forbids it.
    """
    if _current() == account:
        return
    try:
        os.setresuid(0, 0, 0)
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, 0)
        os.setresuid(account.uid, account.uid, 0)
        if account.uid != 0:
            _go_on_reading()
    except OSError as error:
        what = (
            f"this command cannot work as account {account.uid}, which the station's folders"
            " belong to"
        )
        raise StorageError(f"{what} ({error.strerror}): run it as that account") from error


def _go_on_reading() -> None:
    """Keep root's right to read and search, and no other, also in the programs that are started
    meanwhile.

    Python itself, or the folder above the station, may be closed to the service's account, as under
    /root. Where root has not got that right either (some containers), the account's own must do.
    """
    header, rights = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    if libc.capget(header, rights) or not rights[PERMITTED] & READ_AND_SEARCH:
        return
    rights[EFFECTIVE], rights[INHERITABLE] = READ_AND_SEARCH, READ_AND_SEARCH
    if libc.capset(header, rights) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0)
