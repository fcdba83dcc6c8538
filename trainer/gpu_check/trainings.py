"""Each system trained on the GPU and on the CPU from the same seed, and what a user sees of both.

Compared are I-AUROC and verdicts, not weights: a GPU adds numbers in another order, a training
amplifies the last bits, and two trainings that are equally good then differ in every weight.
"""

from __future__ import annotations

import numpy as np

from trainer.evaluate.evaluation import Evaluation, evaluate_run
from trainer.evaluate.judged import open_judged
from trainer.gpu_check.bench import Bench, CheckFailed, Done, timed

# Of some twenty images and few epochs: one defective part that sinks below all good ones costs 5
# points of I-AUROC, and a part on the threshold changes its verdict by rounding alone. A fault of
# the training on the GPU (features of another order, a mask left on the CPU) costs far more.
AUROC_APART = 0.05
VERDICTS_APART = 0.1  # share of the images


def trains_alike(system: str, bench: Bench) -> Done:
    """Train and evaluate twice. Raises: CheckFailed where the user would see a difference."""
    on_cpu, cpu_s = timed(lambda: bench.trained(system, on_cpu=True))
    on_device, device_s = timed(lambda: bench.trained(system, on_cpu=False))
    judged = open_judged(on_cpu.info)
    numbers = compared(evaluate_run(on_cpu, judged), evaluate_run(on_device, judged))
    numbers |= {"cpu_training_s": cpu_s, "device_training_s": device_s}
    return Done(
        f"I-AUROC {numbers['device_i_auroc']:.3f}, on the CPU {numbers['cpu_i_auroc']:.3f};"
        f" {numbers['verdicts_unlike']:.0f} of {numbers['images']:.0f} verdicts differ",
        numbers,
    )


def compared(on_cpu: Evaluation, on_device: Evaluation) -> dict[str, float]:
    """I-AUROC of both and how many verdicts differ, of the same images in the same order.

    Raises: CheckFailed beyond AUROC_APART or VERDICTS_APART, or where a score is no number.
    """
    if not np.isfinite(on_device.scores).all():
        raise CheckFailed("a detector that was trained on the GPU gives scores that are no numbers")
    cpu, device = on_cpu.overall.image_auroc, on_device.overall.image_auroc
    unlike = int(np.count_nonzero(on_cpu.rejected != on_device.rejected))
    if not abs(cpu - device) <= AUROC_APART:
        raise CheckFailed(
            f"I-AUROC is {device:.3f} where the CPU's training gives {cpu:.3f}: more than"
            f" {AUROC_APART} apart"
        )
    if unlike > VERDICTS_APART * len(on_cpu.images):
        raise CheckFailed(
            f"{unlike} of {len(on_cpu.images)} verdicts differ from those of the CPU's training:"
            f" more than {VERDICTS_APART:.0%}"
        )
    return {
        "cpu_i_auroc": cpu,
        "device_i_auroc": device,
        "verdicts_unlike": float(unlike),
        "images": float(len(on_cpu.images)),
    }
