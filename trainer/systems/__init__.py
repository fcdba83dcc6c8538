"""The detectors: wiring, losses, fit."""
