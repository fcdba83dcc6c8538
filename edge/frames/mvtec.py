"""MVTec AD and MVTec 3D-AD: the folders name the split and the defect.

MVTec AD      train/good/NNN.png, test/TYPE/NNN.png (or jpg), ground_truth/TYPE/NNN_mask.png
MVTec 3D-AD   {train,validation}/good/{rgb,xyz}/NNN.*, test/TYPE/{rgb,xyz,gt}/NNN.*; a color-only
              product has no xyz

Folder names are matched loosely: good may be called OK or normal, validation val or valid, in any
case. Images may lie deeper than one folder, directly in train (then good) or directly in test (then
without a label). Depth may lie in depth/ as 16-bit counts.
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import DataError
from edge.frames.camera_of import camera_of
from edge.frames.listing import (
    DEPTH_NAMES,
    IMAGE_SUFFIXES,
    OTHER_DEPTH,
    files_in,
    folders_in,
    images_in,
    is_good,
    key_of,
    plain,
    require_color,
    require_images,
    require_plain_class,
    unmasked,
)
from edge.frames.reading import Reading
from edge.frames.sample import ImageFiles, Read, Sample, Split, Truth

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
GROUND_TRUTH = "ground_truth"
DEPTH_FOLDERS = ("xyz", "depth")
UNUSABLE_DEPTH = frozenset(
    {"z", "pcd", "ply", "pointcloud", "point_cloud", "points", "pc", "disparity", "range"}
)
DEPTH_UNUSED = "depth is not used: images are letterboxed, which only color can be"


def split_folder(root: Path, split: str) -> Path:
    """The folder of a split in any spelling; root/split if it is absent.

    Raises: DataError if there are two.
    """
    found = [folder for folder in folders_in(root) if plain(folder.name) in SPLIT_NAMES[split]]
    if len(found) > 1:
        raise DataError(
            f"{found[0]} and {found[1].name} are both the {split} images: keep one, or put them"
            " together"
        )
    return found[0] if found else root / split


def kinds_in(root: Path, split: str) -> list[Path]:
    """The folders of a split, one for each type (good first); the split itself if images lie
    directly in it.

    Empty if the split is absent. Raises: DataError if the split exists and holds nothing.
    """
    folder = split_folder(root, split)
    if not folder.is_dir():
        return []
    direct = [folder] if images_in(folder, deep=False) else []
    kinds = [*direct, *folders_in(folder)]
    if not kinds:
        raise DataError(f"{folder} is empty: expected {folder / 'good'} with images")
    return sorted(kinds, key=lambda kind: (not is_good(kind.name), kind.name))


def is_mvtec3d(root: Path) -> bool:
    """Whether a folder of any split holds rgb/."""
    return any(
        (kind / "rgb").is_dir()
        for split in SPLITS
        for kind in folders_in(split_folder(root, split))
    )


def is_mvtec(root: Path) -> bool:
    """Whether there is a split with images in a folder for each type, and no rgb/ below."""
    return any(
        split_folder(root, split).is_dir() for split in ("train", "test")
    ) and not is_mvtec3d(root)


def read_mvtec(root: Path, reading: Reading) -> Read:
    """Every image of an MVTec AD product.

    Raises: DataError for an empty folder, a mask without its image, depth or masks among the
        images, and folders of good parts and defects inside each other.
    """
    found = [
        (split, split_folder(root, split), kind, _images_of(split_folder(root, split), kind))
        for split in SPLITS
        for kind in kinds_in(root, split)
    ]
    classes = {_defect(folder, kind, split) for split, folder, kind, _ in found}
    for split, folder, kind, paths in found:
        require_color(root, paths)
        require_plain_class(kind, _defect(folder, kind, split) in ("good", ""), paths, classes)
    camera, notes = camera_of(root, [path for *_, paths in found for path in paths], None, reading)
    defective = [
        kind for split, folder, kind, _ in found if _defect(folder, kind, split) not in ("good", "")
    ]
    masks = mask_folders(root, defective)
    samples: list[Sample] = []
    for split, folder, kind, paths in found:
        defect = _defect(folder, kind, split)
        truths = masks_of(masks[kind], kind, paths) if kind in masks else {}
        for path in paths:
            key = key_of(kind, path)
            source = ImageFiles(path, None, camera, len(samples), reading)
            name = key_of(root, path)
            samples.append(
                Sample(name, split, defect, source, _truth(defect, truths.get(key)), path)
            )
    return samples, camera, False, (*notes, *_spelling(samples, root))


def read_mvtec3d(root: Path, reading: Reading) -> Read:
    """Every image of an MVTec 3D-AD product, and whether it has depth.

    Raises: DataError for an empty folder, an image, depth file or mask without its partner, and
        depth in an unsupported format: a product with depth is never silently treated as
        color-only.
    """
    groups = [(split, kind) for split in SPLITS for kind in kinds_in(root, split)]
    named = [
        (split, kind, _defect(split_folder(root, split), kind, split)) for split, kind in groups
    ]
    return read_groups(root, named, reading)


def read_groups(
    root: Path,
    groups: list[tuple[Split, Path, str]],
    reading: Reading,
    camera_root: Path | None = None,
) -> Read:
    """Read folders that hold rgb/, each given as (split, folder, defect), as one product.

    camera_root: the folder of camera.json, if not root.
    """
    found = [(split, kind, defect, require_images(kind / "rgb")) for split, kind, defect in groups]
    for _, kind, defect, paths in found:
        require_color(root, paths)
        require_plain_class(kind / "rgb", defect == "good", paths, {name for *_, name in groups})
    depth_name = _depth_folder(root, [kind for _, kind, _, _ in found])
    unused: tuple[str, ...] = ()
    if depth_name is not None and reading.size is not None:
        depth_name, unused = None, (DEPTH_UNUSED,)
    depths = (
        {kind: paired(kind / depth_name, kind / "rgb", paths) for _, kind, _, paths in found}
        if depth_name
        else {}
    )
    first_depth = next((path for pairs in depths.values() for path in pairs.values()), None)
    colors = [path for *_, paths in found for path in paths]
    camera, notes = camera_of(camera_root or root, colors, first_depth, reading)
    samples: list[Sample] = []
    for split, kind, defect, paths in found:
        has_truth = defect not in ("good", "") and (kind / "gt").is_dir()
        truths = paired(kind / "gt", kind / "rgb", paths, masks=True) if has_truth else {}
        for path in paths:
            key = key_of(kind / "rgb", path)
            source = ImageFiles(
                path, depths[kind][key] if depth_name else None, camera, len(samples), reading
            )
            name = f"{kind.relative_to(root).as_posix()}/{key}".removeprefix("./")
            samples.append(
                Sample(name, split, defect, source, _truth(defect, truths.get(key)), path)
            )
    return samples, camera, depth_name is not None, (*notes, *unused, *_spelling(samples, root))


def mask_folders(root: Path, kinds: list[Path]) -> dict[Path, Path]:
    """Folder of a type -> its folder of masks in ground_truth, for the types that have one.

    Raises: DataError for a folder of ground_truth that belongs to no type, whose masks would be
        ignored.
    """
    found: dict[Path, Path] = {}
    for folder in folders_in(root / GROUND_TRUTH):
        owners = [kind for kind in kinds if plain(kind.name) == plain(folder.name)]
        exact = [kind for kind in owners if kind.name == folder.name]
        if not owners and not is_good(folder.name):
            raise DataError(
                f"{folder} belongs to no folder of {root / 'test'}: masks lie in ground_truth under"
                " the name of their type; rename it, or move it elsewhere"
            )
        for kind in exact or owners:
            if found.setdefault(kind, folder) is not folder:
                raise DataError(
                    f"{folder} and {found[kind].name} both hold the masks of {kind}: keep one of"
                    " them"
                )
    return found


def _keyed_masks(folder: Path) -> dict[str, Path]:
    """Image key -> mask. Raises: DataError for two masks of one image."""
    masks: dict[str, Path] = {}
    for path in images_in(folder):
        first = masks.setdefault(unmasked(key_of(folder, path)), path)
        if first is not path:
            raise DataError(
                f"{path} and {first.name} are masks of one image: keep the one that is meant"
            )
    return masks


def masks_of(folder: Path, kind: Path, images: list[Path]) -> dict[str, Path]:
    """Image key -> mask: a type with a mask folder needs a mask for every image."""
    masks = _keyed_masks(folder)
    keys = {key_of(kind, image): image for image in images}
    for key, image in keys.items():
        if key not in masks:
            raise DataError(f"{image} has no mask: expected {folder / key}_mask.png")
    for key, path in masks.items():
        if key not in keys:
            raise DataError(f"{path} has no image: expected {kind / key}{images[0].suffix}")
    return masks


def paired(
    folder: Path, colors_folder: Path, colors: list[Path], masks: bool = False
) -> dict[str, Path]:
    """Image key -> file of `folder`, exactly one for every color image.

    masks: the files may also be called NNN_mask.
    """
    files = (
        _keyed_masks(folder)
        if masks
        else {key_of(folder, path): path for path in images_in(folder)}
    )
    keys = {key_of(colors_folder, path): path for path in colors}
    for key, path in keys.items():
        if key not in files:
            suffix = ".tiff" if folder.name == "xyz" else ".png"
            raise DataError(f"{path} has no partner: expected {folder / key}{suffix}")
    for key, path in files.items():
        if key not in keys:
            raise DataError(
                f"{path} has no color image: expected {colors_folder / key}{colors[0].suffix}"
            )
    return files


def _depth_folder(root: Path, kinds: list[Path]) -> str | None:
    """The name of the folders with depth, None without any.

    Raises: DataError for unsupported depth, and for any other folder with files beside rgb.
    """
    names = [name for name in DEPTH_FOLDERS if any((kind / name).is_dir() for kind in kinds)]
    if len(names) > 1:
        raise DataError(
            f"{kinds[0].parent} has depth in xyz and in depth: keep the one that is meant"
        )
    known = {"rgb", "gt", *names}
    for kind in kinds:
        for folder in folders_in(kind):
            if folder.name in known:
                continue
            if plain(folder.name) in UNUSABLE_DEPTH | DEPTH_NAMES:
                raise DataError(
                    f"{folder} holds depth of a kind that is not read: name it xyz (point clouds as"
                    " TIFF) or depth (16-bit counts), or move it elsewhere to train on color only"
                )
            other = None if kind == root else next(filter(_holds_values, files_in(folder)), None)
            if other is not None:
                raise DataError(
                    f"{other} lies in a folder that is not read: expected rgb, xyz or depth, and gt"
                    f" with masks in {kind}; rename {folder.name}, or move it elsewhere"
                )
    return names[0] if names else None


def _holds_values(path: Path) -> bool:
    return path.suffix.lower() in {*IMAGE_SUFFIXES, *OTHER_DEPTH}


def _images_of(split: Path, kind: Path) -> list[Path]:
    return images_in(kind, deep=False) if kind == split else require_images(kind)


def _defect(folder: Path, kind: Path, split: Split) -> str:
    """ "good", the type, or "" for images directly in test, which have no label."""
    if kind == folder:
        return "" if split == "test" else "good"
    return "good" if is_good(kind.name) else kind.name


def _truth(defect: str, mask: Path | None) -> Truth:
    if defect == "good":
        return "clean"
    return mask or "unknown"


def _spelling(samples: list[Sample], root: Path) -> tuple[str, ...]:
    """A note about folders of good parts that have another name than good."""
    folders = [
        sample.path.relative_to(root).parts[:-1] for sample in samples if sample.defect == "good"
    ]
    others = sorted({part for parts in folders for part in parts if is_good(part)} - {"good"})
    return (
        (f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} taken for good parts",)
        if others
        else ()
    )
