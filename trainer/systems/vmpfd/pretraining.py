"""A patch description network, distilled from a frozen backbone (EfficientAD, Batzner et al., WACV
2024, section 3.1).

The network learns to give the backbone's features of every patch back: two levels of the frozen
backbone, brought to the descriptors' grid and joined, every channel normalized to mean 0 and
deviation 1 over the images.

What the recipe leaves open or needs here, settled:

- Images. EfficientAD has ImageNet's; here whatever the user names, down to the normal images of one
  product. A network that has seen nothing else describes nothing else: with 200 views of washers
  its descriptors told their defects by chance. So in half of every batch irregular patches of other
  images and of drawn textures are laid over the images (`disturbed`), as likely faint as opaque. No
  defect is seen or labeled; the target is the backbone's answer as ever.
- Channels. EfficientAD averages neighboring channels to 384. Here the features are turned to their
  principal axes and cut to the network's channels, an orthonormal map of the channel-normalized
  features: 95 to 98 % of their variance are kept on the images at hand with 96 of 152 channels.
- Scale. EfficientAD's teacher sees the image at twice the size, so that its features are of patches
  as small as the network's own. `paper` does so; `compact` takes the image as it is, for half the
  teacher's work.
- `compact`: EfficientNet-Lite0 after blocks.2 and blocks.4 in place of WideResNet-101's second and
  third level; `paper` has WideResNet-50, which is the larger backbone this package knows.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge.errors import ConfigError, DataError
from edge.files import require_file_target, write_atomically
from edge.frames.dataset import find_products, open_dataset
from edge.frames.images import read_color
from edge.frames.listing import IMAGE_SUFFIXES, files_in
from trainer.device import require_device
from trainer.fit import FitControl, Phase, fit_phases
from trainer.layers.backbone import LITE0, WIDE_RESNET50, BackboneSpec, build_trunk
from trainer.synthetic.textures import Textures
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.tensor_files import find_misfit, load_stored

FORMAT = "patch descriptors 1"
SIDE = 256  # px, of the windows that the command trains on
LARGEST = 1.3  # of a window's side, the image's short side is drawn up to it
MEASURED = 64  # images whose features give the teacher's scales
TEXTURES = 48
KEPT = 1024  # images, a few hundred MB
COARSE = 6  # cells of the noise that patches are cut by, along the image's short side
COVER = (0.8, 1.8)  # deviations above which the noise is a patch
OPACITY = (0.2, 1.0)

Draw = Callable[[Tensor, torch.Generator], Tensor]
"""Image numbers (B,) -> color images (B, 3, h, w) float32 0..255."""


@dataclass(frozen=True)
class PdnRecipe:
    """How one kind of network is distilled.

    kind: of PatchDescriptors. backbone: with two taps. enlarge: the teacher sees the image so many
    times larger.
    """

    kind: str
    backbone: BackboneSpec
    enlarge: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    rate: float


WIDE_TAPS = replace(WIDE_RESNET50, taps=(1, 2), channels=(512, 1024), strides=(8, 16))
RECIPES: dict[str, PdnRecipe] = {
    # EfficientAD: 60,000 steps of batch 16, rate 1e-4, weight decay 1e-5.
    "paper": PdnRecipe("paper", WIDE_TAPS, 2, 600, 100, 16, 1e-4),
    "compact": PdnRecipe("compact", LITE0, 1, 40, 50, 8, 3e-3),
}


class Teacher(nn.Module):
    """Frozen features of an image on the grid of a network's descriptors, normalized and cut to its
    channels.

    Args:
        weights: the user's backbone file or None. grid: cells of `channels` descriptors per image,
            as a stride in px.
    """

    mean: Tensor
    gain: Tensor
    axes: Tensor

    def __init__(self, recipe: PdnRecipe, weights: Path | None, stride: int, channels: int) -> None:
        super().__init__()
        self.enlarge, self.stride = recipe.enlarge, stride
        self.trunk = build_trunk(recipe.backbone, weights)
        width = sum(recipe.backbone.channels)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("gain", torch.ones(width))
        self.register_buffer("axes", torch.eye(width)[:channels])

    def forward(self, color: Tensor) -> Tensor:
        """Color (N, 3, H, W) 0..255 -> (N, C, H / stride, W / stride)."""
        normalized = (self.raw(color) - self.mean[:, None, None]) * self.gain[:, None, None]
        return functional.conv2d(normalized, self.axes[:, :, None, None])

    def raw(self, color: Tensor) -> Tensor:
        """Both levels of the backbone on the descriptors' grid."""
        cells = color.shape[2] // self.stride, color.shape[3] // self.stride
        if self.enlarge > 1:
            color = functional.interpolate(
                color, scale_factor=self.enlarge, mode="bilinear", align_corners=False
            )
        levels = [
            (
                functional.interpolate(level, size=cells, mode="bilinear", align_corners=False)
                if level.shape[2] < cells[0]
                else functional.adaptive_avg_pool2d(level, cells)
            )
            for level in self.trunk(color)
        ]
        return torch.cat(levels, dim=1)

    @torch.no_grad()
    def measure(self, images: Sequence[Tensor]) -> None:
        """Take mean and deviation of every channel and the principal axes from batches of color
        images.
        """
        rows = torch.cat(
            [self.raw(batch).permute(0, 2, 3, 1).flatten(0, 2).cpu() for batch in images]
        ).double()
        mean, deviation = rows.mean(dim=0), rows.var(dim=0, correction=0)
        gain = (deviation + 1e-6 * deviation.mean() + 1e-12).rsqrt()
        normalized = (rows - mean) * gain
        _, axes = torch.linalg.eigh(normalized.T @ normalized / len(rows))
        self.mean.copy_(mean)
        self.gain.copy_(gain)
        self.axes.copy_(axes[:, -len(self.axes) :].T)


