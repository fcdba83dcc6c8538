"""What the papers publish, with their own backbones and sizes: for orientation beside our results,
never mixed in.

Sources are the papers of the five systems, which trainer/systems names; a metric that a paper does
not give is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MVTEC_AD = (
    "carpet", "grid", "leather", "tile", "wood", "bottle", "cable", "capsule", "hazelnut",
    "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper",
)  # fmt: skip
MVTEC_3D = (
    "bagel",
    "cable_gland",
    "carrot",
    "cookie",
    "dowel",
    "foam",
    "peach",
    "potato",
    "rope",
    "tire",
)
VISA = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2",
    "pcb3", "pcb4", "pipe_fryum",
)  # fmt: skip
BTAD = ("01", "02", "03")
# of a data set's categories, to take a folder for it: one that happens to be named "rope" is none
LEAST_FOUND = 0.5


@dataclass(frozen=True)
class Published:
    """One row: image AUROC, pixel AUROC and AUPRO in percent.

    category: "mean" of the whole data set, or one of it.
    """

    system: str
    data: str
    category: str
    image_auroc: float | None
    pixel_auroc: float | None
    aupro: float | None


_NTSNET = (
    (97.8, 98.3), (95.2, 98.7), (100.0, 99.5), (95.9, 97.9), (98.8, 96.9), (100.0, 98.7),
    (91.3, 96.8), (93.7, 98.5), (99.8, 98.4), (98.6, 96.7), (93.7, 96.8), (92.1, 98.5),
    (91.4, 98.9), (91.6, 87.5), (96.3, 98.5),
)  # fmt: skip
PUBLISHED = (
    Published("mats", "MVTec AD", "mean", 99.0, None, None),
    Published("mats", "MVTec 3D-AD", "mean", 95.5, None, 97.7),
    Published("ntsnet", "MVTec AD", "mean", 95.7, 97.4, None),
    *(
        Published("ntsnet", "MVTec AD", category, *metrics, None)
        for category, metrics in zip(MVTEC_AD, _NTSNET, strict=True)
    ),
    Published("aand", "MVTec AD", "mean", 99.5, 98.4, 95.0),
    Published("aand", "VisA", "mean", 98.1, 99.0, 94.8),
    Published("aand", "MVTec 3D-AD, color only", "mean", 90.6, 99.2, 97.5),
    Published("m3dm", "MVTec 3D-AD", "mean", 94.2, 98.2, 96.1),
    Published("vmpfd", "MVTec AD", "mean", 93.8, 93.9, None),
    Published("vmpfd", "MVTec AD", "screw", 70.6, None, None),
    Published("vmpfd", "VisA", "mean", 89.9, 96.6, None),
    Published("vmpfd", "BTAD", "mean", 92.6, 92.4, None),
)


def known_set(layout: str, categories: Sequence[str], with_depth: bool) -> str | None:
    """The published data set that these categories belong to; a single MVTec AD category counts,
    too.

    None for a user's own products, which no paper has measured.
    """
    if layout == "visa" and set(categories) <= set(VISA):
        return "VisA"
    if layout == "btad" and set(categories) <= set(BTAD):
        return "BTAD"
    if layout == "mvtec" and set(categories) <= set(MVTEC_AD):
        return "MVTec AD"
    found = len(set(categories) & set(MVTEC_3D)) / len(MVTEC_3D)
    if layout == "mvtec3d" and set(categories) <= set(MVTEC_3D) and found >= LEAST_FOUND:
        return "MVTec 3D-AD" if with_depth else "MVTec 3D-AD, color only"
    return None


def published_rows(data: str, systems: Sequence[str], categories: Sequence[str]) -> list[Published]:
    """What the papers of these systems say of the data set and of these categories."""
    wanted = {"mean", *categories}
    return [
        row
        for row in PUBLISHED
        if row.data == data and row.system in systems and row.category in wanted
    ]
