"""Errors as the driver tells them: a thread that waits for NVML's events, and no polling."""

import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from node_agent.domain.xid import Xid

WAIT_MS = 1_000
AGAIN_S = 1.0
"""After a wait that failed: the driver may be busy resetting a GPU."""

logger = logging.getLogger(__name__)


class XidEvents:
    """Waits for XIDs of some devices and hands each on. The thread is a daemon: it may hang with the driver."""

    def __init__(self, nvml: Any, handles: Sequence[Any], told: Callable[[Xid], None]) -> None:
        self._nvml = nvml
        self._handles = handles
        self._told = told
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvml events", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def stop(self) -> None:
        """Hand on nothing any more; return once the thread has ended, or hangs."""
        self._over.set()
        self._thread.join(2 * WAIT_MS / 1_000)

    def _run(self) -> None:
        nvml, said = self._nvml, ""
        events = self._registered(loudly=True)
        if events is None:
            return
        while not self._over.is_set():
            try:
                event = nvml.nvmlEventSetWait_v2(events, WAIT_MS)
            except nvml.NVMLError as fault:
                if fault.value == nvml.NVML_ERROR_TIMEOUT:
                    continue
                if str(fault) != said:
                    said = str(fault)
                    logger.warning("waiting for events failed, and is tried again: %s", fault)
                time.sleep(AGAIN_S)
                # A set that a lost GPU belongs to may never work again; where no other is made, it is tried on.
                fresh = self._registered(loudly=False)
                if fresh is not None:
                    with contextlib.suppress(nvml.NVMLError):
                        nvml.nvmlEventSetFree(events)
                    events = fresh
                continue
            said = ""
            if not self._over.is_set():
                self._told(Xid(self._index(event.device), int(event.eventData)))

    def _registered(self, *, loudly: bool) -> Any:
        """Return a new set of events of all devices that tell any; nothing where the driver makes none."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
        except (nvml.NVMLError, AttributeError) as fault:
            if loudly:
                logger.warning(
                    "the driver tells no events (%s): XIDs are read from the kernel's log alone", fault
                )
            return None
        for index, handle in enumerate(self._handles):
            try:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
            except nvml.NVMLError as fault:
                if loudly:
                    logger.warning("device %d tells no events: %s", index, fault)
        return events

    def _index(self, device: Any) -> int | None:
        wanted = _address(device)
        return next((at for at, one in enumerate(self._handles) if _address(one) == wanted), None)


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
