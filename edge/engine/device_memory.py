"""The CUDA context, and buffers that CPU and GPU share, through pycuda.

On a Jetson both use the same memory: a pinned, mapped host array is also the device buffer, and
nothing is copied (CUDA for Tegra: Orin and later cache it on both sides). On a discrete GPU the
stream copies between a pinned host array and a device buffer. Never executed so far: written
against pycuda 2024.1's documentation, without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edge.errors import EngineError
from edge.optional import optional_module

REMEDY = "Install CUDA's nvcc, then `dpkg-reconfigure edge-station` compiles pycuda against it"


class Device:
    """The GPU's context and one stream.

    It belongs to no thread: `current` makes it the calling thread's for a while.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._cuda = optional_module("pycuda.driver", REMEDY)
        try:
            self._cuda.init()
            device = self._cuda.Device(ordinal)
            # a waiting thread sleeps instead of spinning
            flags = self._cuda.ctx_flags.MAP_HOST | self._cuda.ctx_flags.SCHED_BLOCKING_SYNC
            self._context = device.make_context(flags)
        except self._cuda.Error as error:
            raise EngineError(
                f"no NVIDIA GPU can be used ({error}): check the driver with `nvidia-smi`, on a"
                " Jetson with `tegrastats`"
            ) from error
        self.is_integrated = bool(device.get_attribute(self._cuda.device_attribute.INTEGRATED))
        self.compute_capability = "".join(str(digit) for digit in device.compute_capability())
        self.name = str(device.name())
        self.stream = self._cuda.Stream()
        self._context.pop()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this context the calling thread's; a CUDA failure inside becomes an EngineError."""
        self._context.push()
        try:
            yield
        except self._cuda.Error as error:
            raise EngineError(
                f"the GPU failed: {error}. If it stays, restart the service, then the board"
            ) from error
        finally:
            self._context.pop()

    def buffer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Buffer:
        """A zeroed buffer; call it inside `current`."""
        return Buffer(self._cuda, shape, dtype, self.is_integrated)

    def close(self) -> None:
        """Destroy the context with everything in it."""
        self._context.detach()


class Buffer:
    """One tensor in both memories.

    host: the pinned array that the CPU reads and writes. address: its address for the GPU.
    """

    def __init__(
        self, cuda: Any, shape: tuple[int, ...], dtype: np.dtype[Any], mapped: bool
    ) -> None:
        self._cuda = cuda
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host = cuda.pagelocked_zeros(shape, dtype, mem_flags=flags)
        self._device: Any = None if mapped else cuda.mem_alloc(self.host.nbytes)
        pointer: Any = self.host.base.get_device_pointer() if mapped else self._device
        self.address = int(pointer)

    def upload(self, stream: Any) -> None:
        """Host to device, in the stream; nothing to do where memory is shared."""
        if self._device is not None:
            self._cuda.memcpy_htod_async(self._device, self.host, stream)

    def download(self, stream: Any) -> None:
        """Device to host, in the stream; nothing to do where memory is shared."""
        if self._device is not None:
            self._cuda.memcpy_dtoh_async(self.host, self._device, stream)
