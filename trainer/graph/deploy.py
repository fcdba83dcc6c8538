"""The whole graph of the contract: bytes in, map, score, area, valid and place out, and what a
station calibrates with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.errors import ConfigError
from edge.schema import TensorSpec
from trainer.graph.heights import NormalHeights
from trainer.graph.outline import Outline
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import ANY, AreaResize, Preprocess

MAX_TOPK = 3840  # TensorRT's TopK layer takes no larger K
PEAK_CELLS = 4  # of the map: the most unusual place beside the detector, however small, has its say
FURTHER = ("features", "moments")  # outputs of the detectors that have them
DETECTOR = "detector"  # its share of a score, beside those of the judges


class Answer(NamedTuple):
    """What a detector computes from N images.

    map: (N, 1, h, w), raw, unmasked, never negative. features: (N, C, h', w') that site inputs
    other than `shift` and `scale` act on, before any does. score: (N,), of systems that compute it
    themselves instead of taking the map's top k. moments: (N, 2, C), mean and variance over the
    foreground of every channel that `shift` and `scale` act on, before they do.
    """

    map: Tensor
    features: Tensor | None = None
    score: Tensor | None = None
    moments: Tensor | None = None


class Detector(Protocol):
    """One of the five systems: an nn.Module from Prepared (and its site inputs) to an Answer, or to
    the map alone.

    map_size: (h, w) of the map. site_inputs: with defaults, which may follow from the training.
    Called as detector(prepared, **site). One that answers with a score, features or moments says so
    by an attribute `has_score`, `has_features` or `has_moments`, True.
    """

    map_size: tuple[int, int]

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """Graph inputs that a station may set."""
        ...


class MapMask(nn.Module):
    """Foreground and read masks at a detector's map resolution, (N, 1, h, w) float32 0 or 1 each.

    foreground: any cell of the prepared foreground falls into the map cell. scored: besides, at
    least half of that foreground had a reading. Losses should use the same masks, so that nothing
    is scored that was never trained on.
    """

    def __init__(self, size_in: tuple[int, int], map_size: tuple[int, int]) -> None:
        super().__init__()
        self.resize = None if size_in == map_size else AreaResize(size_in, map_size)

    def forward(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """(foreground, scored) of a prepared batch."""
        share = self.at_map(prepared.foreground)
        foreground = (share > ANY).to(torch.float32)
        if prepared.read is None:
            return foreground, foreground
        read = self.at_map(prepared.foreground * prepared.read)
        return foreground, foreground * (read > 0.4999 * share).to(torch.float32)

    def at_map(self, mask: Tensor) -> Tensor:
        """Share of each map cell, (N, 1, h, w), that a (N, 1, hd, wd) mask covers."""
        if self.resize is None:
            return mask
        return cast(Tensor, self.resize(mask.permute(0, 2, 3, 1)))


class TopKMean(nn.Module):
    """Mean of the top k share of the foreground of a masked map, with a constant K (TensorRT).

    K = ceil(k x cells); a rank weighs 1 while it is below ceil(k x foreground cells), else 0;
    divided by the number of such ranks. A foreground cell that is not scored holds 0 and still
    counts, so a lost reading can only lower the score. (A hole too large to be filled is no
    foreground at all: that shows in area, which min_area judges.) An empty foreground scores 0.
    Raises: ConfigError if k is not in (0, 1] or K is larger than TensorRT takes.
    """

    ranks: Tensor

    def __init__(self, share: float, map_size: tuple[int, int]) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ConfigError(f"top-k share {share} is not in (0, 1]")
        self.share = share * (1 - 1e-6)  # 0.01 x 300 is 3 cells, whatever float32 makes of 0.01
        self.k = math.ceil(self.share * map_size[0] * map_size[1])
        if self.k > MAX_TOPK:
            raise ConfigError(
                f"top-k of {share:.1%} on a {map_size[1]}x{map_size[0]} map needs K = {self.k}, and"
                f" TensorRT takes {MAX_TOPK}: choose a smaller share or map"
            )
        self.register_buffer(
            "ranks", torch.arange(self.k, dtype=torch.float32)[None], persistent=False
        )

    def forward(self, masked: Tensor, foreground: Tensor) -> Tensor:
        """Score (N,) of masked (N, 1, h, w), 0 wherever it is not scored, and foreground (N, 1, h,
        w).
        """
        top = masked.flatten(1).topk(self.k, dim=1).values  # (N, K), falling
        cells = foreground.sum(dim=(1, 2, 3)).reshape(-1, 1)  # (N, 1)
        taken = (cells * self.share).ceil()
        weight = (self.ranks < taken).to(torch.float32)  # (N, K)
        return (top * weight).sum(dim=1) / taken.clamp(min=1.0).reshape(-1)


class Deployed(nn.Module):
    """Preprocess, detector and score: what is exported. Tensors in the order of `inputs`, results
    in that of `outputs`.

    top_k: share of the foreground whose mean is the score. outline, heights: judge the part's
    outline and the height of every place beside the detector; None until they are added, without
    depth (heights: without a normal pose), and in runs of before. Batch N in training and
    evaluation, 1 in the export.
    """

    def __init__(self, preprocess: Preprocess, detector: nn.Module, top_k: float) -> None:
        super().__init__()
        self.preprocess, self.detector = preprocess, detector
        named = cast(Detector, detector)
        self.mask = MapMask(preprocess.depth_working or preprocess.working, named.map_size)
        self.choose_top_k(top_k)
        self.outline: Outline | None = None
        self.heights: NormalHeights | None = None

    def add_outline(self) -> Outline | None:
        """Judge the outline as well, with a memory still to be fitted; None without depth."""
        depth = self.preprocess.depth_working
        self.outline = None if depth is None else Outline(depth, self.preprocess.size).eval()
        return self.outline

    def add_heights(self) -> NormalHeights | None:
        """Judge the height of every place as well, still to be fitted; None without a normal
        pose.
        """
        depth = self.preprocess.depth_working
        posed = depth is not None and self.preprocess.pose is not None
        self.heights = NormalHeights(depth).eval() if depth is not None and posed else None
        return self.heights

    def choose_top_k(self, top_k: float) -> None:
        """Take another share of the foreground for the score."""
        self.score = TopKMean(top_k, cast(Detector, self.detector).map_size)

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """Graph inputs that a station may set."""
        return tuple(cast(Detector, self.detector).site_inputs)

    @property
    def has_score(self) -> bool:
        """Whether the detector itself gives the score, so that top k has no say in it."""
        return bool(getattr(self.detector, "has_score", False))

    @property
    def has_depth(self) -> bool:
        """Whether the graph takes depth, unit, intrinsics, plane, lift and expected."""
        return self.preprocess.depth_working is not None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph inputs in order: names, types and static shapes of the contract, then the
        system's site inputs.
        """
        h, w = self.preprocess.size
        color = TensorSpec(name="color", dtype="uint8", shape=(1, h, w, 3))
        region = TensorSpec(name="region", dtype="uint8", shape=(1, h, w, 1), default=1)
        if not self.has_depth:
            return (color, region, *self.site_inputs)
        depth = TensorSpec(name="depth", dtype="uint8", shape=(1, h, w, 2))
        sizes = {"unit": 1, "intrinsics": 4, "plane": 4, "lift": 1}
        scene = (
            TensorSpec(name=name, dtype="float32", shape=(size,)) for name, size in sizes.items()
        )
        expected = TensorSpec(name="expected", dtype="uint8", shape=(1, h, w, 1), default=0)
        return (color, depth, region, *scene, expected, *self.site_inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The graph outputs in order."""
        further = (name for name in FURTHER if getattr(self.detector, f"has_{name}", False))
        return ("map", "score", "area", "valid", "place", *further)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Judge a batch of N: tensors in the order of `inputs`, plane and intrinsics (N, 4), unit
        and lift (N,).
        """
        return self.judge_apart(*tensors)[0]

    def judge_apart(self, *tensors: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """(outputs, shares) of a batch of N, as `forward` takes it. shares: what each judgment has
        of the score, (N,) raw, the detector's and what each of `judges` adds.
        """
        named = {spec.name: tensor for spec, tensor in zip(self.inputs, tensors, strict=True)}
        site = {spec.name: named[spec.name] for spec in self.site_inputs}
        prepared = self.prepare(named)
        masked, foreground, answer = self.detected(prepared, site)
        score = self.score(masked, foreground)
        if answer.score is not None:
            score = torch.where(
                foreground.sum(dim=(1, 2, 3)) > 0, answer.score, torch.zeros_like(answer.score)
            )
        shares = {DETECTOR: score}
        if self.heights is not None:
            to_map, shares["heights"] = self.beside(self.heights, prepared)
            masked, score = masked + to_map, score + shares["heights"]
        if self.preprocess.pose is not None:
            in_view = (self.mask.at_map(prepared.in_view) > ANY).to(torch.float32)
            masked = in_view * self.preprocess.pose.back(masked, cast(Tensor, prepared.pose))
        if self.outline is not None:
            to_map, shares["outline"] = self.beside(self.outline, prepared)
            masked, score = masked + to_map, score + shares["outline"]
        place = cast(Tensor, prepared.place)  # (N, 6)
        outputs = (masked, score, prepared.area, prepared.valid, place)
        further = (answer.features, answer.moments)
        return (*outputs, *(tensor for tensor in further if tensor is not None)), shares

    def detected(
        self, prepared: Prepared, site: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Answer]:
        """(map, foreground, all that the detector answers) of prepared images, the first two (N, 1,
        h, w), in the pose that the detector sees; the map is 0 where nothing is scored.
        """
        given = self.detector(prepared, **site)
        answer = given if isinstance(given, Answer) else Answer(given)
        foreground, scored = self.mask(prepared)
        masked = torch.where(scored > 0, answer.map, torch.zeros_like(answer.map))
        return masked, foreground, answer

    def beside(self, judge: Outline | NormalHeights, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """What outline or heights of prepared images with depth add to the map, (N, 1, h, w), as
        the camera sees the one and in the normal pose the other, and to the score, (N,), in raw
        units, >= 0.
        """
        excess = self.mask.at_map(judge(prepared))  # (N, 1, h, w)
        peak = excess.flatten(1).topk(PEAK_CELLS, dim=1).values.mean(dim=1)  # (N,)
        return judge.map_gain * excess, judge.score_gain * peak

    @property
    def judges(self) -> list[Outline | NormalHeights]:
        """What judges beside the detector."""
        return list(self.named_judges.values())

    @property
    def named_judges(self) -> dict[str, Outline | NormalHeights]:
        """What judges beside the detector, by name."""
        both = {"outline": self.outline, "heights": self.heights}
        return {name: judge for name, judge in both.items() if judge is not None}

    def prepare(self, named: Mapping[str, Tensor]) -> Prepared:
        """What the detector sees, of graph inputs by name; plane and intrinsics (4,) become a batch
        of one.
        """
        return self.preprocess.prepared(named)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name for graph inputs by name, as an engine returns them; inputs not given
        take their defaults.
        """
        return self.run_apart(feeds)[0]

    @torch.no_grad()
    def run_apart(
        self, feeds: Mapping[str, NDArray[Any]]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
        """(outputs as `run` gives them, what each judgment has of the score, raw units)."""
        optional = (spec for spec in self.inputs if spec.default is not None)
        given: dict[str, NDArray[Any]] = {
            spec.name: np.full(spec.shape, spec.default, spec.dtype) for spec in optional
        }
        given.update(feeds)
        tensors = [torch.from_numpy(np.ascontiguousarray(given[spec.name])) for spec in self.inputs]
        outputs, shares = self.judge_apart(*tensors)
        return (
            {name: tensor.numpy() for name, tensor in zip(self.outputs, outputs, strict=True)},
            {name: float(share[0]) for name, share in shares.items()},
        )
