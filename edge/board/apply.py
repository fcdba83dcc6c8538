"""Gives the board the commissioned power mode and clocks again after a boot: the program of
edge-power.service, which runs as root. Clocks that jetson_clocks has set last until the next boot.

The file may belong to the account of the service: all that it can do is choose among the modes that
the board has, and between two ways of its clocks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge.board.model import is_jetson, machine_root
from edge.board.power import read_power
from edge.board.set_power import require_mode, set_clocks, set_mode
from edge.errors import EdgeError, on_one_line


def serve(root: Path) -> int:
    """Set what power.json says; the exit code. A machine that is no Jetson is left alone."""
    try:
        power, machine = read_power(root), machine_root(root)
        if power is None or not is_jetson(machine):
            return 0
        if power.mode is not None:
            set_mode(machine, require_mode(machine, power.mode))
        set_clocks(machine, power.clocks)
    except (EdgeError, OSError) as error:
        print(on_one_line(str(error)), file=sys.stderr)
        return 1
    print(f"power mode {power.mode}, clocks {power.clocks}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(serve(Path("/")))
