"""The page of a station: a process of its own, which asks `edge run` over a socket and reads the
station's files. It can hang, crash or be attacked without delaying a verdict.

OpenCV stays out of this process. numpy comes with the archive's modules, which the history and the
engineer's page import when they are first asked for.
"""
