"""MATS's detector: frozen and encoded features, fused, and the distance of student and teacher.

Settled here, because the paper leaves it open (docs/systems/mats.md says why):

- Depth's encoder (trainer.layers.height) in `compact`; `paper` unshuffles the plain depth image,
  with heights outside the foreground replaced by the mean of their cell's foreground.
- Each color feature is scaled to unit deviation, depth features to unit covariance
  (trainer.systems.common.whitening).
- The distance's metric: `latent` is the paper's, `volume` measures it in units of the features,
  `balanced` is the geometric mean of both.
- The difference of student and teacher is clipped at BOUND deviations in every channel, so that one
  cell does not fill INT8's range.
- Color only: CAA is undefined and left out; MDLA, flow and student see the color features alone,
  `compact` on a finer grid, on which flow and student see a cell and its neighbors. Parts that lie
  at any angle are turned in training, and no position is told.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.schema import TensorSpec
from trainer.graph.deploy import Answer
from trainer.graph.prepared import Prepared
from trainer.layers.adaptation import Adaptation
from trainer.layers.anomaly_map import AnomalyMap
from trainer.layers.backbone import build_trunk
from trainer.layers.height import HeightEncoder
from trainer.layers.position import sine_position_encoding
from trainer.layers.unshuffle import pixel_unshuffle
from trainer.systems.common.foreground import cell_mask, rows_of
from trainer.systems.common.frame import chosen_switches
from trainer.systems.common.sizes import scaled_to
from trainer.systems.common.whitening import BOUND, Whiten
from trainer.systems.mats.fastkan import StudentFastKAN, StudentOfWindows
from trainer.systems.mats.flow import RealNVP, negative_log_likelihood
from trainer.systems.mats.fusion import Fusion
from trainer.systems.mats.preset import METRICS, UNSHUFFLE, MatsPreset
from trainer.systems.seam import BuildRequest

POSITION_CHANNELS = 32
BLOCKS = 4  # of the flow and of the student
SWITCHES = {
    "caa": True,  # off: color and depth features side by side
    "mdla": True,  # off: teacher and student see the same features
    "mask": True,  # off: the background is trained on, too
    "position": True,  # off: a position encoding of zeros
    "student": True,  # off: the flow's likelihood judges
}


class MatsDetector(nn.Module):
    """The detector of the deployed graph: Prepared -> raw map (N, 1, H, W), never negative.

    A station may shift and scale color and depth features as they are encoded, before they are
    whitened.
    """

    position: Tensor
    has_moments = True

    def __init__(self, preset: MatsPreset, request: BuildRequest) -> None:
        super().__init__()
        self.preset, self.switches = preset, chosen_switches(SWITCHES, request)
        self.trunk = build_trunk(preset.backbone, request.weights, random=request.random_backbone)
        (height, width), depth_size = request.sizes.color, request.sizes.depth
        color_only = int(depth_size is None)
        coarse, fine = preset.backbone.strides[-1], preset.backbone.strides[0]
        stride = fine if preset.fine_grid[color_only] else coarse
        self.grid = height // stride, width // stride
        self.map_size = scaled_to(preset.map_side, self.grid)
        self.encoder = None
        if depth_size is not None and preset.encode_height:
            self.encoder = HeightEncoder(finer=height // depth_size[0])
        color, depth = self._channels(with_depth=depth_size is not None)
        self.adaptation = Adaptation([color, depth] if depth else [color])
        self.whiten_color = Whiten(color)
        self.whiten_depth = Whiten(depth) if depth else None
        self.fusion = Fusion(color, depth, self.grid, self.switches, coarse // stride)
        self.flow = _flow(preset, color + depth, color_only, request.seed)
        self.student = _student(preset, color + depth, color_only)
        encoding = sine_position_encoding(POSITION_CHANNELS, *self.grid)  # (1, 32, h, w)
        self.turned = request.turned
        if self.turned or not self.switches["position"]:
            encoding = torch.zeros_like(encoding)
        self.register_buffer("position", encoding, persistent=False)
        self.to_map = AnomalyMap(self.grid, self.map_size, preset.blur)

    def _channels(self, *, with_depth: bool) -> tuple[int, int]:
        """Channels of color and depth features on the grid."""
        own = self.preset.backbone.channels
        color = sum(own) if self.preset.pool_finer else own[-1]
        tint = (UNSHUFFLE // 2) ** 2 if self.encoder is not None else 0
        return color + tint, UNSHUFFLE**2 if with_depth else 0

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """Shift and scale."""
        return self.adaptation.inputs

    def forward(self, prepared: Prepared, shift: Tensor, scale: Tensor) -> Answer:
        """Prepared batch, shift and scale (C,) -> (N, 1, H, W) anomaly map, raw, unmasked."""
        mask = cell_mask(prepared.foreground, self.grid[0])  # (N, 1, h, w)
        encoded = self.encoded(self.color_features(prepared.color), prepared)  # (N, Ci, h, w) each
        groups = [features for features in encoded if features is not None]
        adapted, moments = self.adaptation(groups, [mask] * len(groups), shift, scale)
        color, depth = (*adapted, None)[:2]
        joined, attended = self.fusion(*self.whitened(color, depth))  # (N, C, h, w)
        distance = self.distance(joined, attended)  # (N, 1, h, w)
        return Answer(self.to_map(distance, mask), moments=moments)  # (N, 1, H, W)

    def color_features(self, color: Tensor) -> Tensor:
        """Frozen backbone features of an image (N, 3, H, W) on the grid, raw, (N, C, h, w)."""
        maps = self.trunk(color)
        kept = maps if self.preset.pool_finer else maps[-1:]
        return torch.cat([self._on_grid(one) for one in kept], dim=1)

    def _on_grid(self, features: Tensor) -> Tensor:
        """A stage's features, averaged or enlarged to the grid, (N, C, h, w)."""
        rows, cells = self.grid[0], features.shape[2]
        if cells < rows:
            return functional.interpolate(features, scale_factor=rows // cells, mode="bilinear")
        return functional.avg_pool2d(features, cells // rows) if cells > rows else features

    def encoded(self, color: Tensor, prepared: Prepared) -> tuple[Tensor, Tensor | None]:
        """Color features (N, C, h, w) with what depth adds to them, and depth features (N, 64, h,
        w), None without depth.

        With the encoder (compact) these are its tint, as 16 more channels of color, and the
        amplified depth image, unshuffled; else color as it is and the plain depth image.
        """
        if prepared.height is None:
            return color, None
        if self.encoder is None:
            return color, _plain_depth(prepared.height, prepared.foreground)
        relief, tint = self.encoder(prepared.height, prepared.foreground, prepared.color)
        more = pixel_unshuffle(tint, UNSHUFFLE // 2)  # (N, 16, h, w)
        return torch.cat([color, more], dim=1), pixel_unshuffle(relief, UNSHUFFLE)

    def whitened(self, color: Tensor, depth: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both modalities, scaled by the statistics of the training foreground."""
        scaled: Tensor = self.whiten_color(color)
        return scaled, None if self.whiten_depth is None else self.whiten_depth(depth)

    @torch.no_grad()
    def fit_whitening(self, color: Tensor, depth: Tensor | None, mask: Tensor) -> None:
        """Take those statistics from normal features (N, C, h, w) and their mask (N, 1, h, w)."""
        self.whiten_color.fit_each_channel(rows_of(color, mask))
        if self.whiten_depth is not None and depth is not None:
            self.whiten_depth.fit(rows_of(depth, mask), self.preset.shrink)

    def distance(self, joined: Tensor, attended: Tensor) -> Tensor:
        """Anomaly per cell (N, 1, h, w), from the student's and the teacher's input (N, C, h, w).

        Without the student the flow's likelihood. It is negative in places: softplus keeps the map
        positive and preserves the ranking.
        """
        z, log_det = self.flow(attended, self.position)  # (N, C, h, w), (N, 1, h, w)
        channels = z.shape[1]
        if not self.switches["student"]:
            surprise: Tensor = functional.softplus(negative_log_likelihood(z, log_det) / channels)
            return surprise
        encoding = self.position.expand(joined.shape[0], -1, -1, -1)  # (N, 32, h, w)
        predicted = self.student(torch.cat([joined, encoding], dim=1))  # (N, C, h, w)
        difference = (predicted - z).clamp(-BOUND, BOUND)
        squared: Tensor = (difference * difference).mean(dim=1, keepdim=True)  # (N, 1, h, w)
        power = METRICS[self.preset.metric[self.whiten_depth is None]]
        # The flow scales lengths by (det J)^(1/C) in the geometric mean.
        return squared if power == 0 else squared * torch.exp(log_det * (-power / channels))


def _plain_depth(height: Tensor, foreground: Tensor) -> Tensor:
    """Height (N, 1, H, W) in meters, unshuffled to (N, 64, h, w); outside the foreground the mean
    of the cell's foreground, so that the rim of a part is no step.
    """
    share = functional.avg_pool2d(foreground, UNSHUFFLE)  # (N, 1, h, w)
    mean = functional.avg_pool2d(height, UNSHUFFLE) / share.clamp(min=1e-4)
    outside = 1 - pixel_unshuffle(foreground, UNSHUFFLE)  # (N, 64, h, w)
    return pixel_unshuffle(height, UNSHUFFLE) + outside * mean


def _flow(preset: MatsPreset, channels: int, color_only: int, seed: int) -> RealNVP:
    """The teacher."""
    hidden, clamp = preset.flow_hidden[color_only], preset.clamp[color_only]
    window = preset.window[color_only]
    return RealNVP(channels, BLOCKS, hidden, clamp, POSITION_CHANNELS, window, seed)


def _student(
    preset: MatsPreset, channels: int, color_only: int
) -> StudentFastKAN | StudentOfWindows:
    """The student, from features and position encoding to the teacher's width."""
    inputs, hidden = channels + POSITION_CHANNELS, preset.student_hidden
    window = preset.window[color_only]
    if window == 1:
        return StudentFastKAN(inputs, hidden, channels, BLOCKS, preset.student_grid)
    return StudentOfWindows(inputs, hidden, channels, BLOCKS, preset.student_grid, window)
