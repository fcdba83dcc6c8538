"""Which parts come, and what is right for them: made up, from a file, or from the folder that the
station is known to play.
"""

from __future__ import annotations

import csv
import io
import itertools
import time
from pathlib import Path

from edge.config import EdgeConfig
from edge.errors import ConfigError
from edge.files import read_text
from edge.frames.listing import is_good, plain
from edge.line.inbound import N_LIMIT, PART_WITH_ENC
from edge.line.message import clean_part
from edge.sections import PLAYED
from edge.simulate.cell import Planned
from edge.types import Code

FILE_LIMIT = 16 << 20  # bytes
CODES = {"1": Code.OK, "2": Code.NG, "ok": Code.OK, "ng": Code.NG}


def first_number(now_s: float) -> int:
    """Where the PLC's count begins: never where it was in a run before, at up to 100 parts/s."""
    return int(now_s * 100) % (N_LIMIT // 2) + 1


def made_up(parts: int, expected: Code | None, first: int | None = None) -> list[Planned]:
    """Parts named by their number, P1 and so on. first: by default from the time."""
    begin = first_number(time.time()) if first is None else first
    return [Planned(f"P{n}", n, expected) for n in range(begin, begin + parts)]


def from_file(path: Path, parts: int | None, first: int | None = None) -> list[Planned]:
    """The parts of a CSV file with the columns part,code, again from its beginning where more are
    asked for than it has. code: 1 or OK, 2 or NG.

    Raises: ConfigError naming the line that cannot be used.
    """
    text = read_text(path, limit=FILE_LIMIT)
    rows = [row for row in enumerate(csv.reader(io.StringIO(text)), 1) if any(row[1])]
    if rows and [cell.strip().lower() for cell in rows[0][1]] == ["part", "code"]:
        rows = rows[1:]
    known = [_row(path, number, cells) for number, cells in rows]
    if not known:
        raise ConfigError(f"{path} names no part: write one a line, part,code (1 OK, 2 NG)")
    begin = first_number(time.time()) if first is None else first
    several = itertools.islice(itertools.cycle(known), parts or len(known))
    return [Planned(part, begin + index, code) for index, (part, code) in enumerate(several)]


def known_code(config: EdgeConfig) -> Code | None:
    """What every part is, if the station plays a folder whose name says so: OK for good (or ok,
    normal), NG for any other below test; None where it is not known.
    """
    camera = config.camera
    if camera.kind not in PLAYED or not camera.path:
        return None
    folder = Path(camera.path)
    if is_good(folder.name):
        return Code.OK
    return Code.NG if plain(folder.parent.name) == "test" else None


def _row(path: Path, number: int, cells: list[str]) -> tuple[str, Code]:
    part, code = (cells[0].strip(), cells[1].strip().lower()) if len(cells) == 2 else ("", "")
    if code not in CODES:
        raise ConfigError(f"{path}, line {number}: write part,code (1 or OK, 2 or NG)")
    if not part or clean_part(part) != part or len(part) > PART_WITH_ENC:
        raise ConfigError(
            f"{path}, line {number}: a part has 1 to {PART_WITH_ENC} printable ASCII characters,"
            " no space, quote or backslash"
        )
    return part, CODES[code]
