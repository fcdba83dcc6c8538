"""FP16 and INT8 of any graph that keeps the graph contract, each compared with float32.

fp16    the detector in float16 types; sensor bytes to height, masks and score stay float32, and so
        does every block of the detector that measurably needs it (overflowing squares,
        exponentials, logarithms, cancelling distances).
int8    the same graph with Q/DQ around convolutions and products with constant weights; blocks that
        cost most stay float16 until the certificate's limits hold.

A graph needs no more than named inputs and outputs, static shapes, and the module paths that
torch.onnx writes.

precisions   makes every wanted precision and measures it
search       which block of the graph runs in which precision
blocks       the blocks
bench        what a plan costs
calibrate    scales for INT8
convert      writes precisions into the types of a graph
view         a graph with its tensors looked up, and its multiply-accumulates
session      onnxruntime as the arithmetic that measures
evidence     the frames that are measured on, and what they say
section      a precision's section of the certificate
"""

from trainer.quantize.evidence import Evidence, EvidenceFrame
from trainer.quantize.precisions import Quantized, quantize
from trainer.quantize.section import certify
from trainer.quantize.view import count_macs

__all__ = ["Evidence", "EvidenceFrame", "Quantized", "certify", "count_macs", "quantize"]
