"""BTAD (Mishra et al., ISIE 2021): train/ok, test/ok, test/ko, ground_truth/ko; a mask has its image's stem.

Images and masks are .bmp or .png, mixed: category 01 has .bmp images and .png masks, 03 both as .bmp.
"""

from __future__ import annotations

from pathlib import Path

from edge.frames.camera_info import CameraInfo
from edge.frames.mvtec import camera_of, paired, require_images
from edge.frames.sample import ImageFiles, Sample, Split, Truth

FOLDERS: tuple[tuple[Split, str], ...] = (("train", "ok"), ("test", "ok"), ("test", "ko"))


def is_btad(root: Path) -> bool:
    """Whether there is a folder of good training images under BTAD's name for them."""
    return (root / "train" / "ok").is_dir()


def read_btad(root: Path) -> tuple[list[Sample], CameraInfo]:
    """Every image of a category: "ok" is good, the defect is "ko".

    Raises: DataError on a missing or empty folder, or an image without its mask, or the other way round.
    """
    found = [(split, kind, require_images(root / split / kind)) for split, kind in FOLDERS]
    camera = camera_of(root, [path for _, _, paths in found for path in paths], None)
    samples: list[Sample] = []
    for split, kind, paths in found:
        masks = paired(root / "ground_truth" / "ko", paths) if kind == "ko" else {}
        for path in paths:
            truth: Truth = masks[path.stem] if masks else "clean"
            source = ImageFiles(path, None, camera, len(samples))
            samples.append(
                Sample(f"{split}/{kind}/{path.stem}", split, "ko" if masks else "good", source, truth, path)
            )
    return samples, camera
