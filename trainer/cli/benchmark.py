"""`trainer benchmark`: every system on every category, in the papers' tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:
    from trainer.benchmark.plan import DepthChoice, Job
    from trainer.runner.protocol import Runner


def benchmark(
    data: list[str] = typer.Option(
        ...,
        metavar="NAME=FOLDER",
        help=(
            "A product or a folder of products (MVTec AD, MVTec 3D-AD, VisA, BTAD); may be"
            " repeated."
        ),
    ),
    out: Path = typer.Option(
        ...,
        "--out",
        metavar="FOLDER",
        help="Folder for runs and tables. An interrupted benchmark in it goes on.",
        readable=False,
    ),
    systems: str = typer.Option(
        "mats,ntsnet,aand,m3dm,vmpfd", metavar="NAMES", help="Detectors, separated by commas."
    ),
    preset: str = typer.Option(
        "compact",
        metavar="PRESET",
        help="compact: for a small device. paper: the publication's settings.",
    ),
    seeds: str = typer.Option(
        "0,1,2", metavar="NUMBERS", help="One run for each seed, separated by commas."
    ),
    depth: str = typer.Option(
        "with", metavar="CHOICE", help="Of products with depth: with, without or both."
    ),
    epochs: int | None = typer.Option(
        None, min=1, metavar="N", help="Epochs of every phase instead of the preset's."
    ),
    weights: Path | None = typer.Option(
        None, metavar="FILE", help="Backbone weights, as in `trainer train`.", readable=False
    ),
    textures: Path | None = typer.Option(
        None, metavar="FOLDER", help="Textures, as in `trainer train`.", readable=False
    ),
    pretrained: list[str] = typer.Option(
        [],
        metavar="SYSTEM=FILE",
        help="An encoder of `trainer pretrain` for that system's runs; may be repeated.",
    ),
    device: str = typer.Option(
        "cpu", metavar="DEVICE", help="Where to train: cpu or cuda. Evaluated and timed on the CPU."
    ),
    runner: str | None = typer.Option(
        None,
        "--runner",
        metavar="RUNNER",
        help=(
            "Where trainings run: local, local:N, ray://HOST:PORT, ray://local or"
            " slurm://PARTITION?gpus=1; default: local."
        ),
    ),
    workers: int | None = typer.Option(
        None, min=1, metavar="N", help="Most trainings at once here, the same as --runner local:N."
    ),
    threads: int = typer.Option(
        1, min=1, metavar="N", help="Threads of each training; its result depends on them."
    ),
) -> None:
    """Train and evaluate systems on whole data sets, in the papers' tables: benchmark.html, .md and
    .json, written anew after each run.

    After Ctrl-C or a failed run the same command does what is left, and nothing twice.
    """
    from trainer.benchmark.plan import Request, plan
    from trainer.runner.factory import make_runner, shared_folder

    choice = _depth(depth)
    folder = shared_folder(out)
    chosen = make_runner(_where(runner, workers), folder, device)
    jobs = plan(
        Request(
            data=_named("--data", "NAME=FOLDER", data),
            systems=[name.strip() for name in systems.split(",") if name.strip()],
            preset=preset,
            seeds=_seeds(seeds),
            depth=choice,
            epochs=epochs,
            weights=weights,
            textures=textures,
            device=device,
            pretrained=_named("--pretrained", "SYSTEM=FILE", pretrained),
        )
    )
    _run(jobs, folder, chosen, threads)


def _run(jobs: Sequence[Job], out: Path, runner: Runner, threads: int) -> None:
    """Do what is left of the jobs; pages after each. Raises: DataError if any failed."""
    from edge.errors import DataError
    from trainer.benchmark.page import write_pages
    from trainer.benchmark.result import read_result
    from trainer.benchmark.run import run_all, time_results
    from trainer.command import command_line
    from trainer.runner.head import only_head

    out.mkdir(parents=True, exist_ok=True)

    def pages() -> None:
        found = {job: result for job in jobs if (result := read_result(job, out)) is not None}
        write_pages(out, found, len(jobs), command_line())

    with only_head(out, "trainer benchmark"):
        run_all(jobs, out, runner, typer.echo, pages, threads)
        time_results(jobs, out)
        pages()
    failed = [job for job in jobs if (result := read_result(job, out)) is None or result.error]
    typer.echo(f"wrote {out / 'benchmark.html'}, .md and .json: open the first in a browser")
    if failed:
        first = failed[0].describe()
        raise DataError(
            f"{len(failed)} of {len(jobs)} runs failed, the first is {first}: the tables say why"
        )


def _depth(text: str) -> DepthChoice:
    """Raises: ConfigError."""
    from edge.errors import ConfigError

    if text not in ("with", "without", "both"):
        raise ConfigError(f"--depth {text!r}: with, without or both")
    return cast("DepthChoice", text)


def _where(runner: str | None, workers: int | None) -> str:
    """The runner that is meant. Raises: ConfigError."""
    from edge.errors import ConfigError

    if workers is not None and runner is not None:
        raise ConfigError("--workers and --runner say the same thing twice: leave --workers out")
    return runner or (f"local:{workers}" if workers else "local")


def _seeds(text: str) -> list[int]:
    """Raises: ConfigError."""
    from edge.errors import ConfigError

    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds {text!r}: whole numbers, separated by commas") from error


def _named(option: str, what: str, entries: list[str]) -> dict[str, Path]:
    """Paths by name, of entries of the form `what`, each name once. Raises: ConfigError."""
    from edge.errors import ConfigError

    named: dict[str, Path] = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not equals or not name or "/" in name or name in named:
            raise ConfigError(
                f"{option} {entry!r}: expected {what}, each name once and without a slash"
            )
        named[name] = Path(path)
    return named
