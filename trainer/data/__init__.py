"""Splits, caching and augmentation over edge.frames."""
