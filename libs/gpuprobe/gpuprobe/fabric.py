"""Several GPUs of one server and the links between them; on the host, arrays that stand for them."""

from typing import Any, Protocol

import numpy as np

from gpuprobe.backend import Backend

_UINT32, _SUM = 3, 0
"""NCCL's own numbers."""


class NoCollectives(RuntimeError):
    """NCCL cannot be used; the message says why."""


class Fabric(Protocol):
    """Devices that can copy to each other and add up."""

    @property
    def backends(self) -> list[Backend]:
        """The devices."""

    def direct(self, one: int, other: int) -> bool:
        """Tell whether ``one`` reaches the memory of ``other`` without the host."""

    def copy_ms(self, to: int, into: Any, source: int, from_: Any) -> float:
        """Copy an array from one device to another; return the milliseconds."""

    def add_up(self, arrays: list[Any]) -> list[Any]:
        """Return, on each device, the sums of all devices' words (uint32). Raises ``NoCollectives``."""


class CudaFabric:
    """All GPUs of this server."""

    def __init__(self, arrays: Any) -> None:
        from gpuprobe.on_cuda import CudaBackend  # noqa: PLC0415 - only where there are GPUs

        self._cupy = arrays
        count = int(arrays.cuda.runtime.getDeviceCount())
        self.backends: list[Backend] = [CudaBackend.open(index) for index in range(count)]
        self._open: set[tuple[int, int]] = set()

    def direct(self, one: int, other: int) -> bool:
        """Tell, and open the way where there is one."""
        runtime = self._cupy.cuda.runtime
        if (one, other) in self._open:
            return True
        if not runtime.deviceCanAccessPeer(one, other):
            return False
        with self.backends[one].here():
            try:
                runtime.deviceEnablePeerAccess(other)
            except runtime.CUDARuntimeError as fault:
                if "PeerAccessAlreadyEnabled" not in str(fault):
                    return False
        self._open.add((one, other))
        return True

    def copy_ms(self, to: int, into: Any, source: int, from_: Any) -> float:
        """Copy by the driver, over whatever way it takes."""
        runtime = self._cupy.cuda.runtime
        backend = self.backends[source]
        with backend.here():
            stream = self._cupy.cuda.get_current_stream().ptr
            return backend.timed(
                lambda: runtime.memcpyPeerAsync(
                    into.data.ptr, to, from_.data.ptr, source, into.nbytes, stream
                )
            )

    def add_up(self, arrays: list[Any]) -> list[Any]:
        """Add up with NCCL, all devices at once in this process."""
        try:
            from cupy.cuda import nccl  # noqa: PLC0415 - needs NCCL's library

            communicators = nccl.NcclCommunicator.initAll(len(arrays))
        except Exception as fault:
            raise NoCollectives(f"{type(fault).__name__}: {fault}") from fault
        results = []
        for backend, array in zip(self.backends, arrays, strict=True):
            with backend.here():
                results.append(backend.empty(len(array), np.uint32))
        nccl.groupStart()
        for backend, one, array, result in zip(
            self.backends, communicators, arrays, results, strict=True
        ):
            with backend.here():
                stream = self._cupy.cuda.get_current_stream().ptr
                one.allReduce(array.data.ptr, result.data.ptr, len(array), _UINT32, _SUM, stream)
        nccl.groupEnd()
        for backend in self.backends:
            with backend.here():
                backend.wait()
        return results


class HostFabric:
    """Devices on the host: the check is exercised, no link is."""

    def __init__(self, backends: list[Backend]) -> None:
        self.backends = backends

    def direct(self, one: int, other: int) -> bool:
        """Tell that there is a way."""
        return one != other

    def copy_ms(self, to: int, into: Any, source: int, from_: Any) -> float:
        """Copy an array."""
        del to
        return self.backends[source].timed(lambda: np.copyto(into, from_))

    def add_up(self, arrays: list[Any]) -> list[Any]:
        """Add up on the host."""
        total = np.sum(arrays, axis=0, dtype=np.uint32)
        return [total.copy() for _ in arrays]
