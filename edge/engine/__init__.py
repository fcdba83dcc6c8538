"""Engines behind one interface, and how TensorRT's plans are built and cached."""
