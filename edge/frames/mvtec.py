"""MVTec AD and MVTec 3D-AD: the folder says the split and the defect.

MVTec AD      train/good/NNN.png, test/TYPE/NNN.png (or jpg), ground_truth/TYPE/NNN_mask.png
MVTec 3D-AD   {train,validation}/good/{rgb,xyz}/NNN.*, test/TYPE/{rgb,xyz,gt}/NNN.*; a color-only product has no xyz
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import DataError
from edge.frames.camera_info import DEFAULT_UNIT_M, CameraInfo, find_camera_info
from edge.frames.images import intrinsics_from_xyz, read_color, read_xyz
from edge.frames.sample import ImageFiles, Sample, Split, Truth

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder by name; empty where the folder is absent."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def type_folders(root: Path, split: str) -> list[Path]:
    """The folders of a split, one per defect type ("good" first); empty where the split is absent.

    Raises: DataError if the split exists and holds no folder: nothing can be read from it.
    """
    folder = root / split
    if not folder.is_dir():
        return []
    types = [kind for kind in folder.iterdir() if kind.is_dir() and not kind.name.startswith(".")]
    if not types:
        raise DataError(f"{folder} is empty: expected {folder / 'good'} with images")
    return sorted(types, key=lambda kind: (kind.name != "good", kind.name))


def is_mvtec3d(root: Path) -> bool:
    """Whether a folder of any split holds rgb/."""
    splits = [root / split for split in SPLITS if (root / split).is_dir()]
    return any((kind / "rgb").is_dir() for split in splits for kind in split.iterdir())


def is_mvtec(root: Path) -> bool:
    """Whether there is a split with a folder per type and images in it, and no rgb/ below."""
    splits = [root / split for split in ("train", "test") if (root / split).is_dir()]
    return bool(splits) and not is_mvtec3d(root)


def read_mvtec(root: Path) -> tuple[list[Sample], CameraInfo]:
    """Every image of an MVTec AD product. Raises: DataError on an empty folder or a mask without its image."""
    found = [(split, kind, require_images(kind)) for split in SPLITS for kind in type_folders(root, split)]
    camera = camera_of(root, [path for _, _, paths in found for path in paths], None)
    samples: list[Sample] = []
    for split, kind, paths in found:
        truths = _mvtec_masks(root, kind, paths) if split == "test" else {}
        for path in paths:
            source = ImageFiles(path, None, camera, len(samples))
            truth = _truth(kind, truths.get(path.stem))
            samples.append(Sample(f"{split}/{kind.name}/{path.stem}", split, kind.name, source, truth, path))
    return samples, camera


def read_mvtec3d(root: Path) -> tuple[list[Sample], CameraInfo, bool]:
    """Every image of an MVTec 3D-AD product, and whether it has depth.

    Raises: DataError on an empty folder, or a color image without its point cloud or mask, or the other way round.
    """
    found = [(split, kind, require_images(kind / "rgb")) for split in SPLITS for kind in type_folders(root, split)]
    has_depth = any((kind / "xyz").is_dir() for _, kind, _ in found)
    clouds = {kind: paired(kind / "xyz", paths) for _, kind, paths in found} if has_depth else {}
    colors = [path for _, _, paths in found for path in paths]
    first_cloud = next((cloud for pairs in clouds.values() for cloud in pairs.values()), None)
    camera = camera_of(root, colors, first_cloud)
    samples: list[Sample] = []
    for split, kind, paths in found:
        has_truth = split == "test" and kind.name != "good" and (kind / "gt").is_dir()
        truths = paired(kind / "gt", paths) if has_truth else {}
        for path in paths:
            source = ImageFiles(path, clouds[kind][path.stem] if has_depth else None, camera, len(samples))
            truth = _truth(kind, truths.get(path.stem))
            samples.append(Sample(f"{split}/{kind.name}/{path.stem}", split, kind.name, source, truth, path))
    return samples, camera, has_depth


def _truth(kind: Path, mask: Path | None) -> Truth:
    if kind.name == "good":
        return "clean"
    return mask or "unknown"


def require_images(folder: Path) -> list[Path]:
    """As `images_in`. Raises: DataError if there are none."""
    paths = images_in(folder)
    if not paths:
        raise DataError(f"{folder} holds no images (png, jpg, bmp or tiff)")
    return paths


def paired(folder: Path, colors: list[Path]) -> dict[str, Path]:
    """stem -> file of `folder`; exactly one for every color image."""
    files = {path.stem: path for path in images_in(folder)}
    stems = {path.stem for path in colors}
    for path in colors:
        if path.stem not in files:
            suffix = ".tiff" if folder.name == "xyz" else ".png"
            raise DataError(f"{path} has no partner: expected {folder / path.stem}{suffix}")
    for stem, path in files.items():
        if stem not in stems:
            raise DataError(f"{path} has no color image: expected {colors[0].parent / stem}{colors[0].suffix}")
    return files


def _mvtec_masks(root: Path, kind: Path, images: list[Path]) -> dict[str, Path]:
    """stem -> mask. A type without a mask folder has no pixel truth; one with a folder must have all of them."""
    folder = root / "ground_truth" / kind.name
    if kind.name == "good" or not folder.is_dir():
        return {}
    masks = {path.stem.removesuffix("_mask"): path for path in images_in(folder)}
    for path in images:
        if path.stem not in masks:
            raise DataError(f"{path} has no mask: expected {folder / path.stem}_mask.png")
    for stem, path in masks.items():
        if stem not in {image.stem for image in images}:
            raise DataError(f"{path} has no image: expected {kind / stem}{images[0].suffix}")
    return masks


def camera_of(root: Path, colors: list[Path], cloud: Path | None) -> CameraInfo:
    """camera.json, else what the first image and point cloud tell."""
    if not colors:
        raise DataError(f"{root} holds no images: expected {root / 'train' / 'good'}")
    serial = f"files:{root.name}"
    written = find_camera_info(root)
    if written is not None:
        return written if written.serial else written.model_copy(update={"serial": serial})
    height, width = read_color(colors[0]).shape[:2]
    info = CameraInfo(serial=serial, width=width, height=height)
    if cloud is None:
        return info
    fitted = intrinsics_from_xyz(read_xyz(cloud))
    return info.model_copy(update={"unit": DEFAULT_UNIT_M, "intrinsics": fitted})

