"""Inputs rebuilt from bug reports: every one is read right, or refused in one sentence that names
the file.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from edge.errors import DataError
from edge.frames.dataset import Dataset, open_dataset
from edge.frames.reading import Reading

# pixels of the three masks of a case; with soft edges the upper half of the gray values
SCRATCH, SOFT = (366, 348)

RIGHT = {
    "02_exif": {"rot90": SCRATCH},
    "04_masks": {
        **dict.fromkeys(
            ("ones", "jpg", "rgb", "palette0", "palettew", "alpha", "alphawhite", "la"), SCRATCH
        ),
        **dict.fromkeys(("noname", "u16", "bool"), SCRATCH),
        "soft": SOFT,
    },
    "05_litter": dict.fromkeys(("plain", "macosx", "eadir", "checkpoints"), SCRATCH),
    "06_names": dict.fromkeys(
        ("webp", "Good", "testgood", "upper", "nested", "symlink", "leak", "nogood"), SCRATCH
    ),
}
REFUSED = [
    ("01_truncated_image", "jpg", r"train/good/003\.jpg is not an image that can be decoded"),
    ("01_truncated_image", "png", r"train/good/003\.png is not an image that can be decoded"),
    ("01_truncated_image", "bmp", r"train/good/003\.bmp is not an image that can be decoded"),
    ("01_truncated_image", "tif", r"train/good/003\.tif is not an image that can be decoded"),
    ("01_truncated_image", "zero", r"train/good/003\.png is empty: copy it again"),
    (
        "02_exif",
        "mask180",
        r"test/scratch/000\.jpg .*EXIF orientation \(3\).*000_mask\.png .*save the image upright",
    ),
    ("03_bitdepth", "12in16", r"train/good/000\.png is 16-bit color .*color_bits"),
    ("03_bitdepth", "one12", r"test/scratch/000\.png is 16-bit color"),
    (
        "04_masks",
        "other",
        r"ground_truth/scratch/000_mask\.png is 256x192 pixels, its image .* is 128x96",
    ),
    ("04_masks", "missing", r"test/scratch/001\.png has no mask: expected .*001_mask\.png"),
    ("04_masks", "extra", r"ground_truth/scratch/099_mask\.png has no image"),
    ("04_masks", "empty", r"ground_truth/scratch/000_mask\.png marks nothing"),
    (
        "04_masks",
        "inverse",
        r"ground_truth/scratch/000_mask\.png marks 99% of the image as defect: it looks inverted",
    ),
    (
        "06_names",
        "sizes",
        r"train/good/003\.png is 128x100 pixels, the others are 128x96: train with --size 128x96",
    ),
    ("06_names", "sizestest", r"test/good/001\.png is 128x100 pixels.*--size 128x96"),
    ("07_xyz", "z1", r"train/good/xyz/000\.tiff does not contain the focal length .*camera\.json"),
    (
        "07_xyz",
        "half",
        r"train/good/xyz/000\.tiff is 64x48 pixels, its color image .*aligned to color",
    ),
    ("07_xyz", "flipped", r"train/good/xyz/000\.tiff: x falls to the right.*mirrored"),
    ("08_frames", "unit1000", r"intrinsics\.json: depth_unit_m 1000 cannot be"),
    (
        "08_frames",
        "d8",
        r"0000_depth\.png has 8-bit L values, depth is one channel of uint16 counts",
    ),
    ("08_frames", "half", r"0000_depth\.png is 64x48 pixels, its color image"),
    ("08_frames", "rgb16", r"0000_depth\.png has 16-bit RGB values"),
    (
        "15_damaged_jpeg",
        "zeros",
        r"train/good/003\.jpg is not an image that can be decoded.*Premature end",
    ),
    ("15_damaged_jpeg", "eoi", r"train/good/003\.jpg is not an image that can be decoded"),
    ("15_damaged_jpeg", "flip", r"train/good/003\.jpg is not an image that can be decoded"),
]


Make = Callable[[str, str], Path]


@pytest.fixture
def make(cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """(script, kind) -> the folder that it wrote."""

    def run(script: str, kind: str) -> Path:
        root = tmp_path / kind
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(cases))
            patch.setattr(sys, "argv", [script, str(root), kind])
            patch.setattr(tifffile, "imwrite", tifffile.imwrite)  # 07_xyz replaces it
            runpy.run_path(str(cases / f"{script}.py"), run_name="__main__")
        return root

    return run


def everything(root: Path) -> tuple[Dataset, int]:
    """The set, every image and mask of it read, and how many pixels the masks mark."""
    dataset, marked = open_dataset(root), 0
    for sample in dataset.samples:
        sample.load()
        mask = sample.load_mask()
        marked += 0 if mask is None else int(mask.sum())
    return dataset, marked


@pytest.mark.parametrize(
    ("script", "kind", "marked"),
    [(script, *one) for script, kinds in RIGHT.items() for one in kinds.items()],
)
def test_what_can_be_read_is_read_right(make: Make, script: str, kind: str, marked: int) -> None:
    dataset, found = everything(make(script, kind))
    assert found == marked
    assert {sample.defect for sample in dataset.samples} == {"good", "scratch"}
    assert len(dataset.split("train")) == 8


@pytest.mark.parametrize(("script", "kind", "sentence"), REFUSED)
def test_what_cannot_is_one_sentence_that_names_the_file(
    make: Make, script: str, kind: str, sentence: str
) -> None:
    root = make(script, kind)
    with pytest.raises(DataError) as caught:
        everything(root)
    assert re.search(sentence, str(caught.value)), str(caught.value)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


# the script's own call of tifffile
@pytest.mark.filterwarnings("ignore:<tifffile.TiffWriter.write>:DeprecationWarning")
@pytest.mark.parametrize("kind", ["mm", "mm1", "neg", "nan", "planar", "f64", "TIFF"])
def test_point_clouds_of_other_makers_give_the_same_counts(make: Make, kind: str) -> None:
    other = [sample.load() for sample in everything(make("07_xyz", kind))[0].samples]
    plain = [sample.load() for sample in everything(make("07_xyz", "plain"))[0].samples]
    for one, expected in zip(other, plain, strict=True):
        assert one.depth is not None
        assert expected.depth is not None
        read = one.depth > 0
        np.testing.assert_allclose(
            one.depth[read].astype(int), expected.depth[read].astype(int), atol=1
        )
        assert read.mean() > (0.85 if kind == "nan" else 0.999)
        assert one.intrinsics.fx == pytest.approx(expected.intrinsics.fx, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("scale", 0.0001), ("o3dscale", 0.001), ("ros", 0.001), ("o3d", 0.001), ("bom", 0.001)],
)
def test_depth_units_in_the_words_of_others(make: Make, kind: str, unit: float) -> None:
    dataset, _ = everything(make("08_frames", kind))
    frame = dataset.samples[0].load()
    assert frame.depth is not None
    assert frame.unit == pytest.approx(unit)
    # the table stands at 0.4 m
    assert np.median(frame.depth) * frame.unit == pytest.approx(0.4, abs=0.02)
    assert frame.intrinsics.fx == pytest.approx(200)
    assert bool(dataset.notes) == (kind in ("ros", "o3d"))  # a unit that no file names is said


@pytest.mark.parametrize(("kind", "bits"), [("12in16", 12), ("10in16", 10), ("16full", 16)])
def test_bits_that_are_known_give_the_eight_bit_image(make: Make, kind: str, bits: int) -> None:
    root = make("03_bitdepth", kind)
    colors = [sample.load().color for sample in open_dataset(root, Reading(None, bits)).samples]
    assert 150 < max(int(color.max()) for color in colors) < 230  # the disc's red is 190 with noise


def test_litter_among_numbered_frames_is_no_frame(make: Make) -> None:
    assert len(everything(make("05_litter", "frames"))[0].samples) == 10


def test_ok_and_ng_are_good_and_a_defect(make: Make) -> None:
    dataset, _ = everything(make("06_names", "OKNG"))
    assert {sample.defect for sample in dataset.samples} == {"good", "NG"}
    assert dataset.notes == ("OK is taken for good parts",)
