"""The training of one memory bank: greedy k-center, then distillation into fewer rows."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.fit import Phase
from trainer.layers.coreset import greedy_coreset
from trainer.systems.m3dm.distilled import SMALLEST, DistilledBank, nearest_distance
from trainer.systems.m3dm.frozen import FrozenFeatures
from trainer.systems.m3dm.memory_bank import MemoryBank
from trainer.systems.m3dm.preset import M3dmPreset

POOL = 200_000  # features on which a distilled bank learns, at most


class BankTraining:
    """Rows of one bank.

    Args:
        bank: is filled by `settle`. selected: rows that the coreset keeps. shipped: rows that are
            distilled from them; as many as selected: none are, the coreset ships as it is.
    """

    def __init__(
        self,
        name: str,
        bank: MemoryBank,
        frozen: FrozenFeatures,
        selected: int,
        shipped: int,
        preset: M3dmPreset,
        seed: int,
    ) -> None:
        self.name, self.bank, self.frozen, self.selected = name, bank, frozen, selected
        self.preset, self.seed = preset, seed
        self.distilled: DistilledBank | None = None
        if shipped < selected:
            channels = bank.weight.shape[1]
            self.distilled = DistilledBank(channels, shipped).to(frozen.device)
        self.pool = torch.zeros(0)  # (P, C) float16, by `_begin`
        self.target = torch.zeros(0)  # (P,) squared distances of the pool to the large bank

    def phases(self, epochs: int | None) -> list[Phase]:
        """The distillation, if there is one. epochs: None takes the preset's."""
        small, preset = self.distilled, self.preset
        if small is None:
            return []

        def begin() -> int:
            return self._begin(small)

        def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
            del generator
            smallest = SMALLEST * self.target.mean()
            return small.loss(self.pool[batch].float(), self.target[batch], smallest)

        return [
            Phase(
                f"bank {self.name}",
                small,
                list(small.parameters()),
                begin,
                loss,
                epochs or preset.distil_epochs,
                preset.distil_batch,
                preset.distil_rate,
                weight_decay=0.0,
                steps_per_epoch=preset.steps_per_epoch,
            )
        ]

    @torch.no_grad()
    def _begin(self, small: DistilledBank) -> int:
        """Features of augmented views and of synthetic anomalies, and the large bank's distances
        there.
        """
        self.frozen.compute()
        large = self._large()
        small.start(large)
        normal, synthetic = self.frozen.normal, self.frozen.synthetic
        device = self.frozen.device
        pool = torch.cat(
            [
                normal.rows(self.name, self.frozen.unseen, device),
                synthetic.rows(self.name, torch.arange(len(synthetic)), device),
            ]
        )
        generator = torch.Generator().manual_seed(self.seed)
        chosen = torch.randperm(len(pool), generator=generator)[:POOL]
        self.pool = pool[chosen].to(device)  # (P, C)
        self.target = nearest_distance(large, self.pool)  # (P,)
        return len(self.pool)

    @torch.no_grad()
    def _large(self) -> MemoryBank:
        """The coreset of the banked views."""
        rows = self.frozen.normal.rows(self.name, self.frozen.banked, self.frozen.device)  # (n, C)
        chosen = greedy_coreset(rows, self.selected, self.seed, self.preset.projected)
        large = MemoryBank(rows.shape[1], len(chosen))
        large.fill(rows[chosen].float(), None, rows.float().mean(dim=0))
        return large.to(self.frozen.device)

    @torch.no_grad()
    def settle(self) -> None:
        """Put the trained rows into the detector's bank."""
        if self.distilled is not None:
            self.distilled.fill(self.bank)
        else:
            self.bank.load_state_dict(self._large().state_dict())
