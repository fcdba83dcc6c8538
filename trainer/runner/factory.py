"""The runner that `--runner` names."""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import ConfigError
from edge.files import require_folder_target
from trainer.runner.local import LocalRunner
from trainer.runner.protocol import Runner

RUNNERS = "local, local:N, ray://HOST:PORT, ray://local or slurm://PARTITION?gpus=1"


def shared_folder(out: Path) -> Path:
    """`--out`, absolute, as all machines name it. Raises: ConfigError if it cannot be one."""
    require_folder_target(out, "--out")
    return Path(os.path.abspath(out))  # noqa: PTH100  # links stay: other machines have them too


def make_runner(text: str, out: Path, device: str = "cpu") -> Runner:
    """The runner `text` names. out: folder that all its machines share. device: where jobs train.

    Raises: ConfigError, also if jobs are to run here and torch cannot use the device.
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
        from trainer.device import require_device

        require_device(device)
        return LocalRunner(int(count) if colon else None)
    raise ConfigError(f"--runner {text!r}: {RUNNERS}")
