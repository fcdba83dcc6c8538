"""`edge page` as the service starts it: without the command line's own libraries, which would stay
in memory.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from edge.config import read_config
from edge.errors import EdgeError, on_one_line
from edge.files import sentence_of
from edge.page.serve import serve
from edge.page.vault import DATA
from edge.station.account import acting_for


def main() -> int:
    """Serve until stopped; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edge.page", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="Root of the station.")
    root = parser.parse_args().root
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        with acting_for(root, DATA):
            serve(root, read_config(root))
    except EdgeError as error:
        print(f"edge: {on_one_line(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"edge: {on_one_line(sentence_of(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
