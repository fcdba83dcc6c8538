"""Where the features of normal parts lie that a station may shift and scale."""

from __future__ import annotations

from pathlib import Path

from edge.bundle.manifest import ChannelStatistics
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.frames.dataset import Dataset
from trainer.data.choose import spread
from trainer.export.proof_frames import feeds_of
from trainer.progress import progress
from trainer.train.trained_run import TrainedRun

MOST_PARTS = 200  # normal training parts, evenly over all: more hardly move a mean


def channel_statistics(run: TrainedRun, dataset: Dataset, exact: Path) -> ChannelStatistics | None:
    """Of the run's normal training parts, as the float32 file gives them; None where the graph has
    no moments, or no training part shows any foreground.

    Args:
        dataset: with the training parts. exact: the float32 file.
    """
    if "moments" not in run.deployed.outputs:
        return None
    by_name = {sample.name: sample for sample in dataset.samples}
    names = spread(run.info.train, MOST_PARTS)
    engine = OnnxCpuEngine(exact)
    shown = progress(names, "measuring features of normal training parts")
    answers = (engine.run(feeds_of(run, by_name[name])) for name in shown)
    found = [answer["moments"] for answer in answers if answer["area"].item() > 0]
    engine.close()
    return ChannelStatistics.of_parts(found) if found else None
