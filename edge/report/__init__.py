"""Signed reports of a station for its quality file: one HTML file each that needs no other, prints
well, and shows whether a byte of it was changed.
"""
