"""`trainer evaluate`: a table per defect type, evaluate.json, report.html."""

from __future__ import annotations

from pathlib import Path

import typer


def evaluate(
    run: Path = typer.Argument(..., help="Run folder of `trainer train`."),
    data: Path = typer.Argument(..., help="Product folder with test images."),
) -> None:
    """Judge the test images with the run's graph; the last line printed is the mean over them."""
    from edge.frames.dataset import open_dataset
    from trainer.evaluate import evaluate_run, last_line, write_evaluation
    from trainer.run import load_run
    from trainer.table import table_lines, threshold_lines

    trained, dataset = load_run(run), open_dataset(data)
    evaluation = evaluate_run(trained, dataset)
    write_evaluation(trained, dataset, evaluation)
    for line in (*table_lines(evaluation), *threshold_lines(trained, evaluation)):
        typer.echo(line)
    typer.echo(f"wrote {run / 'report.html'}")
    typer.echo(last_line(evaluation.overall))
