"""How well scores separate defective images, and maps defective pixels: exact, ties included.

Image metrics take every image. Pixel metrics take the images whose truth is known; one without a
truth (None: its defect is not outlined) is left out of them. A metric is NaN where it has no
meaning because one of the two classes is empty. Each is a curve over all thresholds, so none
depends on the threshold of a run. Shares 0..1; percent only where they are printed.

Image AUROC, average precision and the ROC curve are scikit-learn's. Pixel AUROC and AUPRO come from
one `PixelCurve`: AUPRO needs it in any case, and for 10 million pixels scikit-learn's
`roc_auc_score` took 32 times as long and four times the memory for the same number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

CHUNK_PIXELS = 1 << 24
"""Normal pixels that are sorted at once: 64 MiB."""


def image_auroc(labels: Bools, scores: Floats) -> float:
    """Area under the ROC curve: the chance that a defective image scores above a normal one, a tie
    counting half.

    Args:
        labels: (n,) bool, True = defective.
        scores: (n,) finite.
    Returns: 0..1, or NaN if all images are of one class.
    Raises: ValueError if a score is not finite or the lengths differ.
    """
    from sklearn.metrics import roc_auc_score  # at use: it takes longer to import than to call

    labels, scores = _checked(labels, scores)
    if labels.all() or not labels.any():
        return float("nan")
    return float(roc_auc_score(labels, scores))


def average_precision(labels: Bools, scores: Floats) -> float:
    """Sum over the distinct thresholds, from the highest, of recall gained times precision there.

    Args, Raises: as `image_auroc`.
    Returns: 0..1, or NaN without a defective image.
    """
    from sklearn.metrics import average_precision_score

    labels, scores = _checked(labels, scores)
    return float(average_precision_score(labels, scores)) if labels.any() else float("nan")


def roc_curve(labels: Bools, scores: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the ROC curve from (0, 0) to (1, 1), one per distinct score.

    Args: as `image_auroc`, which is the area under it.
    Returns: false positive rate and true positive rate, each (distinct scores + 1,).
    Raises: as `image_auroc`, and ValueError if all images are of one class.
    """
    from sklearn import metrics as sklearn_metrics

    labels, scores = _checked(labels, scores)
    if labels.all() or not labels.any():
        raise ValueError("a ROC curve needs normal and defective images")
    false_rate, true_rate, _ = sklearn_metrics.roc_curve(labels, scores, drop_intermediate=False)
    return false_rate, true_rate


@dataclass(frozen=True)
class Metrics:
    """All metrics of one set of images: a row of the table.

    Attributes:
        name: what the row is about: a defect type, a group of defects, "all".
        normal: images counted as normal.
        defective: images counted as defective.
        image_auroc, pixel_auroc, aupro_30, aupro_05, aupro_01, average_precision: 0..1, or NaN
        where undefined.
    """

    name: str
    normal: int
    defective: int
    image_auroc: float
    pixel_auroc: float
    aupro_30: float
    aupro_05: float
    aupro_01: float
    average_precision: float

    def plain(self) -> dict[str, Any]:
        """For JSON, which knows no NaN: None in its place."""
        return {
            key: None if isinstance(value, float) and np.isnan(value) else value
            for key, value in asdict(self).items()
        }


def metrics_of(
    name: str, labels: Bools, scores: Floats, maps: Sequence[Floats], truths: Sequence[Bools | None]
) -> Metrics:
    """Compute every metric of one set of images, the normal ones included; arguments as in the
    single functions.
    """
    curve = pixel_curve(maps, truths)
    return Metrics(
        name=name,
        normal=int(np.count_nonzero(~labels)),
        defective=int(np.count_nonzero(labels)),
        image_auroc=image_auroc(labels, scores),
        pixel_auroc=curve.auroc(),
        aupro_30=curve.aupro(0.3),
        aupro_05=curve.aupro(0.05),
        aupro_01=curve.aupro(0.01),
        average_precision=average_precision(labels, scores),
    )


def pixel_auroc(maps: Sequence[Floats], truths: Sequence[Bools | None]) -> float:
    """Area under the ROC curve over all pixels of all images with a truth; see
    `PixelCurve.auroc`.
    """
    return pixel_curve(maps, truths).auroc()


def aupro(maps: Sequence[Floats], truths: Sequence[Bools | None], limit: float = 0.3) -> float:
    """Area under the per-region overlap curve up to a false positive rate; see
    `PixelCurve.aupro`.
    """
    return pixel_curve(maps, truths).aupro(limit)


