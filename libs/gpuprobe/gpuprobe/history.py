"""What a card measured before: its own baseline, kept in a file by whoever runs the checks."""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

SAMPLES_MIN = 5
"""Fewer say nothing about what a card usually does."""

SAMPLES_MAX = 64
"""So many are kept of each figure, the newest."""

BELOW_BASELINE = 0.05
"""A card may fall short of its own median by this part before its floor is reached."""

FILE_BYTES_MAX = 4 * 2**20


@dataclass
class History:
    """Figures by card and name; empty for a card that was never seen."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def baseline(self, uuid: str, name: str) -> float | None:
        """Return the median of what this card measured, or ``None`` with fewer than five."""
        values = self.figures.get(uuid, {}).get(name, [])
        return statistics.median(values) if len(values) >= SAMPLES_MIN else None

    def add(self, uuid: str, measured: dict[str, float]) -> None:
        """Remember the figures of a check that passed."""
        for name, value in measured.items():
            values = self.figures.setdefault(uuid, {}).setdefault(name, [])
            values.append(value)
            del values[:-SAMPLES_MAX]

    @classmethod
    def read(cls, path: Path) -> "History":
        """Return what the file holds; a file that is not there holds nothing. Raises ``ValueError``."""
        try:
            with path.open("rb") as file:
                said = json.loads(file.read(FILE_BYTES_MAX))
            return cls({c: {n: [float(v) for v in vs] for n, vs in f.items()} for c, f in said.items()})
        except FileNotFoundError:
            return cls()
        except (AttributeError, TypeError) as fault:
            raise ValueError(f"{path} holds no history: {fault}") from fault

    def write(self, path: Path) -> None:
        """Put the history into the file, all of it or nothing."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps(self.figures))
        beside.replace(path)
