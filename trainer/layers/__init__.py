"""Layers that several systems use, one idea a file."""
