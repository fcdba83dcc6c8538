"""`trainer evaluate`: a run judges images and leaves a table, evaluate.json and report.html."""

from __future__ import annotations

from pathlib import Path

import typer


def evaluate(
    run: Path = typer.Argument(
        ..., metavar="RUN", help="Run folder of `trainer train`.", readable=False
    ),
    data: Path | None = typer.Argument(
        None,
        metavar="DATA",
        help="Folder of images to judge. Default: the data of the run.",
        readable=False,
    ),
    defects: Path | None = typer.Option(
        None,
        metavar="FOLDER",
        help="Defective images to judge too, or a sub-folder of them for each defect type.",
        readable=False,
    ),
) -> None:
    """Judge images with a run, and write its report: how many good parts are rejected, how many
    defective ones are found.

    Of the run's own data the test images are judged; of any other folder all images, and the report
    goes to RUN/evaluations. Without defective images synthetic defects stand in, and there is no
    AUROC. With good and defective images the last line has I-AUROC, P-AUROC and AUPRO of all.
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
    typer.echo(f"wrote {report}: open it in a browser")
    typer.echo(last_line(evaluation, trained.info.threshold.guarantee))
