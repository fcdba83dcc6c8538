"""The process in which one engine is measured: a request on standard input, the engine's entry as
JSON in return.
"""

from __future__ import annotations

import logging
import os
import sys

from edge.bounded import enter_child


def main() -> None:
    """Answer one request, then end without the interpreter's own end, in which runtimes like to
    crash.
    """
    answer = enter_child()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    from edge.install.measure_engine import MeasureRequest, measure_engine

    entry = measure_engine(MeasureRequest.model_validate_json(sys.stdin.buffer.read()))
    with os.fdopen(answer, "wb") as file:
        file.write(entry.model_dump_json(by_alias=True).encode())
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
