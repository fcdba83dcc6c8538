"""Frames from disk: the readers of every layout."""
