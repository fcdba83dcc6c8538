"""VMPFD-AD: vision Mamba and the distribution of patch features."""
