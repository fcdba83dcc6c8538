"""Folding a whole model: the same function, and the model itself untouched."""

import torch
from torch import Tensor, nn

from trainer.layers.fold import folded_copy
from trainer.systems.mats.caa import CAA, InvertedBottleneck
from trainer.systems.mats.fastkan import StudentFastKAN


class _Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.amplify = CAA(6, 4)
        self.student = StudentFastKAN(6, 8, 5, blocks=1, grid=4)

    def forward(self, target: Tensor, auxiliary: Tensor) -> Tensor:
        answer: Tensor = self.student(self.amplify(target, auxiliary))
        return answer


def test_folded_copy_computes_the_same_and_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = _Both().double()
    target, auxiliary = torch.randn(2, 6, 4, 4).double(), torch.randn(2, 4, 4, 4).double()
    for _ in range(3):
        model(target, auxiliary)  # BatchNorm meets some data
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = folded_copy(model)
    assert not any(
        isinstance(module, (InvertedBottleneck, nn.BatchNorm1d)) for module in folded.modules()
    )
    assert model.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(
        folded(target, auxiliary), model.eval()(target, auxiliary), rtol=1e-9, atol=1e-9
    )
