"""A child process that follows a test's orders, for tests of `edge.bounded`."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

from edge.bounded import enter_child


def main() -> None:
    answer = enter_child()
    word, *rest = sys.stdin.read().split()
    if word == "hang":
        print("a library says something")
        if rest:
            Path(rest[0]).touch()
        time.sleep(600)
    elif word == "eat":
        eaten = [b"\1" * (64 << 20) for _ in range(int(rest[0]) >> 6)]
        time.sleep(600 if eaten else 0)
    elif word == "crash":
        ctypes.string_at(0)
    elif word == "exit":
        os._exit(3)
    elif word == "talk":
        while True:
            os.write(answer, b"x" * 65536)
    os.write(answer, f"{word} {os.getpid()}".encode())


if __name__ == "__main__":
    main()
