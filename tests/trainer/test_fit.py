"""The training loop: repeatable, interruptible, resumed with the same result."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edge.errors import DataError
from trainer.fit import FitControl, Interrupted, Phase, fit_phases, one_cycle


class Toy:
    """Two linear maps, the second learning what the first became; dropout-like noise from the
    generator.
    """

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.root = nn.ModuleDict(
            {"first": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "second": nn.Linear(4, 4)}
        )
        self.data = torch.randn(23, 4, generator=torch.Generator().manual_seed(1))
        self.begun: list[str] = []
        self.after_epochs: dict[int, signal.Signals] = {}
        self.losses = 0

    def _begin(self, name: str) -> int:
        self.begun.append(name)
        return len(self.data)

    def _loss(self, name: str, batch: Tensor, generator: torch.Generator) -> Tensor:
        self.losses += 1
        if self.losses in self.after_epochs:
            os.kill(os.getpid(), self.after_epochs[self.losses])
        x = self.data[batch] + 0.1 * torch.randn(len(batch), 4, generator=generator)
        target = (
            self.data[batch].flip(1)
            if name == "first"
            else self.root["first"](self.data[batch]).detach()
        )
        error: Tensor = ((self.root[name](x) - target) ** 2).mean()
        return error

    def phases(self) -> list[Phase]:
        return [
            Phase(
                name,
                self.root[name],
                list(self.root[name].parameters()),
                lambda name=name: self._begin(name),
                lambda batch, generator, name=name: self._loss(name, batch, generator),
                4,
                8,
                1e-2,
            )
            for name in ("first", "second")
        ]

    def weights(self) -> list[Tensor]:
        return [tensor.clone() for tensor in self.root.state_dict().values()]


def silent(**named: object) -> FitControl:
    return FitControl(tell=lambda _: None, **named)  # type: ignore[arg-type]  # test shorthand


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    runs = []
    for seed in (5, 5, 6):
        toy = Toy()
        fit_phases(toy.root, toy.phases(), seed, silent())
        runs.append(toy.weights())
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("stop_after", range(1, 8))
def test_a_training_stopped_after_any_epoch_ends_with_the_uninterrupted_weights(
    tmp_path: Path, stop_after: int
) -> None:
    whole = Toy()
    curves = fit_phases(whole.root, whole.phases(), 3, silent())
    checkpoint = tmp_path / "checkpoint.pt"
    stopped = Toy()
    with pytest.raises(Interrupted):
        fit_phases(
            stopped.root, stopped.phases(), 3, silent(checkpoint=checkpoint, stop_after=stop_after)
        )
    resumed = Toy(seed=99)  # nothing of the fresh start may matter
    assert fit_phases(resumed.root, resumed.phases(), 3, silent(checkpoint=checkpoint)) == curves
    assert same(whole.weights(), resumed.weights())


def test_ctrl_c_ends_after_the_epoch_at_hand_with_a_checkpoint(tmp_path: Path) -> None:
    toy = Toy()
    toy.after_epochs = {2: signal.SIGINT}
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="run the same command again"):
        fit_phases(toy.root, toy.phases(), 3, silent(checkpoint=tmp_path / "c.pt"))
    assert torch.load(tmp_path / "c.pt", weights_only=True)["epoch"] == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    toy = Toy()
    with pytest.raises(Interrupted):
        fit_phases(
            toy.root,
            toy.phases(),
            3,
            silent(checkpoint=tmp_path / "c.pt", stop_after=1, fingerprint="a"),
        )
    with pytest.raises(DataError, match="other data or options"):
        fit_phases(toy.root, toy.phases(), 3, silent(checkpoint=tmp_path / "c.pt", fingerprint="b"))


def test_only_the_parameters_of_a_phase_move_in_it(tmp_path: Path) -> None:
    toy = Toy()
    second = [tensor.clone() for tensor in toy.root["second"].state_dict().values()]
    with pytest.raises(Interrupted):
        fit_phases(toy.root, toy.phases(), 3, silent(stop_after=4))
    assert same(second, list(toy.root["second"].state_dict().values()))


def test_progress_names_phase_epoch_and_time_left() -> None:
    told: list[str] = []
    toy = Toy()
    fit_phases(toy.root, toy.phases(), 3, FitControl(tell=told.append))
    assert any("first" in line and "4/4" in line and "left" in line for line in told)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    assert one_cycle(0.0) == pytest.approx(0.04)
    assert one_cycle(0.1) == pytest.approx(1.0)
    assert one_cycle(1.0) == pytest.approx(0.0, abs=1e-6)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    """Keys of the file changed with the spelling; what lacks one of them is not read in part."""
    place = tmp_path / "c.pt"
    toy = Toy()
    with pytest.raises(Interrupted):
        fit_phases(toy.root, toy.phases(), 3, silent(checkpoint=place, stop_after=1))
    stored = torch.load(place, weights_only=True)
    stored["optimiser"] = stored.pop("optimizer")
    torch.save(stored, place)
    with pytest.raises(DataError, match="of this version: remove the file"):
        fit_phases(toy.root, toy.phases(), 3, silent(checkpoint=place))


def test_stopped_after_the_last_epoch_it_measures_again_what_no_checkpoint_holds(
    tmp_path: Path,
) -> None:
    """A power cut between the last checkpoint and the run folder: scales that `begin` fits must not
    stay unfitted.
    """
    control = {"checkpoint": tmp_path / "checkpoint.pt", "fingerprint": "one"}
    first = Toy()
    fit_phases(first.root, first.phases(), 0, silent(**control))
    again = Toy(seed=1)
    fit_phases(again.root, again.phases(), 0, silent(**control))
    assert again.begun == ["second"]
    assert same(first.weights(), again.weights())


def test_a_held_out_figure_is_asked_for_after_every_epoch_and_changes_nothing(
    tmp_path: Path,
) -> None:
    def trained(
        held_out: bool, stop_after: int | None = None
    ) -> tuple[Toy, dict[str, list[float]]]:
        toy = Toy()
        phases = toy.phases()
        if held_out:
            phases[1].held_out = lambda: float(toy.root["second"](toy.data).square().mean())
        control = silent(checkpoint=tmp_path / str(held_out), stop_after=stop_after)
        return toy, fit_phases(toy.root, phases, 0, control)

    plain, _ = trained(held_out=False)
    with pytest.raises(Interrupted):
        trained(held_out=True, stop_after=6)
    asked, curves = trained(held_out=True)
    assert same(plain.weights(), asked.weights())
    assert [len(curve) for curve in curves.values()] == [4, 4, 4]
    final = float(asked.root["second"](asked.data).square().mean().detach())
    assert curves["second, held out"][-1] == pytest.approx(final, rel=1e-6)
