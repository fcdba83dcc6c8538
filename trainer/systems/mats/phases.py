"""MATS's phases over cached features: depth's encoder, fusion, teacher and student, each frozen
before the next begins.

Settled here, because the paper leaves it open (docs/systems/mats.md says why): CAA and MDLA are
trained first, by reconstructing clean features from noisy ones. The flow's likelihood alone could
grow without bound by collapsing the features; a collapsed feature reconstructs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from trainer.fit import Phase
from trainer.systems.common.depth_encoder import encoder_phase
from trainer.systems.common.foreground import cell_mask, foreground_mean, rows_of
from trainer.systems.common.views import Views
from trainer.systems.mats.detector import MatsDetector
from trainer.systems.mats.fastkan import StudentFastKAN
from trainer.systems.mats.flow import negative_log_likelihood
from trainer.systems.mats.preset import MatsPreset

FUSION_BATCH = 8  # views
ROWS_AT_ONCE = 8192  # cells that the teacher answers together


@dataclass(frozen=True)
class Rows:
    """The foreground cells of all views, (M, C) each.

    joined: the student's input. attended: the teacher's. position: its encoding.
    """

    joined: Tensor
    attended: Tensor
    position: Tensor

    def __len__(self) -> int:
        return len(self.joined)


class Training:
    """The phases over cached features; everything here lives only while training."""

    def __init__(
        self, detector: MatsDetector, views: Views, preset: MatsPreset, device: str
    ) -> None:
        self.detector, self.preset, self.device = detector, preset, device
        self.views = views.to(device)
        mask = cell_mask(self.views.foreground.float(), detector.grid[0])
        self.mask = mask if detector.switches["mask"] else torch.ones_like(mask)
        self.features: tuple[Tensor, Tensor | None] | None = None  # whitened color and depth
        self.rows: Rows | None = None
        self.targets = torch.zeros(0)  # the teacher's answers (M, C) to the rows

    def phases(self, epochs: int | None) -> list[Phase]:
        """Depth's encoder and the fusion where there are such, the teacher, and the student unless
        it is off.

        epochs: of every phase, None takes the preset's.
        """
        detector, preset = self.detector, self.preset
        color_only = int(detector.whiten_depth is None)
        phases = []
        if detector.encoder is not None:
            encoder_epochs = epochs or preset.encoder_epochs
            phases.append(encoder_phase(detector.encoder, self.views, encoder_epochs, self.device))
        if list(detector.fusion.parameters()):
            phases.append(self._fusion_phase(epochs or preset.fusion_epochs))
        phases.append(self._teacher_phase(epochs or preset.teacher_epochs[color_only]))
        if detector.switches["student"]:
            phases.append(self._student_phase(epochs or preset.student_epochs[color_only]))
        return phases

    def _fusion_phase(self, epochs: int) -> Phase:
        return Phase(
            "fusion",
            self.detector.fusion,
            list(self.detector.fusion.parameters()),
            self.begin_fusion,
            self.fusion_loss,
            epochs,
            FUSION_BATCH,
            self.preset.rates[0],
            schedule=self.preset.copies > 0,
            steps_per_epoch=self.preset.fusion_steps,
        )

    def _teacher_phase(self, epochs: int) -> Phase:
        return Phase(
            "teacher",
            self.detector.flow,
            list(self.detector.flow.parameters()),
            self.begin_teacher,
            self.teacher_loss,
            epochs,
            self.preset.batch_size,
            self.preset.rates[1],
            schedule=self.preset.copies > 0,
            steps_per_epoch=self.preset.steps_per_epoch,
        )

    def _student_phase(self, epochs: int) -> Phase:
        return replace(
            self._teacher_phase(epochs),
            name="student",
            module=self.detector.student,
            parameters=list(self.detector.student.parameters()),
            begin=self.begin_student,
            loss=self.student_loss,
            rate=self.preset.rates[2],
        )

    def begin_fusion(self) -> int:
        """The fusion sees every view, whitened."""
        self.whitened()
        return len(self.views)

    @torch.no_grad()
    def whitened(self) -> tuple[Tensor, Tensor | None]:
        """Whitened color and depth features (n, C, h, w) of all views, depth None without depth.

        Computed once, when depth's encoder is trained: the detector's whitening is fitted to them.
        """
        if self.features is None:
            color, depth = self._encoded()
            self.detector.fit_whitening(color, depth, self.mask)
            self.features = self.detector.whitened(color, depth)
        return self.features

    def _encoded(self) -> tuple[Tensor, Tensor | None]:
        """Color and depth features (n, C, h, w) of all views, a few at a time."""
        (color,) = self.views.levels
        if self.detector.whiten_depth is None:
            return color, None
        encoded = [
            self.detector.encoded(color[batch], self.views.prepared(batch, self.device))
            for batch in self.views.batches()
        ]
        depth = [extra for _, extra in encoded if extra is not None]
        return torch.cat([own for own, _ in encoded]), torch.cat(depth)

    def fusion_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Foreground error of clean features reconstructed from noisy ones, by CAA and by MDLA
        after it.
        """
        color, depth = self.whitened()
        color, depth = color[batch], None if depth is None else depth[batch]  # (B, C, h, w)
        target = color if depth is None else torch.cat([color, depth], dim=1)
        noisy_color = self._noisy(color, generator)
        noisy_depth = None if depth is None else self._noisy(depth, generator)
        joined, attended = self.detector.fusion(noisy_color, noisy_depth)
        loss = foreground_mean((attended - target) ** 2, self.mask[batch])
        if self.detector.fusion.color_caa is not None:
            loss = loss + foreground_mean((joined - target) ** 2, self.mask[batch])
        return loss

    def _noisy(self, features: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(features.shape, generator=generator).to(features.device)
        return features + self.preset.noise * noise

    def begin_teacher(self) -> int:
        """The teacher sees every foreground cell of the fused features, each a row."""
        return len(self.foreground_rows())

    def foreground_rows(self) -> Rows:
        """The rows that teacher and student are trained on, computed once, when the fusion is
        trained.
        """
        if self.rows is None:
            self.rows = self._fused_rows()
        return self.rows

    @torch.no_grad()
    def _fused_rows(self) -> Rows:
        """Fuse the features of all views, a few at a time, and keep the foreground."""
        color, depth = self.whitened()
        joined, attended = [], []
        for batch in self.views.batches():
            first, second = self.detector.fusion(
                color[batch], None if depth is None else depth[batch]
            )
            joined.append(rows_of(first, self.mask[batch]))
            attended.append(rows_of(second, self.mask[batch]))
        encoding = self.detector.position.expand(len(self.views), -1, -1, -1)  # (n, 32, h, w)
        return Rows(torch.cat(joined), torch.cat(attended), rows_of(encoding, self.mask))

    def teacher_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 13 per channel, over foreground cells."""
        del generator
        z, log_det = self._flow(self.foreground_rows(), batch)
        return negative_log_likelihood(z, log_det).mean() / z.shape[1]

    def _flow(self, rows: Rows, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The flow on B rows, as one image of B x 1 positions."""
        x = rows.attended[batch].T[None, :, :, None]  # (1, C, B, 1)
        position = rows.position[batch].T[None, :, :, None]  # (1, 32, B, 1)
        return cast(tuple[Tensor, Tensor], self.detector.flow(x, position))

    @torch.no_grad()
    def begin_student(self) -> int:
        """Ask the frozen teacher once about every row."""
        rows = self.foreground_rows()
        batches = torch.split(torch.arange(len(rows)), ROWS_AT_ONCE)
        answers = [self._flow(rows, batch)[0][0, :, :, 0].T for batch in batches]  # (B, C)
        self.targets = torch.cat(answers)  # (M, C)
        return len(rows)

    def student_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 14 per channel, over foreground cells."""
        del generator
        rows = self.foreground_rows()
        inputs = torch.cat([rows.joined[batch], rows.position[batch]], dim=1)  # (B, C + 32)
        student = cast(StudentFastKAN, self.detector.student)
        return functional.mse_loss(student.positions(inputs), self.targets[batch])
