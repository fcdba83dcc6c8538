"""Train and evaluate every job that has no result yet; a result is one small file, written last and
at once.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import TypeAdapter

from edge.errors import DataError, EdgeError
from edge.files import write_atomically, write_json
from edge.frames.dataset import open_dataset
from trainer.benchmark.plan import Job
from trainer.benchmark.result import RESULT_FILE, TRIPLE, Result, plain, read_result, triple
from trainer.evaluate.evaluation import Evaluation, evaluate_run
from trainer.evaluate.files import write_evaluation
from trainer.evaluate.judged import open_judged
from trainer.fit import FitControl
from trainer.runner.protocol import STOPPED, STOPPING, Outcome, Runner, Task
from trainer.train.options import TrainOptions
from trainer.train.trained_run import TrainedRun, load_run
from trainer.train.training import train

WARM_UP, TIMED = 3, 20
JOB_FILE = "job.json"
JOB = TypeAdapter(Job)
Tell = Callable[[str], None]


def run_all(
    jobs: Sequence[Job],
    out: Path,
    runner: Runner,
    tell: Tell,
    finished: Callable[[], None],
    threads: int = 1,
) -> None:
    """Hand out what has no result, or failed before.

    Args:
        finished: called after every job. threads: of each job; results depend on it.
    Raises: KeyboardInterrupt after Ctrl-C, once every training at hand has written its checkpoint.
    """
    left = [job for job in jobs if (stored := read_result(job, out)) is None or stored.error]
    tell(f"{len(jobs) - len(left)} of {len(jobs)} runs are done, {len(left)} are left")
    for job in left:
        write_job(job, out)
    by_place = {job.folder(out): job for job in left}
    tasks = [_task(job, out, threads) for job in left]
    try:
        runner.run(tasks, _Teller(by_place, out, tell, finished))
    except KeyboardInterrupt:
        tell(STOPPED)
        raise


class _Teller:
    """See trainer.runner.protocol.Watch."""

    def __init__(
        self, jobs: Mapping[Path, Job], out: Path, tell: Tell, finished: Callable[[], None]
    ) -> None:
        self._jobs, self._out, self._tell, self._finished = jobs, out, tell, finished

    def started(self, task: Task) -> None:
        """Nothing is told of it."""

    def finished(self, task: Task, outcome: Outcome) -> None:
        """A job that died has left no result: why is the result."""
        job = self._jobs[task.place]
        if outcome.code != 0:
            write_result(Result(job.identity, error=outcome.reason), task.place)
        result = read_result(job, self._out)
        self._tell(_line(job, result or Result(job.identity, error="it left no result")))
        self._finished()

    def waited(self) -> None:
        """Nothing is told of it."""

    def stopping(self, count: int) -> None:
        """See Watch."""
        self._tell(STOPPING.format(count))


def _task(job: Job, out: Path, threads: int) -> Task:
    place = job.folder(out)
    return Task(
        name=job.describe(),
        kind=f"{job.system} {job.preset} {'depth' if job.with_depth else 'color'}",
        steps=(("-m", "trainer.benchmark", str(place / JOB_FILE), str(out)),),
        place=place,
        threads=threads,
        gpus=1 if job.device == "cuda" else 0,
    )


def write_job(job: Job, out: Path) -> None:
    """Into its folder, for the process that does it."""
    folder = job.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    named = {name: getattr(job, name) for name in ("product", "weights", "textures", "pretrained")}
    absolute = {name: path and path.absolute() for name, path in named.items()}
    write_atomically(folder / JOB_FILE, JOB.dump_json(replace(job, **absolute), indent=1))


def run_job_file(file: Path, out: Path) -> Result:
    """Do the job that `write_job` wrote."""
    return run_job(JOB.validate_json(file.read_bytes()), out)


def run_job(job: Job, out: Path) -> Result:
    """Train, evaluate, store. A job that cannot be done leaves its one sentence as the result."""
    folder = job.folder(out)
    try:
        options = TrainOptions(
            preset=job.preset,
            epochs=job.epochs,
            seed=job.seed,
            with_depth=job.with_depth,
            weights=job.weights,
            cache=out / "cache",
            textures=job.textures,
            device=job.device,
            pretrained=job.pretrained,
            overwrite=True,
        )
        run = train(job.system, job.product, folder, options, FitControl(tell=lambda _: None))
        evaluation = _evaluated(run)
    except EdgeError as error:
        result = Result(job.identity, error=str(error))
    else:
        overall = evaluation.overall
        result = Result(
            job.identity,
            image_auroc=100 * overall.image_auroc,
            pixel_auroc=100 * overall.pixel_auroc,
            aupro=100 * overall.aupro_30,
            groups={group.name: 100 * group.image_auroc for group in evaluation.groups},
            seconds=run.info.train_seconds,
            parameters=sum(parameter.numel() for parameter in run.deployed.detector.parameters()),
            machine=_machine(job.device),
        )
    write_result(result, folder)
    return result


def write_result(result: Result, folder: Path) -> None:
    """Into the job's folder, at once."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULT_FILE, plain(result))


def _evaluated(run: TrainedRun) -> Evaluation:
    """Of the run's own test images, its files written.

    Raises: DataError if they cannot be compared.
    """
    judged = open_judged(run.info)
    if judged.stand_in or not judged.defective:
        raise DataError(
            f"{judged.folder} has no good or no defective test images: a benchmark compares both"
        )
    evaluation = evaluate_run(run, judged)
    write_evaluation(run, judged, evaluation)
    return evaluation


def _machine(device: str) -> str:
    """Processor and threads of this process, and the graphics card that trained, if one did."""
    try:
        described = (
            Path("/proc/cpuinfo")
            .read_text(encoding="utf-8")
            .partition("model name")[2]
            .splitlines()
        )
    except OSError:  # not Linux
        described = []
    name = described[0].partition(":")[2].strip() if described else ""
    threads = torch.get_num_threads()
    card = f"{torch.cuda.get_device_name(device)}, " if device.startswith("cuda") else ""
    return f"{card}{name or platform.machine()}, {threads} thread{'s' * (threads > 1)}"


def time_results(jobs: Sequence[Job], out: Path) -> None:
    """Measure frames per second of runs that have none yet, one at a time, while no training
    runs.
    """
    for job in jobs:
        result = read_result(job, out)
        if result is None or result.error or result.frames_per_s is not None:
            continue
        speed = frames_per_second(load_run(job.folder(out)), job.product)
        write_json(job.folder(out) / RESULT_FILE, {**plain(result), "frames_per_s": speed})


def frames_per_second(run: TrainedRun, product: Path) -> float:
    """Of the deployed graph in float32 torch: bytes in, map and score out, one image at a time."""
    samples = open_dataset(product).samples[:4]
    feeds = [run.feeds(sample) for sample in samples]
    for number in range(WARM_UP):
        run.deployed.run(feeds[number % len(feeds)])
    started_s = time.perf_counter()
    for number in range(TIMED):
        run.deployed.run(feeds[number % len(feeds)])
    return TIMED / (time.perf_counter() - started_s)


def _line(job: Job, result: Result) -> str:
    if result.error:
        return f"{job.describe()}: failed: {result.error}"
    cells = triple((result.image_auroc, result.pixel_auroc, result.aupro))
    return f"{job.describe()}: {TRIPLE} {cells}, {result.seconds:.0f} s"
