"""Pretraining of Point-MAE's encoder (Pang et al., ECCV 2022): masked groups are reconstructed from
the visible ones.

60 % of the groups are hidden. The encoder sees the others, a light decoder predicts the points of
the hidden ones from the positions of their centers, and the loss is Chamfer's distance to the true
points. It needs nothing but normal parts: the user's own, or the synthetic products.

What differs from the publication, and why: each cloud is rotated about the plane's normal instead
of scaled and shifted (a part on a table may lie at any angle, its size is known); Adam instead of
AdamW (trainer.fit has one optimizer for all); the tokenizer sees the visible groups alone, which
changes the statistics of its two BatchNorms and saves time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.fit import Phase
from trainer.systems.m3dm.chamfer import chamfer_distance
from trainer.systems.m3dm.groups import gather_points
from trainer.systems.m3dm.point_features import DepthImages, Groups, PointFeatures, PointSpec
from trainer.systems.m3dm.pointmae import Blocks, PointTransformer, position_embedding


@dataclass(frozen=True)
class PretrainPlan:
    """How an encoder is pretrained. masked: share of hidden groups. decoder_depth: its blocks."""

    epochs: int
    batch_size: int
    rate: float
    decoder_depth: int
    masked: float = 0.6


# The publication: 300 epochs, a rate of 1e-3 for batches of 128 clouds of 64 groups; M3DM's clouds
# have 1024 groups.
PAPER_PLAN = PretrainPlan(epochs=300, batch_size=8, rate=2.5e-4, decoder_depth=4)
COMPACT_PLAN = PretrainPlan(epochs=60, batch_size=16, rate=1e-3, decoder_depth=2)


class MaskedAutoencoder(nn.Module):
    """The encoder with the decoder that trains it.

    size: points of a group.
    """

    def __init__(self, transformer: PointTransformer, spec: PointSpec, plan: PretrainPlan) -> None:
        super().__init__()
        self.transformer = transformer
        self.visible = max(1, spec.groups - int(plan.masked * spec.groups))
        self.mask_token = nn.Parameter(torch.empty(1, 1, spec.width))
        self.pos_embed = position_embedding(spec.width)
        self.blocks = Blocks(spec.width, plan.decoder_depth, spec.heads)
        self.norm = nn.LayerNorm(spec.width)
        self.rebuild = nn.Linear(spec.width, 3 * spec.group_size)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, members: Tensor, centers: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of reconstructing hidden groups; members (N, G, K, 3) relative to centers (N, G,
        3).
        """
        order = torch.rand(members.shape[:2], generator=generator).argsort(dim=1).to(members.device)
        visible, hidden = order[:, : self.visible], order[:, self.visible :]  # (N, V), (N, H)
        reconstructed = self.reconstruct(
            _chosen(members, visible),
            gather_points(centers, visible),
            gather_points(centers, hidden),
        )  # (N, H, K, 3)
        return chamfer_distance(reconstructed.flatten(0, 1), _chosen(members, hidden).flatten(0, 1))

    def reconstruct(self, visible: Tensor, centers: Tensor, hidden_centers: Tensor) -> Tensor:
        """Visible groups (N, V, K, 3) at centers (N, V, 3) -> the hidden groups (N, H, K, 3) at
        their centers (N, H, 3).
        """
        tokens = self.transformer.encode(visible, centers)  # (N, V, width)
        blanks = self.mask_token.expand(*hidden_centers.shape[:2], -1)  # (N, H, width)
        position = torch.cat([self.pos_embed(centers), self.pos_embed(hidden_centers)], dim=1)
        decoded = self.blocks(torch.cat([tokens, blanks], dim=1), position)[-1]  # (N, V + H, width)
        points: Tensor = self.rebuild(self.norm(decoded[:, centers.shape[1] :]))  # (N, H, 3 K)
        return points.reshape(*hidden_centers.shape[:2], -1, 3)


def _chosen(members: Tensor, groups: Tensor) -> Tensor:
    """Groups (N, V, K, 3) of members (N, G, K, 3) by their numbers (N, V)."""
    return gather_points(members.flatten(2), groups).reshape(*groups.shape, *members.shape[2:])


def rotated(points: Tensor, angles: Tensor) -> Tensor:
    """Points (N, ..., 3) rotated about the third axis by angles (N,) in radians,
    counterclockwise.
    """
    angles = angles.reshape(-1, *[1] * (points.dim() - 2))
    x, y, up = points.unbind(-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y, up], dim=-1)


class _Pretraining:
    """Groups of all images, and the loss of a batch of them; everything here lives only while
    training.
    """

    def __init__(self, autoencoder: MaskedAutoencoder, grouped: Callable[[], Groups]) -> None:
        self.autoencoder, self.grouped = autoencoder, grouped
        self.groups: Groups | None = None

    def begin(self) -> int:
        """Divide all images into groups, once."""
        self.groups = self.grouped()
        return len(self.groups.members)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Of reconstructing the hidden groups of these images, each rotated at random."""
        assert self.groups is not None  # begin comes first
        angles = 2 * math.pi * torch.rand(len(batch), generator=generator)
        members, centers = (tensor[batch.to(tensor.device)] for tensor in self.groups[:2])
        angles = angles.to(members.device)
        members, centers = rotated(members, angles), rotated(centers, angles)
        loss: Tensor = self.autoencoder(members, centers, generator)
        return loss


def reconstruction_phase(
    transformer: PointTransformer,
    spec: PointSpec,
    plan: PretrainPlan,
    grouped: Callable[[], Groups],
    device: str,
    seed: int,
    held_out: Groups | None = None,
) -> Phase:
    """The phase that trains `transformer`, in place.

    grouped: gives the groups of all training images, on `device`; called when the phase begins or
    resumes. seed: of the decoder's first weights. held_out: groups of images that are not trained
    on, whose loss is followed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = MaskedAutoencoder(transformer, spec, plan).to(device)
    training = _Pretraining(autoencoder, grouped)

    def held_out_loss() -> float:
        assert held_out is not None  # else the phase has no such curve
        return reconstruction_error(autoencoder, held_out)

    return Phase(
        name="points",
        module=autoencoder,
        parameters=list(autoencoder.parameters()),
        begin=training.begin,
        loss=training.loss,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        rate=plan.rate,
        held_out=held_out_loss if held_out is not None else None,
    )


@torch.no_grad()
def reconstruction_error(autoencoder: MaskedAutoencoder, groups: Groups) -> float:
    """Loss of reconstructing these groups unrotated, always with the same ones hidden."""
    generator = torch.Generator().manual_seed(0)
    losses = [
        float(autoencoder(members[None], centers[None], generator))
        for members, centers in zip(groups.members, groups.centers, strict=True)
    ]
    return sum(losses) / len(losses)


def pretrain_phase(
    points: PointFeatures, images: DepthImages, plan: PretrainPlan, device: str, seed: int = 0
) -> Phase:
    """The phase of a detector that is given no weights: pretrain its own point features on its own
    images.

    points: on `device`; its scales are fitted to the images when the phase begins. images: of
    normal parts, on any device.
    """

    def grouped() -> Groups:
        points.fit_scales(images)
        return points.all_groups(images)

    return reconstruction_phase(points.transformer, points.spec, plan, grouped, device, seed)
