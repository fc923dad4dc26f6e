"""What the double of NVML is to say: its scenario, for tests and benchmarks."""

from pathlib import Path

Said = dict[str, int | str]


class Scenario:
    """The file that ``nvml.c`` reads, written whole at each change; its keys stand at the head of that source."""

    def __init__(self, path: Path, gpus: int = 8) -> None:
        self.path = path
        self._said: Said = {"count": gpus}
        self._events = 0
        self.write({})

    def write(self, said: Said) -> None:
        """Change what the double says."""
        self._said |= said
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{name}={value}\n" for name, value in self._said.items()))
        new.rename(self.path)

    def about(self, gpu: int, **said: int) -> None:
        """Change what it says of one GPU."""
        self.write({f"gpu{gpu}.{name}": value for name, value in said.items()})

    def tell(self, gpu: int, code: int) -> None:
        """Have the next event be an XID of a GPU."""
        self._events += 1
        self.write({f"event.{self._events}": f"{gpu}:{code}"})
