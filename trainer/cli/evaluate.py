"""`trainer evaluate`: what a run says of images: a table, evaluate.json, report.html."""

from __future__ import annotations

from pathlib import Path

import typer


def evaluate(
    run: Path = typer.Argument(..., help="Run folder of `trainer train`.", readable=False),
    data: Path | None = typer.Argument(
        None, help="Folder of images to judge; default: the data of the run.", readable=False
    ),
    defects: Path | None = typer.Option(
        None,
        help=(
            "A folder of defective images that count too, or of one sub-folder for each defect"
            " type."
        ),
        readable=False,
    ),
) -> None:
    """Judge images with the run's graph: how many good parts are rejected, how many defective ones
    are found.

    Of the run's own data the test images are judged; of any other folder all images, and the report
    goes to RUN/evaluations. Without defective images synthetic defects stand in, and there is no
    AUROC. With good and defective images the last line printed is the mean over them.
    """
    from edge.files import require_folder_target
    from trainer.data.defects import require_defects_folder
    from trainer.evaluate.evaluation import evaluate_run, last_line
    from trainer.evaluate.files import write_evaluation
    from trainer.evaluate.judged import HOW_TO_NAME_DATA, data_folder, open_judged
    from trainer.evaluate.table import table_lines, threshold_lines
    from trainer.train.run_folder import EVALUATIONS
    from trainer.train.run_info import read_info
    from trainer.train.trained_run import load_run

    info = read_info(run)
    require_folder_target(run / EVALUATIONS)
    require_defects_folder(defects)
    data_folder(info, data, HOW_TO_NAME_DATA)
    trained = load_run(run)
    judged = open_judged(trained.info, data, defects)
    typer.echo(judged.sentence())
    evaluation = evaluate_run(trained, judged)
    report = write_evaluation(trained, judged, evaluation)
    for line in (
        *evaluation.notes,
        *table_lines(evaluation),
        *threshold_lines(trained, judged, evaluation),
    ):
        typer.echo(line)
    typer.echo(f"wrote {report}")
    typer.echo(last_line(evaluation, trained.info.threshold.guarantee))
