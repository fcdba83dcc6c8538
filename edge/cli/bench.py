"""`edge bench`: how fast this machine is, and in which conditions."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli.options import root_option
from edge.usage import example

EXAMPLE = example("edge bench", "edge bench orin-nano-25w.json --all --count 1000")


def bench(
    out: Path = typer.Argument(
        Path("bench.json"), help="File of the result.", readable=False, metavar="FILE"
    ),
    root: Path = root_option(),
    count: int = typer.Option(
        300, min=1, max=100_000, help="Frames and commits that are timed.", metavar="N"
    ),
    warm_up: int = typer.Option(
        30, "--warm-up", min=0, max=10_000, help="Frames before the first that counts.", metavar="N"
    ),
    everything: bool = typer.Option(
        False, "--all", help="Every precision of the bundle, not only the one that judges."
    ),
) -> None:
    """Time each stage of judging on the active bundle's own normal parts, and a record's way to the
    disk: median, 99th percentile and maximum, with power mode, clocks and temperature.

    Not while `edge run` is at work: both would be slower than they are.
    """
    from edge.files import require_file_target, write_json
    from edge.runtime.bench import Repeats, run_bench

    require_file_target(out, "FILE")
    report = run_bench(
        root, Repeats(count, warm_up), everything, lambda line: print(line, flush=True)
    )
    write_json(out, report.model_dump(by_alias=True))
    for line in report.lines():
        print(line)
    print(f"written: {out}")
