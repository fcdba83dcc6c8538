"""`edge backup` and `edge restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import root_option
from edge.usage import example

if TYPE_CHECKING:
    from edge.backup.restore import Restored

BACKUP_EXAMPLE = example(
    "edge backup /media/stick/cell7.backup", "edge backup cell7.backup --no-pictures"
)
RESTORE_EXAMPLE = example(
    "edge restore /media/stick/cell7.backup",
    "edge restore cell7.backup --key cell7.pub --dry-run",
    "edge restore cell7.backup --as cell8",
)


def backup(
    file: Path = typer.Argument(
        ..., help="File to write, best on another disk.", readable=False, metavar="FILE"
    ),
    pictures: bool = typer.Option(
        True, "--pictures/--no-pictures", help="With the pictures of the parts that were kept."
    ),
    root: Path = root_option(),
) -> None:
    """Everything that this station has, in one signed file: bundles, site state, records, audit,
    labels, trusted keys, users, station.toml. `edge restore` makes a station of it again.

    The station goes on judging meanwhile. Keep the file as safe as the station: its keys are in it.
    """
    from edge.backup.make import make_backup
    from edge.station.store import Store

    made = make_backup(Store(root), file, pictures)
    for passed in made.passed:
        print(f"not in it: {root / passed.name} ({passed.what})")
    for path in made.elsewhere:
        print(f"not in it: {path}, which station.toml names; keep a copy of it")
    if made.is_open:
        print(
            f"every account of this machine may read {file}, in which the station's keys are: its"
            " disk knows no modes; lock it away, or encrypt it"
        )
    size = f"{made.files} files, {made.about.size / 1e6:.1f} MB"
    with_pictures = "" if pictures else ", without the pictures of parts"
    print(f"{file}: {made.about.station}, {size}{with_pictures}, signed; `edge restore {file}`")


def restore(
    file: Path = typer.Argument(
        ..., help="What `edge backup` wrote.", readable=False, metavar="FILE"
    ),
    name: str | None = typer.Option(
        None,
        "--as",
        help="Restore under another name: this board does the work of that station as this one.",
        metavar="NAME",
    ),
    key: Path | None = typer.Option(
        None,
        help="The key of its station, as `edge report key` printed it there; default: of any.",
        readable=False,
        metavar="KEY",
    ),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Check file, signature, everything in it, and root; change nothing.",
    ),
    root: Path = root_option("; empty, or of a board that was flashed anew"),
) -> None:
    """Make this root the station that a backup is of: all of it, or nothing.

    Stop edge, edge-page and edge-opcua first. A root with records of its own is refused. An
    interrupted restore leaves the root as it was, or is finished by the same command.
    """
    from edge.backup.restore import restore_backup
    from edge.station.store import Store

    done = restore_backup(Store(root), file, name, key, dry_run)
    for line in _lines(done, file, root, dry_run):
        print(line)


def _lines(done: Restored, file: Path, root: Path, dry_run: bool) -> list[str]:
    from edge.errors import on_one_line

    about = done.about
    lines = [
        f"{file} is as it was signed: {about.station}, made by {about.who}, {about.when}",
        f"key          {done.key.keyid}",
        *done.doubts,
    ]
    if not about.has_pictures:
        lines.append("the pictures of the parts are not in it")
    if done.after is not None:
        lines.append(f"numbers of parts go on after {done.after}: none is given out twice")
    if dry_run:
        lines.append(f"it can be restored under {root}; nothing was changed")
    else:
        how = "the interrupted restore is finished" if done.was_finished else "restored"
        lines.append(f"{root}: {how}. Next: `edge verify`, then start `edge run`")
    return [on_one_line(line) for line in lines]
