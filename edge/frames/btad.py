"""BTAD (Mishra et al., ISIE 2021): train/ok, test/ok, test/ko, ground_truth/ko; a mask has the name
of its image.

Images and masks are .bmp or .png, mixed: category 01 has .bmp images and .png masks, 03 both as
.bmp.
"""

from __future__ import annotations

from pathlib import Path

from edge.frames.camera_of import camera_of
from edge.frames.listing import key_of, require_color, require_images, require_plain_class
from edge.frames.mvtec import paired
from edge.frames.reading import Reading
from edge.frames.sample import ImageFiles, Read, Sample, Split, Truth

FOLDERS: tuple[tuple[Split, str], ...] = (("train", "ok"), ("test", "ok"), ("test", "ko"))


def is_btad(root: Path) -> bool:
    """Whether there are BTAD's folders train/ok and test/ko."""
    return (root / "train" / "ok").is_dir() and (root / "test" / "ko").is_dir()


def read_btad(root: Path, reading: Reading) -> Read:
    """Every image of a category: "ok" is good, the defect is "ko".

    Raises: DataError if a folder is missing or empty, or an image or a mask has no partner.
    """
    found = [(split, kind, require_images(root / split / kind)) for split, kind in FOLDERS]
    for split, kind, paths in found:
        require_color(root, paths)
        require_plain_class(root / split / kind, kind == "ok", paths, {"ko"})
    camera, notes = camera_of(
        root, [path for _, _, paths in found for path in paths], None, reading
    )
    samples: list[Sample] = []
    for split, kind, paths in found:
        folder = root / split / kind
        masks = (
            paired(root / "ground_truth" / "ko", folder, paths, masks=True) if kind == "ko" else {}
        )
        for path in paths:
            key = key_of(folder, path)
            truth: Truth = masks[key] if masks else "clean"
            source = ImageFiles(path, None, camera, len(samples), reading)
            samples.append(
                Sample(
                    f"{split}/{kind}/{key}", split, "ko" if masks else "good", source, truth, path
                )
            )
    return samples, camera, False, notes