@dataclass(frozen=True)
class PixelCurve:
    """What every threshold at the value of a defective pixel does; all pixel metrics follow from
    it.

    Between two neighboring values of defective pixels only normal pixels change sides: the curves
    are level there, so these points determine them completely, however many normal pixels there
    are. The m thresholds descend.

    Attributes:
        pixels: (m,) defective pixels with exactly this value.
        overlap: (m,) mean over all regions of the share of the region at or above the threshold,
        0..1.
        above: (m,) normal pixels above the threshold.
        equal: (m,) normal pixels with exactly this value.
        normal_pixels: of all images with a truth.
    """

    pixels: NDArray[np.int64]
    overlap: NDArray[np.float64]
    above: NDArray[np.int64]
    equal: NDArray[np.int64]
    normal_pixels: int

    def auroc(self) -> float:
        """Chance that a defective pixel exceeds a normal one, a tie counting half; NaN if a class
        is empty.
        """
        if not len(self.pixels) or not self.normal_pixels:
            return float("nan")
        exceeded = self.normal_pixels - self.above - 0.5 * self.equal
        return float((self.pixels * exceeded).sum() / (self.pixels.sum() * self.normal_pixels))

    def aupro(self, limit: float = 0.3) -> float:
        """Area under overlap against false positive rate, from 0 to `limit`, divided by `limit`
        (Bergmann et al. 2020).

        Args:
            limit: largest false positive rate counted, over 0 to 1; 0.3 is usual, 0.05 strict, 0.01
                the strictest that is reported.
        Returns: 0..1, or NaN without a region or without a normal pixel.
        """
        if not 0 < limit <= 1:
            raise ValueError(f"the false positive limit must lie in (0, 1], not {limit}")
        if not len(self.pixels) or not self.normal_pixels:
            return float("nan")
        rates = np.stack([self.above, self.above + self.equal], axis=1).ravel() / self.normal_pixels
        before = np.concatenate([[0.0], self.overlap[:-1]])
        overlaps = np.stack([before, self.overlap], axis=1).ravel()
        return _area_up_to(np.append(rates, 1.0), np.append(overlaps, 1.0), limit) / limit


def pixel_curve(maps: Sequence[Floats], truths: Sequence[Bools | None]) -> PixelCurve:
    """Count normal and defective pixels at every threshold, in one pass over each.

    Args:
        maps: n maps (h, w), finite; one of another size than its truth is resized to it,
            bilinearly.
        truths: n masks (H, W) bool, all False for a normal image, or None where it is not known.
    Raises: ValueError if the lengths differ or a map is not finite.
    """
    if len(maps) != len(truths):
        raise ValueError(f"{len(maps)} maps and {len(truths)} truths do not belong together")
    values, weights, regions = _defective_pixels(maps, truths)
    thresholds, where = np.unique(values, return_inverse=True)
    pixels = np.bincount(where, minlength=len(thresholds))
    overlap = np.bincount(where, weights=weights, minlength=len(thresholds))[::-1].cumsum() / max(
        1, regions
    )
    below = np.zeros(len(thresholds), np.int64)
    up_to = np.zeros(len(thresholds), np.int64)
    total = 0
    for chunk in _normal_pixels(maps, truths):
        chunk.sort()
        below += np.searchsorted(chunk, thresholds, side="left")
        up_to += np.searchsorted(chunk, thresholds, side="right")
        total += len(chunk)
    return PixelCurve(pixels[::-1], overlap, (total - up_to)[::-1], (up_to - below)[::-1], total)


def _checked(labels: Bools, scores: Floats) -> tuple[Bools, Floats]:
    """Return both as arrays of one length, or raise ValueError."""
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must be lists of one length"
        )
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    return labels, scores


def _resized(anomaly_map: Floats, truth: Bools) -> NDArray[np.float32]:
    """Return the map at its truth's size, float32."""
    fine = np.ascontiguousarray(anomaly_map, dtype=np.float32)
    if fine.shape != truth.shape:
        fine = np.asarray(
            cv2.resize(fine, (truth.shape[1], truth.shape[0]), interpolation=cv2.INTER_LINEAR),
            np.float32,
        )
    if not np.isfinite(fine).all():
        raise ValueError("an anomaly map is not finite")
    return fine


def _defective_pixels(
    maps: Sequence[Floats], truths: Sequence[Bools | None]
) -> tuple[NDArray[np.float32], NDArray[np.float64], int]:
    """Collect the values of all defective pixels, 1 / size of the region of each, and the number of
    regions.

    A region is a connected component, neighbors over corners included, as in MVTec's own
    evaluation.
    """
    values, weights, regions = [np.empty(0, np.float32)], [np.empty(0)], 0
    for anomaly_map, truth in zip(maps, truths, strict=True):
        if truth is None or not truth.any():
            continue
        count, numbers = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        inside = numbers[truth]
        values.append(_resized(anomaly_map, truth)[truth])
        weights.append((1 / np.maximum(1, np.bincount(inside, minlength=count)))[inside])
        regions += count - 1
    return np.concatenate(values), np.concatenate(weights), regions


def _normal_pixels(
    maps: Sequence[Floats], truths: Sequence[Bools | None]
) -> Iterator[NDArray[np.float32]]:
    """Yield the values of all normal pixels, some CHUNK_PIXELS at a time, each array the caller's
    own.
    """
    pending: list[NDArray[np.float32]] = []
    size = 0
    for anomaly_map, truth in zip(maps, truths, strict=True):
        if truth is None:
            continue
        pending.append(_resized(anomaly_map, truth)[~truth])
        size += len(pending[-1])
        if size >= CHUNK_PIXELS:
            yield np.concatenate(pending)
            pending, size = [], 0
    if size:
        yield np.concatenate(pending)


def _area_up_to(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> float:
    """Area under the line through (x, y), x ascending from 0, between 0 and `limit`."""
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < len(x):  # the line is cut inside the step that crosses the limit
        share = (limit - x[inside - 1]) / (x[inside] - x[inside - 1])
        at_limit = y[inside - 1] + share * (y[inside] - y[inside - 1])
        x, y = np.append(x[:inside], limit), np.append(y[:inside], at_limit)
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum())
