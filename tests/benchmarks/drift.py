"""How often the watch over the parts' numbers is wrong, and how long it takes to be right.

    python tests/benchmarks/drift.py                  all entries of docs/figures/drift.json
    python tests/benchmarks/drift.py --entry NAME     one of them

Simulated streams of all watched numbers go through the very code of the station
(edge/decide/drift.py); what counts is whether it would have warned. `images` draws parts, gives
them to the tiny bundle of the tests in onnxruntime and watches what comes out. Seeds are fixed, so
that the same command prints the same figures.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.decide.depth_noise import depth_noise_mm, mean_brightness
from edge.decide.drift import NUMBERS, WATCHED, Drift
from edge.types import Frame
from tests.benchmarks.figures import how, write_entry

FILE, AT = "drift.json", "2026-01-01T00:00:00.000Z"
PARTS = 20_000
DAY = 20_000  # parts
CONFIDENCE = 0.95
SHORT, SHORT_SEED = 500, 1_000_000  # parts; apart from the seeds of all other streams

Stream = dict[str, NDArray[np.float64]]  # number -> its values, part by part
Law = Callable[[np.random.Generator, int], NDArray[np.float64]]


@dataclass(frozen=True)
class Seen:
    """What became of one stream. at: the part of the first alarm, None without one. numbers: that
    had an alarm by the end of the stream.
    """

    at: int | None
    numbers: tuple[str, ...]
    since: int | None = None


def watch(stream: Stream, seed: int, until_alarm: bool = True) -> Seen:
    """Give a stream to the watch."""
    drift, columns = Drift(seed), {name: values.tolist() for name, values in stream.items()}
    for part in range(len(next(iter(columns.values())))):
        drift.take({name: values[part] for name, values in columns.items()}, part, AT)
        if drift.changes and until_alarm:
            break
    if not drift.changes:
        return Seen(None, ())
    first = min(drift.changes.values(), key=lambda change: change.seen.part)
    return Seen(first.seen.part, tuple(drift.changes), first.since.part)


# --- streams without a change ---


def normal(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.normal(size=count)


def skewed(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.lognormal(0, 1, count)


def coarse(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.normal(size=count).round()


def resembling(rng: np.random.Generator, count: int, share: float) -> NDArray[np.float64]:
    """AR(1) with a deviation of 1: each value is `share` of the one before, and something new."""
    steps = rng.normal(size=count) * math.sqrt(1 - share**2)
    values, last = np.empty(count), rng.normal()
    for index, step in enumerate(steps):
        last = share * last + step
        values[index] = last
    return values


def daily(rng: np.random.Generator, count: int, by: float) -> NDArray[np.float64]:
    """A day's cycle of this amplitude, in deviations of the parts."""
    return rng.normal(size=count) + by * np.sin(2 * np.pi * np.arange(count) / DAY)


UNCHANGED: Mapping[str, Law] = {
    "independent, normal": normal,
    "independent, skewed (lognormal)": skewed,
    "independent, whole deviations only": coarse,
}
CYCLING: Mapping[str, Law] = {
    "AR(1) of `0.3`": partial(resembling, share=0.3),
    "AR(1) of `0.9`": partial(resembling, share=0.9),
    "a daily sine of `0.2` deviations": partial(daily, by=0.2),
    "a daily sine of `0.5` deviations": partial(daily, by=0.5),
}


def stream_of(law: Law, count: int, seed: int, only: str = "") -> Stream:
    """All numbers by one law, or `only` one of them and the others independent; two in 100 parts
    are NG.
    """
    rng = np.random.default_rng(seed)
    stream = {name: (law if not only or name == only else normal)(rng, count) for name in WATCHED}
    return {**stream, "rejects": (rng.random(count) < 0.02).astype(float)}


def _unchanged(law: str, seed: int) -> Seen:
    known = {**UNCHANGED, **CYCLING}
    return watch(stream_of(known[law], PARTS, seed, "" if law in UNCHANGED else "score"), seed)


