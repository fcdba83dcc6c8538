"""Point-MAE weights on disk, in the layout of the published checkpoints
(github.com/Pang-Yatian/Point-MAE).

The published file is {"base_model": state, ...}, its names MAE_encoder.encoder...,
MAE_encoder.pos_embed..., MAE_encoder.blocks.blocks.N... and MAE_encoder.norm...; checkpoints of
several GPUs put "module." before them, those of its classifiers have no MAE_encoder. Ours is the
state alone, under the published names, so that one reader takes all of them.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from edge.errors import DataError
from edge.files import write_atomically
from trainer.layers.backbone import read_weights
from trainer.systems.m3dm.pointmae import PointTransformer
from trainer.tensor_files import find_misfit

ENCODER = "MAE_encoder."
WRAPPINGS = ("module.", "base_model.", ENCODER)


def write_pointmae(path: Path, transformer: PointTransformer) -> None:
    """Write the encoder's weights, whole or not at all."""
    buffer = io.BytesIO()
    state = {
        ENCODER + name: tensor.detach().cpu() for name, tensor in transformer.state_dict().items()
    }
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_pointmae(path: Path, transformer: PointTransformer) -> None:
    """Fill the encoder from a file of `trainer pretrain pointmae` or a published one.

    A decoder or classifier in the file is ignored.
    Raises: DataError if the file cannot be read, or lacks a tensor of this encoder in its shape.
    """
    expected = "Point-MAE weights of `trainer pretrain pointmae`, or published ones"
    stored = {
        _bare(name): tensor for name, tensor in read_weights(path, "--pretrained", expected).items()
    }
    needed = transformer.state_dict()
    misfit = find_misfit(needed, stored)
    if misfit is not None:
        width, depth = transformer.norm.weight.numel(), len(transformer.blocks.blocks)
        raise DataError(
            f"{path} does not fit a Point-MAE encoder of width {width} and {depth} blocks:"
            f" {misfit}. Make one with `trainer pretrain pointmae` and the same --preset, or name a"
            " published checkpoint with --preset paper"
        )
    transformer.load_state_dict({name: stored[name] for name in needed})


def _bare(name: str) -> str:
    """A tensor's name in the encoder itself."""
    for wrapping in WRAPPINGS:
        name = name.removeprefix(wrapping)
    return name
