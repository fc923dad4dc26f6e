"""NVML as a driver of some age knows it, by hand, for what reads a card's counters and sensors."""

from types import SimpleNamespace
from typing import Any


class Library:
    """NVML as far as a driver of some age knows it; ``values`` by function, or by function and arguments."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.events: list[int] = []

    def __getattr__(self, name: str) -> Any:
        if name not in self.values:
            raise AttributeError(name)

        def function(_: Any, *arguments: Any) -> Any:
            value = self.values[name]
            if isinstance(value, dict):
                value = value.get(arguments)
            if value is None:
                raise RuntimeError("Not Supported")
            return value

        return function

    def nvmlEventSetCreate(self) -> str:  # noqa: N802 - the library's name
        return "events"

    def nvmlDeviceRegisterEvents(self, _: Any, types: int, events: str) -> None:  # noqa: N802
        assert (types, events) == (8, "events")

    def nvmlEventSetWait_v2(self, events: str, timeout_ms: int) -> Any:  # noqa: N802
        assert (events, timeout_ms) == ("events", 0)
        if not self.events:
            raise RuntimeError("Timeout")
        return SimpleNamespace(eventData=self.events.pop(0))


def library(**values: Any) -> Library:
    return Library(
        **{
            "nvmlDeviceGetTotalEccErrors": {(0, 0): 4, (1, 0): 0},
            "nvmlDeviceGetMemoryErrorCounter": {(0, 0, 2): 4, (1, 0, 2): 0, (1, 0, 7): 0},
            "nvmlDeviceGetRemappedRows": (1, 0, 0, 0),
            "nvmlDeviceGetPcieReplayCounter": 12,
            "nvmlDeviceGetNvLinkErrorCounter": {(0, 0): 0, (0, 1): 0, (17, 2): 5},
            "nvmlDeviceGetViolationStatus": {(1,): SimpleNamespace(violationTime=5_000_000)},
            "nvmlDeviceGetFieldValues": [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=0))],
            **values,
        }
    )
