"""Facts of the machine that a station runs on, read under a root and never changed there; and its
power mode, which is.

Verified on a stand-in: a tree of files in the form in which NVIDIA's system has them, and a program
in the place of nvpmodel. On a Jetson: never executed.
"""
