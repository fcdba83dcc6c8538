"""Site inputs from a few normal parts: they bring the frozen features back to where they were in
training, channel by channel, without a new graph. Pure.

The detector uses f' = (f - shift) * scale. With the mean m and deviation s of a channel over the
parts shown on site, and its mean and deviation in training,

    scale = clip(deviation / s, 0.5, 2), shift = m - mean / scale

so that f' has the mean of training, and its deviation unless the scale was clipped. A channel whose
deviation is near 0, here or in training, says nothing about a scale and stays as it is. So does one
whose deviation within a part is more than twice that of training: noise or holes have changed what
it says, its mean is that of a few far cells, and a shift to it would move all the others away
(docs/site.md). A memory bank with spare rows also gets features of these parts, as they are after
shift and scale.

Whatever a part has changed it is not measured by: `left_out` gives the site inputs that the other
parts alone would have set. A part that is scored under inputs that it has fitted itself scores too
low, so that a threshold from such scores rejects most later parts
(tests/calibration/test_adapt.py: 80 % where 9 % are promised).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import ChannelStatistics, Manifest
from edge.errors import EngineError

LEAST_SCALE, MOST_SCALE = 0.5, 2.0
MOST_APART = 2.0  # times the deviation of training, within a part: beyond it nothing is corrected
# share of the median deviation of all channels: below it a channel is as good as constant
NEAR_ZERO = 1e-3
ROWS_OF_A_PART = 400  # features that one part offers as spare rows, at most

Floats = NDArray[np.float64]
Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class PartFeatures:
    """The features of one part, before shift and scale.

    mean, variance: (C,) over its foreground. rows: (R, C) float32 of single cells, for spare rows;
    None where the graph has none.
    """

    mean: Floats
    variance: Floats
    rows: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Adaptable:
    """What a bundle lets a station adapt.

    mean, deviation: (C,) of every channel in training. spare: rows of a memory bank that the
    station may set, 0 where there are none.
    """

    mean: Floats
    deviation: Floats
    spare: int = 0

    @property
    def channels(self) -> int:
        """C, of the frozen features."""
        return len(self.mean)

    def fit(self, parts: Sequence[PartFeatures]) -> Tensors:
        """The site inputs for these parts, by graph input, float32."""
        shift, scale = shift_and_scale(*pooled(parts), self.mean, self.deviation)
        changed = deviation_within(parts) > MOST_APART * self.deviation
        shift, scale = np.where(changed, 0.0, shift), np.where(changed, 1.0, scale)
        tensors = {"shift": shift.astype(np.float32), "scale": scale.astype(np.float32)}
        rows = [part.rows for part in parts if part.rows is not None]
        if self.spare and rows:
            tensors |= spare_rows((np.concatenate(rows) - shift) * scale, self.spare)
        return tensors

    def left_out(self, parts: Sequence[PartFeatures]) -> Iterator[Tensors]:
        """For each part, the site inputs that the others alone give; at least two parts."""
        for number in range(len(parts)):
            yield self.fit([*parts[:number], *parts[number + 1 :]])


def find_adaptable(manifest: Manifest) -> Adaptable | None:
    """None for a bundle that does not know the statistics of its channels, or has no shift and
    scale: its threshold alone can be calibrated.
    """
    inputs = {spec.name: spec.shape for spec in manifest.inputs}
    known = manifest.channels
    if known is None or not {"shift", "scale"} <= set(inputs):
        return None
    spare = inputs["spare"][0] if {"spare", "spare_valid"} <= set(inputs) else 0
    return Adaptable(*_arrays_of(known), spare)


def features_of(outputs: Sequence[Mapping[str, NDArray[Any]]], with_rows: bool) -> PartFeatures:
    """The features of one part from the graph's outputs for its frames.

    with_rows: single cells too, of the frame in the middle.
    Raises: EngineError if the graph gives no `moments`, or they are not finite.
    """
    if not all("moments" in one for one in outputs):
        raise EngineError("the engine gave no moments of its features: export the bundle again")
    moments = np.stack([np.asarray(one["moments"], np.float64)[0] for one in outputs])  # (F, 2, C)
    if not np.isfinite(moments).all():
        raise EngineError("the moments of the features are not finite: run `edge verify`")
    mean, variance = moments.mean(axis=0)
    rows = _rows_of(outputs[len(outputs) // 2]) if with_rows else None
    return PartFeatures(mean, variance, rows)


def pooled(parts: Sequence[PartFeatures]) -> tuple[Floats, Floats]:
    """(mean, deviation), (C,) each, of the foreground of several parts: the variance within the
    parts, and that of their means.
    """
    means = np.stack([part.mean for part in parts])
    within = np.stack([part.variance for part in parts]).mean(axis=0)
    return means.mean(axis=0), np.sqrt(within + means.var(axis=0))


def deviation_within(parts: Sequence[PartFeatures]) -> Floats:
    """(C,) over the foreground of a part, the median of all parts: one odd part does not count."""
    return np.sqrt(np.median(np.stack([part.variance for part in parts]), axis=0))


def shift_and_scale(
    mean: Floats, deviation: Floats, of_training: Floats, deviation_of_training: Floats
) -> tuple[Floats, Floats]:
    """(shift, scale), (C,) each. mean, deviation: of the parts shown on site."""
    says_nothing = _near_zero(deviation) | _near_zero(deviation_of_training)
    ratio = deviation_of_training / np.where(says_nothing, 1.0, deviation)
    scale = np.where(says_nothing, 1.0, np.clip(ratio, LEAST_SCALE, MOST_SCALE))
    shift = np.where(says_nothing, 0.0, mean - of_training / scale)
    return shift, scale


def spare_rows(rows: Floats, spare: int) -> Tensors:
    """`spare` and `spare_valid` from (R, C) candidates: the rows that represent all of them
    best.
    """
    chosen = rows[coreset(rows, spare)]
    tensor = np.zeros((spare, rows.shape[1]), np.float32)
    valid = np.zeros(spare, np.float32)
    tensor[: len(chosen)], valid[: len(chosen)] = chosen, 1.0
    return {"spare": tensor, "spare_valid": valid}


def coreset(rows: Floats, count: int) -> NDArray[np.int64]:
    """Indices of `count` of (R, C) rows, each next one the furthest from all before it (greedy
    k-center: Gonzalez, Theoretical Computer Science 38, 1985), the first the furthest from their
    mean. All of them where there are no more.
    """
    if len(rows) <= count:
        return np.arange(len(rows))
    nearest = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1)
    chosen = [int(np.argmax(nearest))]
    nearest = np.full(len(rows), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def _near_zero(deviation: Floats) -> NDArray[np.bool_]:
    alive = deviation[deviation > 0]
    return deviation <= (NEAR_ZERO * float(np.median(alive)) if alive.size else 0.0)


def _arrays_of(known: ChannelStatistics) -> tuple[Floats, Floats]:
    return np.array(known.mean, np.float64), np.array(known.deviation, np.float64)


def _rows_of(outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    """(R, C) features of cells of the foreground, which are those where the map is not 0; None
    where the graph gives no features.
    """
    if "features" not in outputs:
        return None
    features, map_ = outputs["features"][0], outputs["map"][0, 0]
    v, u = (
        ((np.arange(cells) + 0.5) * of_map / cells).astype(int)
        for cells, of_map in zip(features.shape[1:], map_.shape, strict=True)
    )
    rows = np.asarray(features[:, map_[np.ix_(v, u)] > 0].T, np.float32)
    step = max(1, -(-len(rows) // ROWS_OF_A_PART))
    return np.ascontiguousarray(rows[::step])
