"""What of the TensorRT runner needs no GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edge.engine.tensorrt import Binding, Tensor, plan_bindings
from edge.errors import EngineError

COLOR = Tensor("color", "INPUT", (1, 480, 480, 3), "UINT8")
MAP = Tensor("map", "OUTPUT", (1, 1, 16, 16), "FLOAT")


def test_bindings_are_inputs_first_with_numpy_types() -> None:
    assert plan_bindings([MAP, COLOR]) == (
        Binding("color", True, (1, 480, 480, 3), np.dtype(np.uint8)),
        Binding("map", False, (1, 1, 16, 16), np.dtype(np.float32)),
    )


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([COLOR, Tensor("map", "OUTPUT", (1, 1, -1, 16), "FLOAT")], "'map' has dynamic shape"),
        ([COLOR, Tensor("map", "OUTPUT", (1, 1, 16, 16), "HALF")], "'map' is HALF"),
        ([COLOR], "no inputs or no outputs"),
        ([MAP], "no inputs or no outputs"),
        ([], "no inputs or no outputs"),
    ],
)
def test_an_engine_off_the_contract_is_refused(tensors: list[Tensor], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        plan_bindings(tensors)
