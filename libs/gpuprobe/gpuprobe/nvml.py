"""What the driver's library says of a card: counters, sensors and events; nothing is ever set.

Whatever a driver does not know, does not export or does not allow is left out, never invented: a
counter that is missing before or after a run cannot have moved.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LINKS_MAX = 18
EVENTS_MAX = 64
"""So many events of one run are read; a storm goes on without us."""

REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Why a clock is held down, by the driver's bit; what is no sign of trouble is left out."""

HARD_REASONS = 0x8 | 0x40 | 0x80
HARD_CAUSES = 0x40 | 0x80
"""Why the hardware slows down: heat, or the power brake. Without one of these it may be the clock that changes."""

SOFT_THERMAL = 0x20

RECOVERY_ACTIONS = ("none", "reset", "reboot", "drain_peers", "drain_and_reset")
_RECOVERY_FIELD = 230
_SLOWDOWN_FIELDS = {"hard_thermal": 270, "power_brake": 271}
"""How long the hardware itself held the clock down, in nanoseconds; older drivers do not count it."""

_XID = 8
_UNCORRECTED, _VOLATILE = 1, 0
_LOCATIONS = {
    "l1": 0,
    "l2": 1,
    "dram": 2,
    "registers": 3,
    "texture": 4,
    "shared": 5,
    "cbu": 6,
    "sram": 7,
}
_LINK_ERRORS = {"replay": 0, "recovery": 1, "crc_flit": 2, "crc_data": 3}
_VIOLATIONS = {"power": 0, "thermal": 1, "board_limit": 3, "reliability": 5}


class NoSensors(RuntimeError):
    """The driver's library cannot be used for this card; the message says why."""


@dataclass(frozen=True)
class Sample:
    """What a card draws and how it feels, at one moment; ``None`` where it does not say."""

    at_s: float
    power_w: float | None = None
    temperature_c: int | None = None
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    reasons: int | None = None


