"""A training, decided before anything is computed: the system, the normal parts, the options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edge.files import sha256_of
from edge.frames.dataset import Dataset
from edge.frames.sample import Sample
from trainer.data.choose import spread
from trainer.data.defects import by_class, defects_note, with_defects
from trainer.data.normal import NormalParts, normal_parts
from trainer.data.scene import Scene, crop_frame, plane_of
from trainer.graph.preprocess import Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.progress import progress
from trainer.synthetic.textures import Textures
from trainer.systems.seam import System
from trainer.train.options import TrainOptions, checked_system
from trainer.train.pose import Found, fit_pose

POSE_PARTS = 100  # evenly spread over the training parts, that the normal pose is found by


@dataclass(frozen=True)
class Plan:
    """A training, decided before anything is computed.

    dataset: the product's images, and the defective ones that the user named beside it.
    data_sha256: of names and pixels of all normal parts. posed: the pose in which the detector sees
    every part, or why it sees them as they lie.
    """

    system: System[Any]
    dataset: Dataset
    options: TrainOptions
    parts: NormalParts
    data_sha256: str
    posed: Found

    def preprocess(self) -> Preprocess:
        """The graph's own, for this crop, these sizes and this pose."""
        preprocess = self.parts.preprocess()
        preprocess.pose = self.posed.pose
        return preprocess

    @property
    def train(self) -> list[Sample]:
        """Normal parts that train."""
        return self.parts.train

    @property
    def validation(self) -> list[Sample]:
        """Normal parts that only validate."""
        return self.parts.validation

    @property
    def sizes(self) -> WorkingSizes:
        """What the graph reduces the crop to."""
        return self.parts.sizes

    @property
    def scene(self) -> Scene:
        """Crop, plane and height threshold."""
        return self.parts.scene

    @property
    def with_depth(self) -> bool:
        """Whether depth is used."""
        return self.sizes.depth is not None


def make_plan(system_name: str, product: Path, options: TrainOptions) -> Plan:
    """Check the options, read the product's lists and measure its scene.

    Raises: ConfigError for an impossible option, DataError for unusable images.
    """
    system = checked_system(system_name, options)
    parts = normal_parts(
        product,
        options.seed,
        options.with_depth,
        partial(system.sizes, options.preset),
        options.size,
    )
    dataset = parts.dataset
    if options.defects is not None:
        with_depth = parts.sizes.depth is not None
        dataset = with_defects(dataset, options.defects, parts.reading, with_depth)
    chosen = progress(spread(parts.train, POSE_PARTS), "finding the normal pose")
    posed = fit_pose(parts.preprocess(), map(parts.scene.feeds_of, chosen))
    return Plan(system, dataset, options, parts, parts.sha256(), posed)


def data_lines(plan: Plan) -> list[str]:
    """What the user should know of the data before it is trained on."""
    amounts = (
        f"{len(plan.train)} normal images to train on, {len(plan.validation)} to validate with"
    )
    lines = [*plan.parts.notes, f"{amounts}; {_depth(plan)}"]
    lines.append(f"the parts are {plan.posed.how}")
    if plan.options.size is not None:
        lines.append("every image is letterboxed to {}x{} pixels".format(*plan.options.size))
    if plan.options.defects is not None:
        lines.append(defects_note(plan.dataset, plan.options.defects))
    if any(sample.is_defective for sample in plan.dataset.samples):
        lines.append(f"{by_class(plan.dataset.samples)}: not trained on")
    return lines


def _depth(plan: Plan) -> str:
    """With depth its unit and the plane's distance, so that a wrong unit is seen; without, why."""
    if not plan.with_depth:
        return "color only: " + ("--no-depth" if plan.dataset.has_depth else "the set has no depth")
    frame = crop_frame(plan.train[0].load(), plan.scene.crop)
    plane = plan.scene.plane or plane_of(frame)
    where = "" if plan.scene.plane else " in the first image (each image has its own)"
    return (
        f"with depth: {1000 * frame.unit:.4g} mm per count, background plane {1000 * plane[3]:.0f}"
        f" mm away{where}"
    )


def fingerprint(plan: Plan) -> str:
    """Of everything that decides the training's result: a checkpoint of another one is refused."""
    options, scene, sizes = plan.options, plan.scene, plan.sizes
    files = [options.weights, options.pretrained]
    digests = [sha256_of(file) if file and file.is_file() else None for file in files]
    asked = [plan.system.name, options.preset, options.epochs, options.seed, options.device]
    given = [digests, options.backbone, dict(options.switches), Textures(options.textures).digest]
    data = [plan.data_sha256, names_of(plan.train), plan.posed.digest()]
    geometry = [scene.crop, scene.plane, scene.lift, scene.speck, sizes.color, sizes.depth]
    return hashlib.sha256(json.dumps([*asked, *given, *data, *geometry]).encode()).hexdigest()


def features_digest(plan: Plan) -> str:
    """Of everything that the prepared training images depend on: the cache's key."""
    scene = replace(plan.scene, expected=None)  # of which no prepared image depends
    told = f"{plan.data_sha256} {names_of(plan.train)} {scene} {plan.sizes} {plan.posed.digest()}"
    return hashlib.sha256(told.encode()).hexdigest()


def names_of(samples: Sequence[Sample]) -> list[str]:
    """The samples' names, for run.json."""
    return [sample.name for sample in samples]
