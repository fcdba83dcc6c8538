"""`edge bench`: how long this machine takes for a frame and for a record, stage by stage, and in
which conditions it was.

The frames are the bundle's own normal parts, so that two machines are compared on the same pixels,
without a camera. Nothing is judged for the line and no number of the station is used.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from edge.engine.protocol import Feeds, outputs_of
from edge.errors import EngineError
from edge.install.proof_file import read_proof
from edge.line.outbox import Outbox
from edge.runtime.active import ActiveBundle
from edge.runtime.bench_report import BenchReport, EngineTimes, StageTimes, conditions, report_of
from edge.runtime.inspection import opened_active
from edge.runtime.pipeline import OF_THE_FRAME, SiteState
from edge.schema import Precision
from edge.station.lock import RUN, locked
from edge.station.store import Store
from edge.types import Frame, Intrinsics

VIEWS = 8  # normal frames, used in turn: a graph may take longer for one than for another
RECORD_BYTES = 1200  # of a record with a score and its images' folder
Samples = dict[str, list[float]]  # milliseconds by stage


@dataclass(frozen=True)
class Repeats:
    """How often. warm_up: frames before the first that counts: kernels are loaded, clocks rise."""

    count: int
    warm_up: int


def run_bench(
    root: Path, repeats: Repeats, everything: bool, say: Callable[[str], object] = lambda _: None
) -> BenchReport:
    """Time the engine that judges, or with `everything` that of every precision of the bundle.

    say: is given a line when an engine begins.
    Raises: BusyError if `edge run` is at work here: both would be slower than they are; BundleError
        if nothing is installed, EngineError, StorageError.
    """
    store = Store(root)
    installed = store.active()
    store.require_writable()
    with store.inside(), locked(store.data, RUN, "edge bench"):
        before = conditions(root)
        engines = [_timed(root, None, repeats, say)]
        judge = engines[0].precision
        for precision in installed.manifest.precisions if everything else ():
            if precision != judge:
                engines.append(_tried(root, precision, repeats, say))
        commits = StageTimes.of(_commits(store, repeats))
        return report_of(root, installed, engines, commits, before)


def _tried(
    root: Path, precision: Precision, repeats: Repeats, say: Callable[[str], object]
) -> EngineTimes:
    """An engine that cannot be opened here is an entry too, which says why."""
    try:
        return _timed(root, precision, repeats, say)
    except EngineError as error:
        return EngineTimes(engine=precision, precision=precision, why_not=str(error))


def _timed(
    root: Path, precision: Precision | None, repeats: Repeats, say: Callable[[str], object]
) -> EngineTimes:
    """precision: None for the engine that judges."""
    with opened_active(root, precision):
        pass  # built and proven now, if it was not
    started = time.perf_counter()
    with opened_active(root, precision) as active:
        opening_s = time.perf_counter() - started
        say(f"{active.engine_name}: {repeats.count} frames")
        samples = measure_stages(active, list(views_of(active)), repeats)
        proof = read_proof(active.store, active.installed)
        entry = None if proof is None else proof.find(active.engine.precision)
        return EngineTimes(
            engine=active.engine_name,
            precision=active.engine.precision,
            judges=precision is None,
            is_proven=entry is not None and entry.is_proven,
            digest=active.engine.digest,
            opening_s=round(opening_s, 3),
            warm_up=repeats.warm_up,
            stages={name: StageTimes.of(values) for name, values in samples.items()},
            during=conditions(root),
        )


def views_of(active: ActiveBundle) -> Iterator[tuple[Frame, SiteState]]:
    """Some of the bundle's normal parts, as a camera would have shown them, with their site
    inputs.

    Raises: BundleError if one is damaged.
    """
    from edge.install.proof_data import read_proof_data

    for feeds in islice(read_proof_data(active.installed).normal.feeds(), VIEWS):
        yield _frame_of(feeds), _site_of(feeds)


def measure_stages(
    active: ActiveBundle, views: Sequence[tuple[Frame, SiteState]], repeats: Repeats
) -> Samples:
    """Milliseconds of every frame by stage: `prepare` (from pixels to the graph's inputs), `engine`
    (the graph, until its results are in memory), `decide`, and `frame`, which is all of them.

    Raises: EngineError.
    """
    samples: Samples = {"prepare": [], "engine": [], "decide": [], "frame": []}
    for number, (frame, site) in enumerate(islice(cycle(views), repeats.warm_up + repeats.count)):
        marks = [time.perf_counter_ns()]
        window = frame.cropped(*site.crop)
        feeds = {**window.tensors(), **site.tensors}
        marks.append(time.perf_counter_ns())
        raw = active.engine.run({name: feeds[name] for name in active.engine.inputs})
        marks.append(time.perf_counter_ns())
        active.rule.judge(outputs_of(raw))
        marks.append(time.perf_counter_ns())
        if number >= repeats.warm_up:
            for stage, start, end in zip(samples, marks, marks[1:], strict=False):
                samples[stage].append((end - start) / 1e6)
            samples["frame"].append((marks[-1] - marks[0]) / 1e6)
    return samples


def _commits(store: Store, repeats: Repeats) -> list[float]:
    """Milliseconds of each commit of a record, in a database of its own on the station's disk."""
    filler = "x" * RECORD_BYTES
    found = []
    with _scratch(store) as folder:
        outbox = Outbox(folder / "line.sqlite")
        try:
            for _ in range(repeats.count):
                started = time.perf_counter_ns()
                outbox.commit(lambda seq: {"seq": seq, "part": "bench", "filler": filler})
                found.append((time.perf_counter_ns() - started) / 1e6)
        finally:
            outbox.close()
    return found


@contextmanager
def _scratch(store: Store) -> Iterator[Path]:
    with store.inside(), tempfile.TemporaryDirectory(prefix=".bench-", dir=store.data) as folder:
        yield Path(folder)


def _frame_of(feeds: Feeds) -> Frame:
    color = feeds["color"][0]
    height, width = color.shape[:2]
    lens = feeds.get("intrinsics", np.array([width, width, width / 2, height / 2], np.float32))
    counts = feeds.get("depth")
    depth = None if counts is None else np.ascontiguousarray(counts[0]).view("<u2")[:, :, 0]
    unit = float(feeds["unit"][0]) if "unit" in feeds else 0.001
    pinhole = Intrinsics(width, height, *(float(value) for value in lens))
    return Frame(color, depth, unit, pinhole, "bench", 0, 0)


def _site_of(feeds: Feeds) -> SiteState:
    height, width = feeds["color"].shape[1:3]
    tensors = {name: value for name, value in feeds.items() if name not in OF_THE_FRAME}
    return SiteState(tensors, (0, 0, width, height), "depth" in feeds)
