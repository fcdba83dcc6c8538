"""With whose rights a command of root works inside a station's folders.

The service's account owns var/lib/edge, so it can put a link wherever root expects a folder or a
file, at any moment. Checking paths before they are used does not help against that, and SQLite
opens its files by path. So root does not use its own rights there: what it changes inside a folder
that belongs to another account, it changes as that account, and a link then leads only to what that
account could have changed itself. The kernel enforces it at every single step, also against a link
that is put there meanwhile; and what root makes there belongs to the service, to go on with.

Nothing changes for a command that root does not run, nor where root owns everything. There, and for
a clear sentence everywhere, `require_plain` refuses links in the places that Store knows.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgeError, StorageError
from edge.files import sentence_of

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
    """What this process works as meanwhile: own is whom it goes back to, place what it is about."""

    own: Account
    place: tuple[Path, Path]


class _Process:
    """Rights belong to the process: one of this for all its threads."""

    acting: _Acting | None = None


_process = _Process()


def real_uid() -> int:
    """The account that started this command, also while it works as another one."""
    return os.getuid() if _process.acting is None else _process.acting.own.uid


@contextmanager
def acting_for(root: Path, place: Path) -> Iterator[None]:
    """Work inside `root`/`place` with the rights of whoever owns it, if root runs this; else with
    one's own.

    May be nested: each is about its own place. The threads of a process share their rights: what
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
    for part in (".", *place.parts):
        path = path / part
        try:
            about = path.stat()
        # not there yet, made with the rights found so far; or a fault that the act itself will tell
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
    """Change to the account's rights. The saved user stays root, which only this process can go
    back to.

    A program started meanwhile has the account's rights alone. Raises: StorageError where the
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


# --- what stands in the places that are known ---


def require_plain(folders: Iterable[Path] = (), files: Iterable[Path] = ()) -> None:
    """See that no link stands where a folder or a file of the station belongs, so that no step
    leads out of it.

    A file has one name only: another hard link would be another file elsewhere that changes too. A
    folder in place of a file, or the other way round, leads nowhere, and the step itself says so.
    Only root is kept from following: an ordinary user's links are the user's own affair.
    Raises: StorageError naming the place and what has taken it.
    """
    if real_uid() != 0:
        return
    for folder in folders:
        about = _about(folder)
        if about is not None and stat.S_ISLNK(about.st_mode):
            raise _taken(folder, "a link", "a folder")
    for file in files:
        about = _about(file)
        if about is None or stat.S_ISDIR(about.st_mode):
            continue
        if not stat.S_ISREG(about.st_mode):
            raise _taken(
                file,
                "a link" if stat.S_ISLNK(about.st_mode) else "a pipe, socket or device",
                "a file",
            )
        if about.st_nlink > 1:
            raise _taken(file, "a second name (a hard link) of a file elsewhere", "a file")


def require_closed(places: Iterable[Path], error: type[EdgeError]) -> None:
    """Raises: `error` naming the first place that every account on this machine may write."""
    for place in places:
        about = _about(place)
        if about is not None and not stat.S_ISLNK(about.st_mode) and about.st_mode & stat.S_IWOTH:
            raise error(
                f"{place} may be changed by every account of this machine: run `chmod o-w {place}`,"
                " and look at what lies there"
            )


def _about(place: Path) -> os.stat_result | None:
    """What stands there, links not followed; None where nothing does."""
    try:
        return place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(sentence_of(error, place)) from error


def _taken(place: Path, found: str, wanted: str) -> StorageError:
    return StorageError(
        f"{place} is {found} where {wanted} of the station belongs, and is not followed: see who"
        " put it there, then move it away; another disk is brought in with `mount --bind`"
    )
