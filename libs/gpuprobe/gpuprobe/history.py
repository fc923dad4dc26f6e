"""What a card measured before: its own baselines, level by level, kept in a file by whoever runs the checks.

A level's figures are compared with the same level's alone: the level quick ends before a card comes to
its power limit, and is up to a fifth faster than the others for it.
"""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

SAMPLES_MIN = 5
"""Fewer say nothing about what a card usually does."""

SAMPLES_MAX = 64
"""So many are kept of each figure, the newest."""

BELOW_BASELINE = 0.05
"""A card may always fall short of its own median by this part."""

FAR_BELOW_BASELINE = 0.25
"""So far short no clock or power limit alone brings a sound card: they explain a fifth, measured on an H200."""

DEVIATIONS = 3.0
"""A card may fall short by so many of its own deviations, and by more while few samples are known."""

FILE_BYTES_MAX = 4 * 2**20
_SEPARATOR = "/"


@dataclass(frozen=True)
class Baseline:
    """What a card usually measures at one level, and below what it is short of that, and far short."""

    usual: float
    short_below: float
    far_below: float


@dataclass
class History:
    """Figures by card and ``LEVEL/NAME``; empty for a card that was never seen."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def baseline(self, uuid: str, level: str, name: str) -> Baseline | None:
        """Return what this card usually measures at this level, or ``None`` with fewer than five samples.

        A sound card is short of it about once in a thousand runs, whatever its noise, if that is Gaussian.
        """
        values = self.figures.get(uuid, {}).get(_key(level, name), [])
        if len(values) < SAMPLES_MIN:
            return None
        usual = statistics.median(values)
        # A deviation known from few samples is itself uncertain: about Student's quantile.
        noise = DEVIATIONS * (1 + 6 / len(values)) * statistics.stdev(values)
        far = usual * FAR_BELOW_BASELINE
        short = min(max(usual * BELOW_BASELINE, noise), far)
        return Baseline(usual, usual - short, usual - far)

    def add(self, uuid: str, level: str, measured: dict[str, float]) -> None:
        """Remember the figures of a check that passed at this level."""
        for name, value in measured.items():
            values = self.figures.setdefault(uuid, {}).setdefault(_key(level, name), [])
            values.append(value)
            del values[:-SAMPLES_MAX]

    @classmethod
    def read(cls, path: Path) -> "History":
        """Return what the file holds; a file that is not there holds nothing. Raises ``ValueError``.

        Figures kept without a level, as they once were, are left out: nobody can tell of which they are.
        """
        try:
            with path.open("rb") as file:
                said = json.loads(file.read(FILE_BYTES_MAX))
            return cls(
                {
                    card: {n: [float(v) for v in vs] for n, vs in kept.items() if _SEPARATOR in n}
                    for card, kept in said.items()
                }
            )
        except FileNotFoundError:
            return cls()
        except (AttributeError, TypeError) as fault:
            raise ValueError(f"{path} holds no history: {fault}") from fault

    def write(self, path: Path) -> None:
        """Put the history into the file, all of it or nothing."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps(self.figures))
        beside.replace(path)


def _key(level: str, name: str) -> str:
    return f"{level}{_SEPARATOR}{name}"
