"""The runner that `--runner` names."""

from __future__ import annotations

from pathlib import Path

from edge.errors import ConfigError
from trainer.runner.local import LocalRunner
from trainer.runner.protocol import Runner

RUNNERS = "local, local:N, ray://HOST:PORT, ray://local or slurm://PARTITION?gpus=1"


def make_runner(text: str, out: Path) -> Runner:
    """The runner `text` names. out: folder that all its machines share.

    Raises: ConfigError.
    """
    kind, separator, rest = text.partition("://")
    if separator and kind == "ray" and rest:
        from trainer.runner.ray_cluster import RayRunner

        return RayRunner(rest)
    if separator and kind == "slurm" and rest.partition("?")[0]:
        from trainer.runner.slurm import SlurmRunner

        return SlurmRunner(rest, out)
    name, colon, count = text.partition(":")
    if name == "local" and (not colon or (count.isdecimal() and int(count) > 0)):
        return LocalRunner(int(count) if colon else None)
    raise ConfigError(f"--runner {text!r}: {RUNNERS}")
