"""onnxruntime as the arithmetic that measures: exact Q/DQ, no fusion into its own integer
kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from edge.errors import EngineError
from edge.proof.compare import Responses
from trainer.quantize.evidence import Source

THREADS = 2


def session_of(model: onnx.ModelProto) -> Any:
    """A CPU session. Raises: EngineError if onnxruntime refuses the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    # Without VNNI its fused integer kernels saturate 16-bit sums, which no GPU does; unfused, Q/DQ
    # is exact.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # threads that wait must not keep a shared machine busy
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        raise EngineError(f"onnxruntime refuses the graph: {error}") from error


def responses_of(model: onnx.ModelProto, sources: Sequence[Source]) -> Responses:
    """Map and score of every frame, read one at a time."""
    session = session_of(model)
    taken = [value.name for value in session.get_inputs()]
    outputs = ["map", "score"]
    frames = (source() for source in sources)
    answers = (session.run(outputs, {name: feeds[name] for name in taken}) for feeds in frames)
    return Responses.of(dict(zip(outputs, answer, strict=True)) for answer in answers)


def runtime_name() -> str:
    """What the certificate calls this arithmetic."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} CPU, float16 rounded after every node"
