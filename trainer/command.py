"""The command as it was typed, for what is kept of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def command_line() -> str:
    """This process's command, quoted for a shell: `trainer evaluate runs/washer`; a script keeps
    its own name.
    """
    program = Path(sys.argv[0]).name
    return shlex.join(["trainer" if program == "__main__.py" else program, *sys.argv[1:]])
