"""What the size of M3DM's memory bank costs: the full coreset, its first greedy rows, k-means and
distilled banks.

    python tests/benchmarks/bank_size.py --data DATA/screw DATA/cookies --seeds 0,1,2 --work
    runs/bank-size

Color only, one bank. Writes docs/figures/bank-size.json and docs/bank-size.png. Greedy: the first
rows of the full coreset, which are the greedy choice of that size. k-means: scikit-learn's
mini-batch k-means on the features that the coreset was selected from. Seconds of distilling are the
processor's, of a training that distils less those of one that does not, features cached for both.
Time is that of the bank's product alone on one image, as a ratio to the full bank's, in the same
run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.files import write_json
from edge.frames.dataset import open_dataset
from tests.benchmarks.figures import how, write_entry
from trainer.data.normal import prepare
from trainer.evaluate.evaluation import evaluate_run
from trainer.evaluate.judged import open_judged
from trainer.fit import FitControl
from trainer.systems.m3dm import fit as m3dm
from trainer.systems.m3dm.memory_bank import MemoryBank
from trainer.train.options import TrainOptions
from trainer.train.trained_run import TrainedRun
from trainer.train.training import train

matplotlib.use("Agg")

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHARES = (4, 16, 64)
TIMED = 30


def main() -> None:
    """Measure what is missing, write the table and the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="product folders; depth is not used"
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--work", type=Path, required=True, help="runs, cached features and results"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    found = [
        row
        for product in arguments.data
        for seed in seeds
        for row in measured(product, seed, arguments.work)
    ]
    write_entry("bank-size.json", "banks", {**how(), **table_of(found, seeds)})
    draw(found, DOCS / "bank-size.png")


Row = dict[str, object]


def measured(product: Path, seed: int, work: Path) -> list[Row]:
    """Every bank of one product and seed, from the stored result where there is one."""
    stored = work / f"{product.name}-{seed}.json"
    if not stored.is_file():
        write_json(stored, list(_measure(product, seed, work)))
    return list(json.loads(stored.read_text()))


