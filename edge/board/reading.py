"""Small files of the kernel and the programs of a system, read so that nothing can go wrong: what
cannot be read is None.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from edge.provision.architecture import file_inside

FILE_LIMIT = 256 << 10  # bytes; a file of /proc or /sys is a page, a configuration some of them
PROGRAM_S = 10.0  # nvpmodel and jetson_clocks answer within one second
SEARCHED = "/usr/sbin:/usr/bin:/sbin:/bin"


def read_small(path: Path) -> str | None:
    """The text of a small file, without NUL and outer blanks; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT).decode(errors="replace").strip("\0 \n\t")
    except OSError:
        return None


def read_number(path: Path, unit: int = 1) -> int | None:
    """The decimal number that a file holds, times `unit`; None if it holds none."""
    try:
        return int(read_small(path) or "") * unit
    except ValueError:
        return None


def read_fields(path: Path) -> dict[str, int]:
    """The numbers of a file of lines `Name:  1234 kB`, such as /proc/meminfo; what is no such line
    is left out.
    """
    found = {}
    for line in (read_small(path) or "").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdecimal():
            found[name] = int(number[0])
    return found


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """What lies in a folder, by name; nothing where it cannot be read."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def run_program(root: Path, place: str, *arguments: str) -> tuple[int, str] | None:
    """Exit code and output of a program of the system under `root`; None where there is none, it
    cannot be started or does not end.

    It reads nothing from the terminal: a program that asks a question gets no answer.
    """
    program = file_inside(root, place)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [str(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROGRAM_S,
            env={"PATH": SEARCHED, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode, done.stdout.decode(errors="replace")
