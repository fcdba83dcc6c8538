"""`trainer benchmark`: every system on every category, in the papers' tables."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer


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
    import os
    import shlex
    import sys

    from edge.errors import ConfigError, DataError
    from edge.files import require_folder_target
    from trainer.benchmark.page import write_pages
    from trainer.benchmark.plan import DepthChoice, Request, plan
    from trainer.benchmark.result import read_result
    from trainer.benchmark.run import run_all, time_results
    from trainer.device import require_device
    from trainer.runner.factory import make_runner
    from trainer.runner.head import only_head

    if depth not in ("with", "without", "both"):
        raise ConfigError(f"--depth {depth!r}: with, without or both")
    require_folder_target(out, "--out")
    if workers is not None and runner is not None:
        raise ConfigError("--workers and --runner say the same thing twice: leave --workers out")
    where = runner or (f"local:{workers}" if workers else "local")
    out = Path(os.path.abspath(out))  # noqa: PTH100  # links stay: other machines have them too
    chosen = make_runner(where, out)
    if where.startswith("local"):
        require_device(device)
    folders = _named("--data", "NAME=FOLDER", data)
    encoders = _named("--pretrained", "SYSTEM=FILE", pretrained)
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds {seeds!r}: whole numbers, separated by commas") from error
    names = [name.strip() for name in systems.split(",") if name.strip()]
    request = Request(
        folders,
        names,
        preset,
        numbers,
        cast(DepthChoice, depth),
        epochs,
        weights,
        textures,
        device,
        encoders,
    )
    jobs = plan(request)
    out.mkdir(parents=True, exist_ok=True)
    command = "trainer " + shlex.join(sys.argv[1:])

    def pages() -> None:
        found = {job: result for job in jobs if (result := read_result(job, out)) is not None}
        write_pages(out, found, len(jobs), command)

    with only_head(out, "trainer benchmark"):
        run_all(jobs, out, chosen, typer.echo, pages, threads)
        time_results(jobs, out)
        pages()
    failed = [job for job in jobs if (result := read_result(job, out)) is None or result.error]
    typer.echo(f"wrote {out / 'benchmark.html'}, .md and .json: open the first in a browser")
    if failed:
        first = failed[0].describe()
        raise DataError(
            f"{len(failed)} of {len(jobs)} runs failed, the first is {first}: the tables say why"
        )


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
