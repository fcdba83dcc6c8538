"""VisA (Zou et al., ECCV 2022): a folder for each category, and one table with the splits.

ROOT/split_csv/1cls.csv           object,split,label,image,mask; paths below ROOT, no mask for a
                                  normal image
ROOT/CATEGORY/Data/Images/{Normal,Anomaly}/NNNN.JPG
ROOT/CATEGORY/Data/Masks/Anomaly/NNNN.png    0 is normal, any other value a defect
"""

from __future__ import annotations

import csv
from pathlib import Path

from edge.errors import DataError
from edge.frames.camera_of import camera_of
from edge.frames.listing import files_in, key_of
from edge.frames.reading import Reading
from edge.frames.sample import ImageFiles, Read, Sample, Split, Truth

TABLE = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
SPLITS: dict[str, Split] = {"train": "train", "test": "test"}
DEFECTS = {"normal": "good", "anomaly": "anomaly"}


def is_visa(root: Path) -> bool:
    """Whether this is the folder of one category."""
    return (root / "Data" / "Images").is_dir()


def read_visa(root: Path, reading: Reading) -> Read:
    """Every image that the table lists for this category.

    Raises: DataError if the table is missing, has other columns or values, or lists missing files.
    """
    table = root.resolve().parent / TABLE
    rows = [(number, row) for number, row in _rows(table) if row["object"] == root.resolve().name]
    if not rows:
        raise DataError(
            f"{table} lists no image of {root.name}: name a folder that it lists in its column"
            " `object`"
        )
    files = [_existing(table, number, row["image"]) for number, row in rows]
    camera, notes = camera_of(root, files, None, reading)
    samples: list[Sample] = []
    for (number, row), path in zip(rows, files, strict=True):
        if row["split"] not in SPLITS or row["label"] not in DEFECTS:
            raise DataError(
                f"{table}, line {number}: split {row['split']!r}, label {row['label']!r}; expected"
                " train or test, normal or anomaly"
            )
        defect, split = DEFECTS[row["label"]], SPLITS[row["split"]]
        truth: Truth = "clean" if defect == "good" else "unknown"
        if defect != "good" and row["mask"]:
            truth = _existing(table, number, row["mask"])
        name = f"{split}/{defect}/{_key(root.resolve(), path)}"
        samples.append(
            Sample(
                name,
                split,
                defect,
                ImageFiles(path, None, camera, len(samples), reading),
                truth,
                path,
            )
        )
    return samples, camera, False, notes


def _key(root: Path, path: Path) -> str:
    """The image's path below Data/Images/LABEL, or below VisA's root if the table names another
    folder.
    """
    images = root / "Data" / "Images"
    inside = images in path.parents[1:]
    return key_of(images / path.relative_to(images).parts[0] if inside else root.parent, path)


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Every row of the table with its line number."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise DataError(
                    f"{table} has the columns {reader.fieldnames}, expected {','.join(COLUMNS)}"
                )
            return [
                (reader.line_num, {name: row[name] or "" for name in COLUMNS}) for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{table} cannot be read ({error}): VisA keeps its split beside the categories"
        ) from error


def _existing(table: Path, number: int, place: str) -> Path:
    """The file that the table names, in upper or lower case and with either kind of slash."""
    path = table.parent.parent / place.replace("\\", "/")
    if place and path.is_file():
        return path
    others = [
        other
        for other in files_in(path.parent, deep=False)
        if other.name.lower() == path.name.lower()
    ]
    if not place or len(others) != 1:
        raise DataError(f"{table}, line {number}: there is no file {path}")
    return others[0]
