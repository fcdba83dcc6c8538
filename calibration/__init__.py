"""A technician's steps on site: the background plane, the threshold.

Imports edge, never trainer.
"""
