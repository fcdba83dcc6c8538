"""`trainer campaign`: many trainings, each a job with its folder."""

from __future__ import annotations

from pathlib import Path

import typer


def campaign(
    file: Path = typer.Argument(
        ...,
        metavar="FILE",
        help="TOML with products, systems, seeds and presets; docs/scale.md has an example.",
        readable=False,
    ),
    out: Path = typer.Option(
        ...,
        "--out",
        metavar="FOLDER",
        help=(
            "Folder for the jobs and the page, seen by all machines. An interrupted campaign in it"
            " goes on."
        ),
        readable=False,
    ),
    runner: str = typer.Option(
        "local",
        "--runner",
        metavar="RUNNER",
        help=(
            "Where the jobs run: local, local:N, ray://HOST:PORT, ray://local or"
            " slurm://PARTITION?gpus=1."
        ),
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the commands and run nothing."),
) -> None:
    """Train, evaluate and export many products: one job for each product, system, preset and seed.

    After Ctrl-C, a kill or a failed job the same command does what is left, and nothing twice.
    FOLDER/campaign.html shows how far it is and renews itself.
    """
    from trainer.campaign.file import read_campaign
    from trainer.campaign.inputs import Inputs
    from trainer.campaign.plan import plan, shown
    from trainer.campaign.run import run_campaign
    from trainer.command import command_line
    from trainer.runner.factory import make_runner, shared_folder

    wish = read_campaign(file)
    folder = shared_folder(out)
    chosen = make_runner(runner, folder, wish.device)
    inputs = Inputs(folder)
    jobs = plan(wish, file, folder, inputs)
    if dry_run:
        for job in jobs:
            typer.echo("\n".join(shown(step) for step in job.task.steps))
        return
    folder.mkdir(parents=True, exist_ok=True)
    inputs.keep()
    run_campaign(jobs, folder, chosen, command_line(), typer.echo)