def _measure(product: Path, seed: int, work: Path) -> Iterator[Row]:
    _train(product, seed, work, "warm", None)  # features into the cache
    full, seconds = _train(product, seed, work, "full", None)
    bank = bank_of(full)
    rows, center = bank.rows.clone(), bank.center.clone()
    base = time_of(bank)
    yield _row(product, seed, "full", 1, full, 0.0, 1.0)
    features = features_of(full, product)
    for share in SHARES:
        count = max(1, len(rows) // share)
        bank.fill(rows[:count], None, center)
        yield _row(product, seed, "greedy", share, full, 0.0, time_of(bank) / base)
        clusters = MiniBatchKMeans(count, batch_size=4096, n_init=1, random_state=seed).fit(
            features.numpy()
        )
        bank.fill(torch.from_numpy(clusters.cluster_centers_).float(), None, center)
        yield _row(product, seed, "k-means", share, full, 0.0, time_of(bank) / base)
        small, longer = _train(product, seed, work, f"distilled-{share}", share)
        ratio = time_of(bank_of(small)) / base
        yield _row(product, seed, "distilled", share, small, longer - seconds, ratio)


def _train(
    product: Path, seed: int, work: Path, name: str, share: int | None
) -> tuple[TrainedRun, float]:
    """The run, and the processor's seconds it took."""
    m3dm.LEAST_ROWS, m3dm.BANK_SHARE = 1, 1 / (share or 1)
    options = TrainOptions(
        seed=seed,
        with_depth=False,
        cache=work / "cache",
        switches={"distilled": share is not None},
        overwrite=True,
    )
    folder = work / "runs" / f"{product.name}-{seed}-{name}"
    started_s = time.process_time()
    run = train("m3dm", product, folder, options, FitControl(tell=lambda _: None))
    seconds = time.process_time() - started_s
    print(f"{folder.name}: {seconds:.0f} s", flush=True)
    return run, seconds


def bank_of(run: TrainedRun) -> MemoryBank:
    """The color bank of a run."""
    bank = run.deployed.detector.banks["rgb"]
    assert isinstance(bank, MemoryBank)  # m3dm's
    return bank


@torch.no_grad()
def features_of(run: TrainedRun, product: Path, most: int = 100_000) -> Tensor:
    """Color features (M, C) of the training images, `most` of them drawn."""
    by_name = {sample.name: sample for sample in open_dataset(product).samples}
    detector, preprocess = run.deployed.detector, run.deployed.preprocess
    parts = [
        detector.features(prepare(preprocess, run.feeds(by_name[name]))).flatten(2)[0].T
        for name in run.info.train
    ]
    rows = torch.cat(parts)
    return rows[
        torch.randperm(len(rows), generator=torch.Generator().manual_seed(run.info.seed))[:most]
    ]


@torch.no_grad()
def time_of(bank: MemoryBank) -> float:
    """Median seconds of the bank on one image's features."""
    features = torch.randn(
        1, bank.weight.shape[1], 32, 32, generator=torch.Generator().manual_seed(0)
    )
    samples = []
    for _ in range(TIMED):
        started_s = time.perf_counter()
        bank(features)
        samples.append(time.perf_counter() - started_s)
    return float(np.median(samples[TIMED // 3 :]))


def _row(
    product: Path, seed: int, kind: str, share: int, run: TrainedRun, seconds: float, ratio: float
) -> Row:
    overall, bank = evaluate_run(run, open_judged(run.info, product)).overall, bank_of(run)
    row: Row = {
        "product": product.name,
        "seed": seed,
        "kind": kind,
        "share": share,
        "rows": len(bank),
        "kilobytes": bank.weight.numel() * 4 / 1000,
        "image_auroc": 100 * overall.image_auroc,
        "pixel_auroc": 100 * overall.pixel_auroc,
        "aupro": 100 * overall.aupro_30,
        "seconds": seconds,
        "time": ratio,
    }
    print(json.dumps(row), flush=True)
    return row


def mean_of(rows: Sequence[Row], name: str) -> float:
    """Of the seeds."""
    return float(np.mean([float(str(row[name])) for row in rows]))


def table_of(found: Sequence[Row], seeds: Sequence[int]) -> dict[str, Any]:
    """Conditions, columns and rows."""
    kinds = dict.fromkeys((row["product"], row["kind"], row["share"]) for row in found)
    return {
        "conditions": (
            f"M3DM, color only, compact preset; means of seeds {', '.join(map(str, seeds))},"
            " percent. kB: of the rows in float32. distilling s: processor seconds beyond those of"
            " the full bank. time: of the comparison with the bank, the full bank's is 1."
        ),
        "columns": [
            "product",
            "bank",
            "rows",
            "kB",
            "I-AUROC",
            "every seed",
            "P-AUROC",
            "AUPRO 0.3",
            "distilling s",
            {"title": "time", "digits": 2},
        ],
        "rows": [
            cells_of([row for row in found if (row["product"], row["kind"], row["share"]) == kind])
            for kind in kinds
        ],
    }


def cells_of(rows: Sequence[Row]) -> list[Any]:
    """A row: the seeds of one product and bank."""
    kind, share = str(rows[0]["kind"]), rows[0]["share"]
    return [
        rows[0]["product"],
        kind if share == 1 else f"{kind} 1/{share}",
        round(mean_of(rows, "rows")),
        round(mean_of(rows, "kilobytes")),
        mean_of(rows, "image_auroc"),
        [row["image_auroc"] for row in rows],
        mean_of(rows, "pixel_auroc"),
        mean_of(rows, "aupro"),
        round(mean_of(rows, "seconds")) if kind == "distilled" else None,
        mean_of(rows, "time"),
    ]


def draw(found: Sequence[Row], path: Path) -> None:
    """I-AUROC and AUPRO against the number of rows, a line a kind, a column a product."""
    products = list(dict.fromkeys(str(row["product"]) for row in found))
    figure, axes = plt.subplots(
        2, len(products), figsize=(4.2 * len(products), 6), squeeze=False, sharex="col"
    )
    for column, product in enumerate(products):
        for line, (name, title) in enumerate(
            (("image_auroc", "I-AUROC, %"), ("aupro", "AUPRO 0.3, %"))
        ):
            ax = axes[line][column]
            for kind in ("greedy", "k-means", "distilled"):
                banks = [  # of the same share: the seeds' parts have a few positions more or less
                    [
                        row
                        for row in found
                        if (row["product"], row["share"]) == (product, share) and row["kind"] == own
                    ]
                    for share, own in (*((share, kind) for share in reversed(SHARES)), (1, "full"))
                ]
                counts, means = zip(
                    *((mean_of(rows, "rows"), mean_of(rows, name)) for rows in banks), strict=True
                )
                ax.plot(counts, means, marker="o", label=kind)
            ax.set(
                xscale="log",
                ylabel=title,
                xlabel="rows" if line else "",
                title="" if line else product,
            )
            ax.grid(alpha=0.3)
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