class Nvml:
    """One card, by its UUID."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle
        self._events: Any = None

    @classmethod
    def open(cls, uuid: str) -> "Nvml":
        """Return the card. Raises ``NoSensors``."""
        try:
            import pynvml  # noqa: PLC0415 - only where there is a GPU
        except ImportError as fault:
            raise NoSensors(f"nvidia-ml-py cannot be imported ({fault})") from fault
        try:
            library: Any = pynvml
            library.nvmlInit()
            return cls(library, library.nvmlDeviceGetHandleByUUID(uuid))
        except (pynvml.NVMLError, OSError) as fault:
            raise NoSensors(f"NVML cannot be used for {uuid}: {fault}") from fault

    def counters(self) -> dict[str, int]:
        """Return every counter there is of what should not happen, by name."""
        return dict(self._counted())

    def sample(self) -> Sample:
        """Return what the sensors say now."""
        power = self._ask("nvmlDeviceGetPowerUsage")
        return Sample(
            at_s=time.monotonic(),
            power_w=None if power is None else power / 1_000,
            temperature_c=self._ask("nvmlDeviceGetTemperature", 0),
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", 1),
            memory_mhz=self._ask("nvmlDeviceGetClockInfo", 2),
            reasons=self.reasons(),
        )

    def reasons(self) -> int | None:
        """Return why the clock is held down, as the driver's bits."""
        for name in ("Event", "Throttle"):
            reasons = self._ask(f"nvmlDeviceGetCurrentClocks{name}Reasons")
            if reasons is not None:
                return int(reasons)
        return None

    def power_limit_w(self) -> float | None:
        """Return what the card may draw."""
        limit = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        return None if limit is None else limit / 1_000

    def power_limits_w(self) -> tuple[float, float] | None:
        """Return what the card may draw and what it was made to draw; ``None`` unless it says both."""
        limit = self.power_limit_w()
        default = self._ask("nvmlDeviceGetPowerManagementDefaultLimit")
        return None if limit is None or default is None else (limit, default / 1_000)

    def link(self) -> dict[str, int]:
        """Return generation and width of the PCIe link, now and at most."""
        asked = {
            "generation": "nvmlDeviceGetCurrPcieLinkGeneration",
            "width": "nvmlDeviceGetCurrPcieLinkWidth",
            "generation_max": "nvmlDeviceGetMaxPcieLinkGeneration",
            "width_max": "nvmlDeviceGetMaxPcieLinkWidth",
        }
        said = {name: self._ask(function) for name, function in asked.items()}
        return {name: value for name, value in said.items() if value is not None}

    def recovery(self) -> str | None:
        """Return what the driver wants done to the card, by name."""
        with contextlib.suppress(Exception):
            value = self._library.nvmlDeviceGetFieldValues(self._handle, [_RECOVERY_FIELD])[0]
            if value.nvmlReturn == 0:
                number = int(value.value.uiVal)
                known = number < len(RECOVERY_ACTIONS)
                return RECOVERY_ACTIONS[number] if known else f"action {number}"
        return None

    def driver(self) -> str:
        """Return the driver's version, ``unknown`` where it does not say."""
        with contextlib.suppress(Exception):
            return str(self._library.nvmlSystemGetDriverVersion())
        return "unknown"

    def processes(self) -> int | None:
        """Return how many processes compute on the card."""
        running = self._ask("nvmlDeviceGetComputeRunningProcesses")
        return None if running is None else len(running)

    def listen(self) -> bool:
        """Begin to keep XIDs; ``False`` where that is not allowed."""
        try:
            events = self._library.nvmlEventSetCreate()
            self._library.nvmlDeviceRegisterEvents(self._handle, _XID, events)
        except Exception:  # noqa: BLE001 - whatever a driver does not allow
            return False
        self._events = events
        return True

    def heard(self) -> list[int]:
        """Return the XIDs since ``listen`` or the last call, in order."""
        xids: list[int] = []
        while self._events is not None and len(xids) < EVENTS_MAX:
            try:
                xids.append(int(self._library.nvmlEventSetWait_v2(self._events, 0).eventData))
            except Exception:  # noqa: BLE001 - a time-out is how it says that there are no more
                break
        return xids

    def _ask(self, function: str, *arguments: Any) -> Any:
        # A function may be missing in the binding or the driver, or not be for this card.
        with contextlib.suppress(Exception):
            return getattr(self._library, function)(self._handle, *arguments)
        return None

    def _counted(self) -> Iterator[tuple[str, int]]:
        for kind, name in ((0, "corrected"), (_UNCORRECTED, "uncorrected")):
            yield from self._one(f"ecc_{name}", "nvmlDeviceGetTotalEccErrors", kind, _VOLATILE)
            for place, number in _LOCATIONS.items():
                function = "nvmlDeviceGetMemoryErrorCounter"
                yield from self._one(f"ecc_{name}_{place}", function, kind, _VOLATILE, number)
        rows = self._ask("nvmlDeviceGetRemappedRows")
        if rows is not None:
            names = ("rows_corrected", "rows_uncorrected", "rows_pending", "rows_failed")
            yield from zip(names, map(int, rows), strict=True)
        yield from self._one("pcie_replay", "nvmlDeviceGetPcieReplayCounter")
        for link in range(LINKS_MAX):
            for name, number in _LINK_ERRORS.items():
                function = "nvmlDeviceGetNvLinkErrorCounter"
                yield from self._one(f"nvlink{link}_{name}", function, link, number)
        for name, number in _VIOLATIONS.items():
            held = self._ask("nvmlDeviceGetViolationStatus", number)
            if held is not None:
                yield f"held_{name}_us", int(held.violationTime) // 1_000
        for name, field in _SLOWDOWN_FIELDS.items():
            with contextlib.suppress(Exception):
                value = self._library.nvmlDeviceGetFieldValues(self._handle, [field])[0]
                if value.nvmlReturn == 0:
                    yield f"held_{name}_us", int(value.value.ullVal) // 1_000

    def _one(self, name: str, function: str, *arguments: Any) -> Iterator[tuple[str, int]]:
        value = self._ask(function, *arguments)
        if value is not None:
            yield name, int(value)


def named_reasons(reasons: int) -> list[str]:
    """Return the names of the reasons that are a sign of something, in order."""
    return [name for bit, name in REASONS.items() if reasons & bit]