def false_alarms(runs: int) -> dict[str, Any]:
    """Streams that do not change, and streams that are not exchangeable."""
    rows = []
    for law in (*UNCHANGED, *CYCLING):
        seen = list(in_processes(partial(_unchanged, law), runs if law in UNCHANGED else runs // 4))
        alarms = [one.at for one in seen if one.at is not None]
        most = 100 * upper_bound(len(alarms), len(seen))
        first = round(statistics.median(alarms)) if alarms else None
        rows.append([law, len(seen), len(alarms), most, first])
        print(*rows[-1])
    return {
        **how(),
        "conditions": (
            "Streams of 20,000 parts without any change, all watched numbers; AR(1) and sine in the"
            " score alone, a day of 20,000 parts. False: streams with at least one alarm. At most:"
            " their share, with `95 %` confidence (exact binomial limit)."
        ),
        "columns": [
            "stream", "streams", "false", {"title": "at most", "digits": 2, "suffix": " %"},
            "median part of the first alarm",
        ],
        "rows": rows,
    }  # fmt: skip


def _short(seed: int) -> Seen:
    return watch(stream_of(normal, SHORT, SHORT_SEED + seed), SHORT_SEED + seed)


def short_streams(runs: int) -> dict[str, Any]:
    """Many streams that end early: most false alarms come early, and many streams are needed to see
    1 in 1,000.
    """
    alarms = sum(one.at is not None for one in in_processes(_short, runs))
    print(alarms, runs)
    values = {
        "alarms, %": round(100 * alarms / runs, 3),
        "at most, %": round(100 * upper_bound(alarms, runs), 3),
    }
    return {**how(), "values": values}


# --- changes ---


def _shifted(by: float, after: int, seed: int) -> Seen:
    stream = stream_of(normal, after + 4000, seed)
    stream["score"][after:] += by
    return watch(stream, seed)


def _rejecting(share: float, after: int, seed: int) -> Seen:
    stream = stream_of(normal, after + 4000, seed)
    stream["rejects"][after:] = np.random.default_rng([seed, 1]).random(4000) < share
    return watch(stream, seed)


def delays(runs: int) -> dict[str, Any]:
    """The score's mean shifts, or the share of NG rises."""
    rows: list[list[Any]] = []
    for after in (200, 2000, 20_000):
        for by in (0.5, 1.0, 2.0):
            kind, streams = f"score higher by `{by:g}` deviations", runs // (1 + (after == PARTS))
            found = list(in_processes(partial(_shifted, by, after), streams))
            rows.append(_row(kind, after, found))
    for share in (0.05, 0.1, 0.2):
        kind = f"NG parts from `2 %` to `{share:.0%}`".replace("%`", " %`").replace("  ", " ")
        found = list(in_processes(partial(_rejecting, share, 2000), runs))
        rows.append(_row(kind, 2000, found))
    return {
        **how(),
        "conditions": (
            "Normal numbers. Found: alarms within 4,000 parts of the change; before: false ones."
            " Delay: parts from the change to the alarm. Error of the date: how far the part that"
            " the alarm names as its begin is from the true one, in parts."
        ),
        "columns": [
            "change", "after this many parts", "found", "before", "median delay",
            "90 of 100 within", "median error of the date",
        ],
        "rows": rows,
    }  # fmt: skip


def _row(kind: str, after: int, seen: list[Seen]) -> list[Any]:
    late = sorted(one.at - after for one in seen if one.at is not None and one.at > after)
    errors = [abs(one.since - after - 1) for one in seen if one.since and (one.at or 0) > after]
    most = late[math.ceil(0.9 * len(seen)) - 1] if len(late) >= 0.9 * len(seen) else None
    middle = round(statistics.median(late)) if late else None
    early = sum(one.at is not None and one.at <= after for one in seen)
    row = [kind, after, f"{len(late)} of {len(seen)}", early, middle, most,
           round(statistics.median(errors)) if errors else None]  # fmt: skip
    print(*row)
    return row


# --- images ---


def _drawn(engine: Any, seed: int, brighter: float, noise_mm: float) -> dict[str, float | None]:
    """The numbers of one drawn part, as the station takes them."""
    from tests.support.station import INTRINSICS
    from tests.support.tiny_bundle import LIFT, PLANE, UNIT, draw_part, feeds_of

    rng = np.random.default_rng(seed)
    color, depth = draw_part(seed=seed, defect=float(rng.uniform(0, 15)))
    color = np.clip(color * (1 + brighter) + rng.normal(0, 1), 0, 255).astype(np.uint8)
    added = rng.normal(0, noise_mm / 1e3 / UNIT, depth.shape)
    depth = np.where(depth > 0, depth + added, 0).astype(np.uint16)
    outputs = engine.run(feeds_of(color, depth))
    frame = Frame(color, depth, UNIT, INTRINSICS, "drawn", seed, 0)
    site = {"plane": np.array(PLANE, np.float32), "lift": np.array([LIFT], np.float32)}
    return {
        **{name: float(outputs[name][0]) for name in ("score", "valid", "area")},
        "depth_noise": depth_noise_mm(frame, site),
        "rejects": float(outputs["score"][0] > 20),
        "brightness": mean_brightness(color),
        "temperature": 40.0,
    }


CHANGES: Mapping[str, tuple[float, float]] = {  # brighter by this share, more noise in millimeters
    "nothing": (0.0, 0.0),
    "light brighter by `2 %`": (0.02, 0.0),
    "light brighter by `5 %`": (0.05, 0.0),
    "light darker by `5 %`": (-0.05, 0.0),
    "depth noise from `0.3` to `0.33` mm": (0.0, 0.14),
    "depth noise from `0.3` to `0.5` mm": (0.0, 0.4),
}


def _imaged(kind: str, seed: int) -> tuple[Seen, str]:
    from edge.engine.onnx_cpu import OnnxCpuEngine
    from tests.support.tiny_bundle import tiny_graph

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        model.write_bytes(tiny_graph(96, 128).SerializeToString())
        engine, drift = OnnxCpuEngine(model, threads=1), Drift(seed)
    for part in range(1, 2001):
        brighter, noise_mm = CHANGES[kind] if part > 1000 else (0.0, 0.0)
        drift.take(_drawn(engine, 10_000 * seed + part, brighter, noise_mm), part, AT)
    if not drift.changes:
        return Seen(None, ()), ""
    first = min(drift.changes.values(), key=lambda change: change.seen.part)
    explained = ", ".join(sorted({word for one in drift.changes.values() for word in one.with_}))
    return Seen(first.seen.part, tuple(drift.changes), first.since.part), explained


def images(runs: int) -> dict[str, Any]:
    """Drawn parts through a graph."""
    rows: list[list[Any]] = []
    for kind in CHANGES:
        found = list(in_processes(partial(_imaged, kind), runs))
        seen = [one for one, _ in found]
        late = [one.at - 1000 for one in seen if one.at is not None and one.at > 1000]
        early = sum(one.at is not None and one.at <= 1000 for one in seen)
        numbers = sorted({name for one in seen for name in one.numbers}, key=list(WATCHED).index)
        words = ", ".join(numbers).replace("_", " ") or None
        explained = ", ".join(sorted({text for _, text in found if text})) or None
        middle = round(statistics.median(late)) if late else None
        rows.append([kind, f"{len(late)} of {runs}", early, middle, words, explained])
        print(*rows[-1])
    return {
        **how(),
        "conditions": (
            f"{runs} streams each of 2,000 drawn parts, judged by the tiny bundle of the tests in"
            " onnxruntime; the change comes after part 1,000. Its score is how far red lies from"
            " that of a good part."
        ),
        "columns": [
            "change", "found", "alarms before it", "median delay, parts", "numbers with an alarm",
            "named as explanation",
        ],
        "rows": rows,
    }  # fmt: skip


# --- what it costs ---


def costs(_: int) -> dict[str, Any]:
    """Of one part: the numbers of a frame, and the watch. Processor time, which other work on the
    machine does not change much.
    """
    from tests.support.station import INTRINSICS
    from tests.support.tiny_bundle import LIFT, PLANE, UNIT, draw_part

    color, depth = draw_part(480, 640)
    frame = Frame(color, depth, UNIT, INTRINSICS, "drawn", 1, 0)
    site = {"plane": np.array(PLANE, np.float32), "lift": np.array([LIFT], np.float32)}
    drift, rng = Drift(1), np.random.default_rng(1)
    parts = [{name: float(value) for name, value in zip(NUMBERS, rng.normal(size=7), strict=True)}
             for _ in range(7000)]  # fmt: skip
    for seq, values in enumerate(parts[:6000]):
        drift.take(values, seq, AT)

    def look() -> None:
        depth_noise_mm(frame, site)
        mean_brightness(frame.color)

    measured = [_timed(look) for _ in range(300)]
    taken = [_timed(partial(drift.take, values, 1, AT)) for values in parts[6000:]]
    values = {
        "numbers of a frame of 640x480, ms": round(statistics.median(measured), 3),
        "the watch, ms": round(statistics.median(taken), 3),
    }
    print(values)
    return {**how(), "values": values}


def _timed(work: Callable[[], object]) -> float:
    started_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started_ns) / 1e6


# --- all of them ---


def upper_bound(found: int, trials: int) -> float:
    """The largest rate under which so few would still be found with probability 1 - CONFIDENCE
    (Clopper and Pearson).
    """
    low, high = found / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        few = sum(
            float(math.comb(trials, one)) * middle**one * (1 - middle) ** (trials - one)
            for one in range(found + 1)
        )
        low, high = (middle, high) if few > 1 - CONFIDENCE else (low, middle)
    return high


SEEDS = iter(range(1, 1_000_000))  # every stream has its own


def in_processes(work: Callable[[int], Any], runs: int) -> Iterator[Any]:
    """`work(seed)` for this many seeds, on all cores."""
    with ProcessPoolExecutor() as pool:
        yield from pool.map(work, list(islice(SEEDS, runs)), chunksize=max(1, runs // 200))


ENTRIES: Mapping[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "false_alarms": (false_alarms, 80),
    "short_streams": (short_streams, 3000),
    "delays": (delays, 60),
    "images": (images, 10),
    "costs": (costs, 1),
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entry", choices=ENTRIES, help="only this one")
    chosen = parser.parse_args().entry
    for name, (measure, runs) in ENTRIES.items():
        if chosen in (None, name):
            write_entry(FILE, name, measure(runs))


if __name__ == "__main__":
    main()
