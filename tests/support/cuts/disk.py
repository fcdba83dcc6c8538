"""A model of a file system that knows which changes are only in memory: it rebuilds from a log of
calls what SIGKILL or a power cut at each call leaves.

SIGKILL loses nothing that a call has done. A power cut loses everything that was not synced, or any
subset of it, since the kernel writes back in any order:

- Data of a file is safe once that file was synced; before, it may be there, partly there, or
  missing from a file that has already its new length (zeros) or its old one.
- A name (create, rename, link, unlink) is safe once its folder was synced, or both of a rename's.
  POSIX promises no more, and not even that the sync of a new file keeps the file's name, which ext4
  does.

SQLite's -shm files are left out: they are written through mmap, hold no data, and the first process
that opens the database after a cut makes them anew from the -wal.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HEAD = struct.Struct("=5Q")
Kind = Literal["folder", "file", "link"]


@dataclass(frozen=True)
class Call:
    """One call of the log.

    number: offset, size, mode or flags; first, second: paths, a link's target, data.
    """

    op: str
    inode: int
    number: int
    first: bytes
    second: bytes


@dataclass(frozen=True)
class Entry:
    """What lies under one name. content: of a file its bytes, of a link its target."""

    kind: Kind
    mode: int
    content: bytes
    digest: bytes


# (path below the root, inode, st_mode, content), folders first
Snapshot = list[tuple[str, int, int, bytes]]
Tree = dict[str, Entry]  # by path below the root, folders before what lies in them


def read_log(path: Path) -> list[Call]:
    data, at, calls = path.read_bytes(), 0, []
    while at < len(data):
        op, inode, number, n1, n2 = HEAD.unpack_from(data, at)
        at += HEAD.size
        calls.append(Call(chr(op), inode, number, data[at : at + n1], data[at + n1 : at + n1 + n2]))
        at += n1 + n2
    return calls


def left_out(name: str) -> bool:
    return name.endswith("-shm")


def entry(kind: Kind, mode: int, content: bytes) -> Entry:
    return Entry(kind, mode, content, hashlib.blake2b(content, digest_size=12).digest())


# --- inodes ---


@dataclass
class Version:
    """Bytes and mode of a file at one time."""

    data: bytes
    mode: int
    _entry: Entry | None = None

    def entry(self) -> Entry:
        if self._entry is None:
            self._entry = entry("file", self.mode, self.data)
        return self._entry


Change = tuple[Literal["write", "size", "mode"], int, bytes]


def changed(version: Version, change: Change) -> Version:
    what, number, data = change
    old = version.data
    if what == "mode":
        return Version(old, number)
    if what == "size":
        return Version(old[:number].ljust(number, b"\0"), version.mode)
    return Version(
        old[:number].ljust(number, b"\0") + data + old[number + len(data) :], version.mode
    )


@dataclass
class File:
    """safe: what was synced; now: what a reader sees; pending: the changes between the two, in
    order.
    """

    safe: Version
    now: Version
    pending: list[Change] = field(default_factory=list)
    _cache: dict[tuple[str, int], Version] = field(default_factory=dict)

    def change(self, change: Change) -> None:
        self.now = changed(self.now, change)
        self.pending.append(change)
        self._cache.clear()

    def restore(self, now: Version, pending: list[Change]) -> None:
        self.now, self.pending = now, pending
        self._cache.clear()

    def sync(self) -> None:
        self.safe, self.pending = self.now, []
        self._cache.clear()

    def after_cut(self, policy: str) -> Version:
        """What is on the disk after a power cut; POLICIES says by which rule."""
        if not self.pending or policy == "all":
            return self.now
        key = (policy, len(self.pending))
        if key not in self._cache:
            self._cache[key] = POLICIES[policy](self)
        return self._cache[key]


def _torn(file: File) -> Version:
    """The first half of the changes, and half of the one in the middle."""
    middle = len(file.pending) // 2
    version = file.safe
    for change in file.pending[:middle]:
        version = changed(version, change)
    return changed(version, half_of(file.pending[middle], version.data))


def _late_ones(file: File) -> Version:
    """The last changes reached the disk before the first."""
    version = file.safe
    for change in file.pending[-(len(file.pending) // 2) or -1 :]:
        version = changed(version, change)
    return version


def _zeros(file: File) -> Version:
    """The file has its new length and mode, and zeros where it grew."""
    size = len(file.now.data)
    return Version(file.safe.data[:size].ljust(size, b"\0"), file.now.mode)


POLICIES: dict[str, Callable[[File], Version]] = {
    "none": lambda file: file.safe,
    "zeros": _zeros,
    "torn": _torn,
    "late": _late_ones,
    "all": lambda file: file.now,
}


def half_of(change: Change, old: bytes) -> Change:
    """A write that stopped in the middle of what it changes."""
    what, number, data = change
    if what != "write":
        return change
    before = old[number : number + len(data)].ljust(len(data), b"\0")
    first = next((i for i, (a, b) in enumerate(zip(data, before, strict=True)) if a != b), 0)
    last = next((i for i in range(len(data) - 1, -1, -1) if data[i] != before[i]), len(data) - 1)
    return what, number, data[: (first + last + 1) // 2]


@dataclass
class Link:
    target: bytes
    mode: int = 0o777


@dataclass(eq=False)
class Folder:
    mode: int
    names: dict[str, Node] = field(default_factory=dict)  # as a reader sees them


Node = File | Link | Folder


@dataclass
class Naming:
    """One call that changed names: each (folder, name, what it names now or None).

    It is done or not, never half, and safe once each of its folders was synced: waiting_for are
    those that were not.
    removed: a folder that this call removed, whose own names are of no interest any more once that
    is safe.
    """

    changes: list[tuple[Folder, str, Node | None]]
    removed: Folder | None = None
    waiting_for: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.waiting_for = {id(folder) for folder in self.folders}

    @property
    def folders(self) -> list[Folder]:
        return [folder for folder, _, _ in self.changes]


# --- the disk ---


class Disk:
    """Everything under one root, from a snapshot on."""

    def __init__(self, root: str, snapshot: Snapshot) -> None:
        """snapshot: what lies there and is safe; the root's own path is ""."""
        self._prefix = root.encode()
        self._inodes: dict[int, Node] = {}
        self._namings: list[Naming] = []
        self._root = Folder(0o755)
        # all that ever was, so that id() of a folder is never given to another
        self._known: list[Node] = []
        for path, inode, mode, content in snapshot:
            self._know(inode, self._place(path, mode, content))
        self._safe_names = {id(folder): dict(folder.names) for folder in self._folders()}

    def _place(self, path: str, mode: int, content: bytes) -> Node:
        if path == "":
            self._root.mode = stat.S_IMODE(mode)
            return self._root
        folder, name = self._find(path)
        permissions = stat.S_IMODE(mode)
        node: Node
        if stat.S_ISDIR(mode):
            node = Folder(permissions)
        elif stat.S_ISLNK(mode):
            node = Link(content)
        else:
            version = Version(content, permissions)
            node = File(version, version)
        folder.names[name] = node
        return node

    def _know(self, inode: int, node: Node) -> None:
        self._inodes[inode] = node
        self._known.append(node)

    def _folders(self) -> Iterator[Folder]:
        waiting = [self._root]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting += [node for node in folder.names.values() if isinstance(node, Folder)]

    def _find(self, path: str) -> tuple[Folder, str]:
        """The folder of a path below the root, links on the way followed, and its last name."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        trail = [self._root]
        for depth, part in enumerate(parts[:-1]):
            if part == "..":
                trail.pop()
                continue
            node = trail[-1].names[part]
            if isinstance(node, Link):
                here = parts[:depth]
                return self._find("/".join([*here, node.target.decode(), *parts[depth + 1 :]]))
            assert isinstance(node, Folder), path
            trail.append(node)
        return trail[-1], parts[-1]

    def _below(self, path: bytes) -> tuple[Folder, str] | None:
        """None for a path that is not under the root."""
        if not path.startswith(self._prefix + b"/"):
            return None
        return self._find(path[len(self._prefix) + 1 :].decode())

    def apply(self, call: Call) -> bool:
        """Carry out one call. Returns: whether it was about this root."""
        return self._apply_inode(call) if call.op in "WZHF" else self._apply_names(call)

    @contextmanager
    def within(self, call: Call) -> Iterator[bool]:
        """Carry out half of a write, and take it back at the end.

        Yields: whether there is such a half.
        """
        file = self._inodes.get(call.inode)
        if call.op != "W" or len(call.second) < 2 or not isinstance(file, File):
            yield False
            return
        now, pending = file.now, list(file.pending)
        file.change(half_of(("write", call.number, call.second), now.data))
        yield True
        file.restore(now, pending)

    def _apply_inode(self, call: Call) -> bool:
        node = self._inodes.get(call.inode)
        if node is None:
            return False
        if call.op == "F":
            self._sync(node)
        elif isinstance(node, Folder):
            node.mode = call.number
        elif isinstance(node, File):
            what: Literal["write", "size", "mode"] = {"W": "write", "Z": "size", "H": "mode"}[
                call.op
            ]  # type: ignore[assignment]
            node.change((what, call.number, call.second))
        return True

    def _sync(self, node: Node) -> None:
        if isinstance(node, File):
            node.sync()
        if isinstance(node, Folder):
            synced = [node]
            for folder in synced:  # grows: what lay in a folder that is safely gone is gone
                synced += [
                    one.removed for one in self._namings if one.removed and one.folders == [folder]
                ]
            for naming in self._namings:
                naming.waiting_for -= {id(folder) for folder in synced}

    def _apply_names(self, call: Call) -> bool:
        changes = self._name_changes(call)
        removed = None
        for folder, name, node in changes:
            if node is None:
                gone = folder.names.pop(name)
                removed = gone if call.op == "U" and isinstance(gone, Folder) else None
            else:
                folder.names[name] = node
        if changes:
            self._namings.append(Naming(changes, removed))
        return bool(changes)

    def _name_changes(self, call: Call) -> list[tuple[Folder, str, Node | None]]:
        place = self._below(call.first)
        other = self._below(call.second) if call.op in "RL" else None
        if place is None:
            assert other is None, f"{call.first!r} came from outside the root"
            return []
        folder, name = place
        if left_out(name):
            return []
        if call.op == "U":
            return [(folder, name, None)]
        if call.op in "RL":
            assert other is not None, f"{call.first!r} left the root"
            assert not call.number, (
                f"{call.first!r} was renamed with flags, which is not known here"
            )
            node = folder.names[name]
            return [(*other, node)] if call.op == "L" else [(folder, name, None), (*other, node)]
        node = self._new(call)
        self._know(call.inode, node)
        return [(folder, name, node)]

    def _new(self, call: Call) -> Node:
        if call.op == "M":
            return Folder(call.number)
        if call.op == "S":
            return Link(call.second)
        empty = Version(b"", call.number)
        return File(empty, empty)

    # --- what is left ---

    def after_kill(self) -> Tree:
        """Every call counts."""
        return self._tree(lambda folder: folder.names, "all")

    def after_power_cuts(self) -> Iterator[tuple[str, Tree]]:
        """What the disk may hold, each with the rule it follows.

        What comes twice is yielded twice.
        """
        pending = [naming for naming in self._namings if naming.waiting_for]
        folders = {id(folder): folder for naming in pending for folder in naming.folders}
        for policy in ("none", "torn", "late", "all"):
            yield f"no unsynced name, data {policy}", self._cut(lambda _: False, policy)
        for policy in ("none", "zeros", "torn", "late"):
            yield f"every name, data {policy}", self._cut(lambda _: True, policy)
        if len(folders) > 1:
            for one in folders.values():
                yield (
                    "names of one folder",
                    self._cut(lambda n, one=one: any(f is one for f in n.folders), "none"),
                )
                yield (
                    "names of all but one",
                    self._cut(lambda n, one=one: all(f is not one for f in n.folders), "none"),
                )

    def _cut(self, keeps: Callable[[Naming], bool], policy: str) -> Tree:
        names = dict(self._safe_names)
        copied: set[int] = set()
        for naming in self._namings:
            if naming.waiting_for and not keeps(naming):
                continue
            for folder, name, node in naming.changes:
                if id(folder) not in copied:
                    copied.add(id(folder))
                    names[id(folder)] = dict(names.get(id(folder), {}))
                if node is None:
                    names[id(folder)].pop(name, None)
                else:
                    names[id(folder)][name] = node
        return self._tree(lambda folder: names.get(id(folder), {}), policy)

    def _tree(self, names_of: Callable[[Folder], dict[str, Node]], policy: str) -> Tree:
        tree: Tree = {}
        waiting: list[tuple[str, Folder]] = [("", self._root)]
        while waiting:
            prefix, folder = waiting.pop()
            for name, node in names_of(folder).items():
                path = prefix + name
                if isinstance(node, Folder):
                    tree[path] = Entry("folder", node.mode, b"", b"")
                    waiting.append((f"{path}/", node))
                elif isinstance(node, Link):
                    tree[path] = entry("link", node.mode, node.target)
                elif not left_out(name):
                    tree[path] = node.after_cut(policy).entry()
        return tree


def key_of(tree: Tree) -> int:
    """The same for trees that are the same."""
    return hash(frozenset((path, one.kind, one.mode, one.digest) for path, one in tree.items()))


# --- real folders ---


def snapshot(root: Path) -> Snapshot:
    """What Disk begins with."""
    found = []
    for path in (root, *sorted(root.rglob("*"))):
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        name = "" if path == root else path.relative_to(root).as_posix()
        if not left_out(name):
            found.append((name, status.st_ino, status.st_mode, content))
    return found


class Builder:
    """Lays trees down as real folders; the files of bundles, which nothing changes, are hard links
    to one copy each.
    """

    def __init__(self, work: Path) -> None:
        """work: a folder on the file system where the trees will lie."""
        self._pool = work / "pool"
        self._pool.mkdir()
        self._copies: dict[tuple[bytes, int], str] = {}

    def build(self, tree: Tree, root: Path) -> Path:
        """Lay `tree` down at `root`, in place of what lies there."""
        if root.exists():
            shutil.rmtree(root)
        root.mkdir()
        for path, one in sorted(tree.items()):
            target = f"{root}/{path}"
            if one.kind == "folder":
                # thousands of trees: pathlib would take half of the time
                os.mkdir(target, one.mode)  # noqa: PTH102
            elif one.kind == "link":
                os.symlink(one.content, os.fsencode(target))  # noqa: PTH211
            elif "/slots/" in path or "/.staging/" in path:
                os.link(self._copy_of(one), target)
            else:
                _write(target, one)
        return root

    def require_untouched(self) -> None:
        """No command wrote into a bundle's file in place, which a cut would leave half written."""
        for (digest, _), path in self._copies.items():
            assert entry("file", 0, Path(path).read_bytes()).digest == digest, (
                f"{path} was written in place"
            )

    def _copy_of(self, one: Entry) -> str:
        key = (one.digest, one.mode)
        if key not in self._copies:
            self._copies[key] = f"{self._pool}/{len(self._copies)}"
            _write(self._copies[key], one)
        return self._copies[key]


def _write(path: str, one: Entry) -> None:
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(one.content)
    os.chmod(path, one.mode)  # noqa: PTH101