class Distillation:
    """The phase that makes a network a student of a teacher; everything here lives only while
    training.

    Args:
        student: takes color in -1..1. draw: gives the images. count: how many there are. size: (h,
            w) of them.
    """

    def __init__(
        self,
        student: PatchDescriptors,
        teacher: Teacher,
        draw: Draw,
        count: int,
        size: tuple[int, int],
        device: str,
    ) -> None:
        self.student, self.teacher, self.draw, self.count, self.device = (
            student,
            teacher,
            draw,
            count,
            device,
        )
        source, rng = Textures(), np.random.default_rng(0)
        drawn = [np.clip(source.draw(*size, rng), 0, 255) for _ in range(TEXTURES)]
        self.textures = (
            torch.from_numpy(np.stack(drawn).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
        )

    def phase(self, recipe: PdnRecipe, epochs: int | None) -> Phase:
        """The phase of this distillation."""
        return Phase(
            "descriptors", self.student, list(self.student.parameters()), self.begin, self.loss,
            epochs or recipe.epochs, recipe.batch_size, recipe.rate,
            steps_per_epoch=recipe.steps_per_epoch,
        )  # fmt: skip

    def begin(self) -> int:
        """Take the teacher's scales from some of the images.

        Returns: how many numbers an epoch draws from.
        """
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(self.count, generator=generator)[:MEASURED]
        self.teacher.measure([self.images(part, generator) for part in torch.split(chosen, 8)])
        return self.count

    def images(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Images of these numbers, mirrored at random, every second one disturbed."""
        images = self.draw(batch, generator)
        flips = torch.rand(len(images), 2, generator=generator) < 0.5
        images = torch.stack(
            [
                image.flip([axis + 1 for axis in range(2) if flip[axis]])
                for image, flip in zip(images, flips, strict=True)
            ]
        )
        others = torch.cat(
            [self.textures, images[torch.randperm(len(images), generator=generator)]]
        )
        images[::2] = disturbed(images[::2], others, generator)
        return images.to(self.device)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the descriptors."""
        images = self.images(batch, generator)
        with torch.no_grad():
            target = self.teacher(images)
        return functional.mse_loss(self.student(images / 127.5 - 1), target)


def disturbed(images: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Irregular patches of some `others` (M, 3, h, w), of random opacity, laid over images (N, 3,
    h, w).
    """
    count, _, height, width = images.shape
    cells = [max(2, round(COARSE * side / min(height, width))) for side in (height, width)]
    noise = torch.randn(count, 1, *cells, generator=generator)
    noise = functional.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    share = (noise > between(*COVER)).to(images) * between(*OPACITY)
    chosen = others[torch.randint(len(others), (count,), generator=generator)]
    return images + share * (chosen - images)


@dataclass(frozen=True)
class PdnOptions:
    """What the user asked for. epochs: None takes the recipe's."""

    preset: str = "compact"
    epochs: int | None = None
    weights: Path | None = None
    seed: int = 0
    device: str = "cpu"


def pretrain_pdn(
    folders: Sequence[Path], out: Path, options: PdnOptions, control: FitControl
) -> int:
    """Distil a network on the images of `folders` and write it to `out`. Returns: of how many
    images.

    Ctrl-C leaves a checkpoint beside `out`; the same call goes on from it.
    Raises: ConfigError for an impossible option, DataError for a folder without images,
    fit.Interrupted after Ctrl-C.
    """
    if options.preset not in RECIPES:
        raise ConfigError(
            f"there is no preset {options.preset!r}: choose one of {', '.join(RECIPES)}"
        )
    if options.epochs is not None and options.epochs < 1:
        raise ConfigError(f"--epochs {options.epochs}: at least 1")
    require_device(options.device)
    require_file_target(out, "--out")
    recipe = RECIPES[options.preset]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        student = PatchDescriptors(recipe.kind)
    teacher = Teacher(recipe, options.weights, student.stride, student.channels).to(options.device)
    paths = normal_images(folders)
    out.parent.mkdir(parents=True, exist_ok=True)
    control.checkpoint = out.with_name(out.name + ".checkpoint")
    control.fingerprint = _fingerprint(paths, options)
    control.tell(f"{len(paths)} images")
    files = _Files(paths)
    distillation = Distillation(
        student.to(options.device),
        teacher,
        files.draw,
        files.numbers(recipe),
        (SIDE, SIDE),
        options.device,
    )
    fit_phases(student, [distillation.phase(recipe, options.epochs)], options.seed, control)
    write_pdn(out, student.cpu(), recipe.kind, len(paths))
    control.checkpoint.unlink(missing_ok=True)
    return len(paths)


class _Files:
    """Image files as windows of SIDE x SIDE.

    The first KEPT of them are held in memory, little larger than a window.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.kept: dict[Path, NDArray[np.uint8]] = {}

    def numbers(self, recipe: PdnRecipe) -> int:
        """Of an epoch: every image as often as it takes to fill one, at least once."""
        wanted = recipe.steps_per_epoch * recipe.batch_size
        return len(self.paths) * -(-wanted // len(self.paths))

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """A random window of each, of an image reduced to little more than the window."""
        return torch.stack(
            [self._window(self.paths[int(number) % len(self.paths)], generator) for number in batch]
        )

    def _window(self, path: Path, generator: torch.Generator) -> Tensor:
        image = self._reduced(path)
        draws = torch.rand(3, generator=generator).tolist()
        resized = _resized(image, round(SIDE * (1 + (LARGEST - 1) * draws[0])))
        top, left = (
            int(share * (side - SIDE + 1))
            for share, side in zip(draws[1:], resized.shape[:2], strict=True)
        )
        window = np.ascontiguousarray(resized[top : top + SIDE, left : left + SIDE])
        return torch.from_numpy(window).permute(2, 0, 1).to(torch.float32)

    def _reduced(self, path: Path) -> NDArray[np.uint8]:
        if path in self.kept:
            return self.kept[path]
        image = _resized(read_color(path), round(SIDE * LARGEST))
        if len(self.kept) < KEPT:
            self.kept[path] = image
        return image


def _resized(image: NDArray[np.uint8], short: int) -> NDArray[np.uint8]:
    """The image with its short side `short` px long, averaged over areas where that is smaller."""
    factor = short / min(image.shape[:2])
    height, width = (max(short, round(factor * side)) for side in image.shape[:2])
    resized = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    return cast(NDArray[np.uint8], resized)


def normal_images(folders: Sequence[Path]) -> list[Path]:
    """Color images of the folders, sorted: of products those of normal training parts, of any other
    folder all.

    Raises: DataError for a folder that is not there or holds no image.
    """
    found: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: name folders of images, or of products")
        products = find_products(folder)
        samples = [
            sample for product in products for sample in open_dataset(product).split("train")
        ]
        images = [sample.path for sample in samples if not sample.is_defective]
        if not products:
            images = [path for path in files_in(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise DataError(
                f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}): name a folder that does"
            )
        found.update(images)
    return sorted(found)


def _fingerprint(paths: Sequence[Path], options: PdnOptions) -> str:
    """Of everything the result depends on: options, names, sizes and times of the files."""
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr((FORMAT, options, stats)).encode()).hexdigest()


def write_pdn(path: Path, student: PatchDescriptors, kind: str, images: int) -> None:
    """Write a weights file that `--pretrained` takes."""
    buffer = io.BytesIO()
    torch.save(
        {"format": FORMAT, "kind": kind, "images": images, "state": student.state_dict()}, buffer
    )
    write_atomically(path, buffer.getvalue())


def read_pdn(path: Path, kind: str) -> dict[str, Tensor]:
    """The state of a network of this kind.

    Raises: DataError if the file is none, or of another kind.
    """
    wanted, remedy = "a file of `trainer pretrain pdn`", "make one, or leave --pretrained out"
    if not path.is_file():
        raise DataError(f"there is no file at {path}: make one with `trainer pretrain pdn`")
    stored = load_stored(path, wanted, remedy)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise DataError(f"{path} is not {wanted}: {remedy}")
    if stored.get("kind") != kind:
        raise DataError(
            f"{path} holds descriptors of the preset {stored.get('kind')}, this training needs"
            f" those of {kind}: make them with `trainer pretrain pdn --preset {kind}`"
        )
    state = stored.get("state")
    misfit = (
        find_misfit(PatchDescriptors(kind).state_dict(), state)
        if isinstance(state, dict)
        else "it holds none"
    )
    if misfit is not None:
        raise DataError(
            f"{path} does not fit the descriptors of the preset {kind}: {misfit}: {remedy}"
        )
    return cast(dict[str, Tensor], state)
