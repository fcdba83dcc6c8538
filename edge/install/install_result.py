"""What an installation did, as `edge install` prints it."""

from __future__ import annotations

from dataclasses import dataclass

from edge.install.engine_entry import EngineEntry
from edge.install.proof_file import ProofFile

PENDING = (
    "engine pending: this root is of another architecture, its first `edge run` builds and"
    " proves it"
)


@dataclass(frozen=True)
class ProofReport:
    """The proof on this machine, which engine judges, and the table of all of them."""

    proof: ProofFile
    judge: EngineEntry
    table: tuple[str, ...]

    def lines(self) -> list[str]:
        """The table, which engine judges, and what its threshold promises."""
        assert self.judge.section is not None
        threshold = self.judge.section.threshold
        why = (
            self.proof.why
            if self.judge is self.proof.engines[self.proof.chosen or 0]
            else "station.toml names it"
        )
        return [
            *self.table,
            f"engine proven: {self.judge.name} judges ({why})",
            f"threshold {threshold.value:.6g}. {threshold.guarantee}",
        ]


@dataclass(frozen=True)
class InstallResult:
    """What an installation did.

    proven: on this machine; None where the root is of another and the engine pending.
    """

    product: str
    version: str
    slot: str
    replaced: str | None  # the slot that was current before, None for the first or the same
    changed: bool  # False: this bundle was current already
    active: str | None  # the product that `edge run` judges
    proven: ProofReport | None
    dry_run: bool = False
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What to tell the integrator."""
        verb = (
            "would install"
            if self.dry_run
            else "installed"
            if self.changed
            else "already installed"
        )
        first = f"{verb} {self.product} {self.version} as {self.slot}"
        if self.replaced:
            first += f", previous is {self.replaced}"
        lines = [first, *([PENDING] if self.proven is None else self.proven.lines())]
        if self.active is not None and self.active != self.product:
            lines.append(
                f"active product stays {self.active}: `edge bundle select {self.product}` changes"
                " that"
            )
        elif self.active is not None:
            lines.append(f"active product: {self.active}")
        return [*lines, *self.notes]
