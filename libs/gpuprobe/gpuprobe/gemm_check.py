"""The check ``gemm``: does a device multiply exactly, kind by kind, round after round; what is wrong is named."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import gcd

from gpuprobe import floors
from gpuprobe.exact import STRIPE, Exact, Look, Shape
from gpuprobe.golden import SEEDS
from gpuprobe.probe import SLICE_AIM, SLICE_MS, Probe, Setting
from gpuprobe.product import KINDS, Kind, bytes_needed
from gpuprobe.struck import Struck
from gpuprobe.verdict import REPLACE, Evidence, Finding, Verdict, worse

ROWS_NAMED_MAX = 32
"""At most so many wrong rows stand in the evidence; ``rows_wrong`` counts all."""

AT_ONCE = 3
"""Products of a slice that are kept until it is judged."""

WARM_MS = 150.0
"""A GPU that idled needs so long to come to its full clock and, under load, to its power limit."""

QUICK_WARM_MS = 60.0
"""So long it needs for the clock alone: a card that is not at its limit yet is faster, not slower."""

ROUNDS_WRONG_MAX = 64
"""More wrong rounds of a kind say nothing new."""

LANES_MIN = 8
"""Wrong elements of a row that lie evenly, at least so far apart, are the same lanes of its warps."""


@dataclass(frozen=True)
class Size:
    """How much of the check a level runs: ``rounds`` of each kind, after ``warm_ms`` of unjudged ones."""

    kinds: tuple[str, ...]
    shapes: dict[str, Shape]
    rounds: int
    warm_ms: float = 0.0

    def shape(self, kind: Kind) -> Shape:
        """Return the shape of a kind's products."""
        return self.shapes.get(kind.family, self.shapes["float"])


@dataclass
class Seen:
    """What a kind's rounds came to."""

    kind: Kind
    shape: Shape
    rounds: int = 0
    rounds_wrong: int = 0
    golden: int = 0
    rows: set[int] = field(default_factory=set)
    plain_ms: list[float] = field(default_factory=list)
    verified_ms: list[float] = field(default_factory=list)
    longest_ms: float = 0.0
    first: Evidence = field(default_factory=dict)
    """Where the first wrong product is wrong."""


def run(setting: Setting, size: Size) -> Finding:
    """Return whether every product is exact, and how fast they came."""
    return _judge(setting, [_multiplied(setting, KINDS[name], size) for name in size.kinds])


def _multiplied(setting: Setting, kind: Kind, size: Size) -> Seen:
    """Multiply one kind: half of the rounds with operands that NumPy multiplied before, half with others."""
    golden_seed = SEEDS[setting.seed % len(SEEDS)]
    shape = fitting(setting, kind, size.shape(kind))
    seen = Seen(kind, shape)
    halves = ((golden_seed, (size.rounds + 1) // 2), (setting.seed, size.rounds // 2))
    for seed, rounds in halves:
        if rounds:
            exact = Exact(setting.backend, kind, shape, seed, _kept(setting, kind, shape, rounds))
            _warm(setting, exact, seen, size.warm_ms if seed == golden_seed else 0.0)
            _rounds(setting, exact, seen, rounds)
            del exact
    return seen


def _kept(setting: Setting, kind: Kind, shape: Shape, rounds: int) -> int:
    """Return how many products there is room for. Raises ``NoRoom`` where there is none for one."""
    fixed, each = bytes_needed(kind, shape)
    room = setting.room(fixed + each * AT_ONCE, fixed + each)
    return min(AT_ONCE, rounds, (room - fixed) // each)


def fitting(setting: Setting, kind: Kind, shape: Shape) -> Shape:
    """Return ``shape`` with as few rows as keep one product within a slice on this device. Raises ``NoRoom``."""
    backend = setting.backend
    if backend.name != "cupy":
        return shape
    few = Shape(min(shape.rows, 8 * STRIPE), shape.inner, shape.cols)
    setting.room(sum(bytes_needed(kind, few)), sum(bytes_needed(kind, few)))
    trial = Exact(backend, kind, few, 0)
    trial.multiply()
    ms = min(backend.timed(trial.multiply) for _ in range(2))
    fits = int(trial.shape.rows * SLICE_MS * SLICE_AIM / max(ms, 1e-3))
    rows = max(STRIPE, min(shape.rows, fits // STRIPE * STRIPE))
    return Shape(rows, shape.inner, shape.cols)


def _warm(setting: Setting, exact: Exact, seen: Seen, for_ms: float) -> None:
    """Multiply without judging until the clock is up; the last are the plain times."""
    if setting.backend.name != "cupy":
        return
    spent, at_once = 0.0, _at_once(exact, setting.backend.timed(exact.multiply))

    def several() -> None:
        for slot in range(at_once):
            exact.multiply(slot)

    while True:
        setting.go_on()
        ms = setting.backend.timed(several)
        seen.plain_ms.append(ms / at_once)
        del seen.plain_ms[:-8]
        spent += ms
        if spent > for_ms:
            return


def _at_once(exact: Exact, ms: float) -> int:
    return max(1, min(exact.at_once, int(SLICE_MS * SLICE_AIM / max(ms, 1e-3))))


def _rounds(setting: Setting, exact: Exact, seen: Seen, rounds: int) -> None:
    struck = Struck(exact, setting.struck("gemm"))
    at_once = _at_once(exact, min(seen.plain_ms, default=0.0) * 1.1)
    done = 0
    while done < rounds and seen.rounds_wrong < ROUNDS_WRONG_MAX:
        setting.go_on()
        count = min(at_once, rounds - done)
        first = seen.rounds

        def several(first: int = first, count: int = count) -> None:
            for slot in range(count):
                struck.before(first + slot, slot)
                exact.multiply(slot)
                struck.after(first + slot, slot)
                exact.verify(slot)

        # Between two slices, where nothing is timed: a part that is not written shows then.
        for slot in range(count):
            exact.spoil(slot)
        exact.begin_verifying()
        ms = setting.backend.timed(several)
        seen.longest_ms = max(seen.longest_ms, ms)
        seen.verified_ms.append(ms / count)
        _note(exact, seen, exact.looks(count))
        done += count


def _note(exact: Exact, seen: Seen, looks: list[Look]) -> None:
    for slot, look in enumerate(looks):
        seen.rounds += 1
        seen.golden += look.golden is not None
        if look.right:
            continue
        seen.rounds_wrong += 1
        seen.rows.update(look.rows)
        if not seen.first:
            seen.first = where(exact, look, slot)


def where(exact: Exact, look: Look, slot: int) -> Evidence:
    """Return where one wrong product is wrong: element, lanes, row, column, or an operand in memory."""
    evidence: Evidence = {}
    for side, count, line, place, bits in exact.operand_errors():
        evidence |= {"operand": side, "operand_line": line, "operand_place": place}
        evidence |= {"operand_words_wrong": count, "operand_xor": hex(bits)}
    if not look.rows:
        return evidence | {"part": "digest"}
    wrong = exact.wrong_elements(look.rows, slot)
    row = look.rows[0]
    here = [(col, bits) for at, col, bits in wrong if at == row]
    evidence |= {"row": row}
    if here:
        col, bits = here[0]
        evidence |= {"col": col, "bits": list(_bits(bits)), "xor": hex(bits)}
    columns = {col for _, col, _ in wrong}
    apart = 0
    for col, _ in here[1:]:
        apart = gcd(apart, col - here[0][0])
    if len(look.rows) > 1:
        evidence["part"] = "column" if len(columns) == 1 else "rows"
    elif len(here) > exact.shape.cols // 2:
        evidence["part"] = "row"
    elif len(here) > 1 and apart >= LANES_MIN:
        evidence |= {"part": "lanes", "stride": apart}
    else:
        evidence["part"] = "element" if len(here) == 1 else "elements"
    return evidence | {"elements_wrong": len(here)}


def _bits(mask: int) -> Iterator[int]:
    return (bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def _judge(setting: Setting, seen: list[Seen]) -> Finding:
    wrong = next((one for one in seen if one.rounds_wrong), None)
    shape = (wrong or seen[0]).shape
    evidence: Evidence = {
        "kinds": " ".join(one.kind.name for one in seen),
        "size": [shape.rows, shape.inner, shape.cols],
        "rounds": sum(one.rounds for one in seen),
        "rounds_golden": sum(one.golden for one in seen),
        "longest_slice_ms": round(max(one.longest_ms for one in seen), 3),
    }
    if wrong is None:
        return _speed(setting, seen, evidence)
    rows = sorted(wrong.rows)
    kinds = " ".join(one.kind.name for one in seen if one.rounds_wrong)
    evidence |= {"kind": wrong.kind.name, "kinds_wrong": kinds, "rounds_wrong": wrong.rounds_wrong}
    evidence |= {"rows_wrong": len(rows), "rows": rows[:ROWS_NAMED_MAX], **wrong.first}
    return Finding(verdict="fail", detail=_told(wrong, rows), action=REPLACE, evidence=evidence)


def _told(wrong: Seen, rows: list[int]) -> str:
    first = wrong.first
    if "row" in first:
        place = f"row {first['row']}" + (f", column {first['col']}" if "col" in first else "")
    else:
        place = "its digest, though the sum of each row is right"
    more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    memory = f"; {first['operand']} operand changed in memory" if "operand" in first else ""
    times = f"in {wrong.rounds_wrong} of {wrong.rounds} rounds"
    return f"the {wrong.kind.name} product is wrong in {place}{more}, {times}{memory}"


def _speed(setting: Setting, seen: list[Seen], evidence: Evidence) -> Finding:
    """Return how fast exact products came; the slowest kind by its floors decides."""
    measured = _speeds(seen)
    profile = floors.profile(setting.backend.traits.model)
    detail = f"{evidence['rounds']} products ({evidence['kinds']}) are exact"
    verdict: Verdict = "pass"
    action = None
    for one in seen:
        name = f"{one.kind.name}_tflops"
        if name not in measured:
            continue
        figure = profile.gemm.get(one.kind.name) if profile else None
        judged = floors.judge(setting, name, measured[name], figure)
        if worse(judged.verdict, verdict):
            verdict, action = judged.verdict, judged.action
            detail = (
                f"{one.kind.name} products are exact, at {measured[name]:.0f} TFLOP/s {judged.words}"
            )
            evidence |= {"slow": one.kind.name, **judged.evidence}
    return Finding(verdict=verdict, detail=detail, action=action, evidence=evidence, measured=measured)


def _speeds(seen: list[Seen]) -> dict[str, float]:
    """Return each kind's speed on a GPU in TFLOP/s, of all products and of the verified ones."""
    speeds = {}
    for one in seen:
        operations = 2e-9 * one.shape.rows * one.shape.inner * one.shape.cols
        if one.plain_ms:
            # A card at its power limit breathes: the more is looked at, the less that tells.
            each_ms = statistics.median(one.plain_ms + one.verified_ms)
            speeds[f"{one.kind.name}_tflops"] = operations / each_ms
            speeds[f"{one.kind.name}_verified_tflops"] = operations / statistics.median(one.verified_ms)
    return speeds


_LARGE = {
    "float": Shape(8192, 8192, 8192),
    "int8": Shape(8192, 8192, 8192),
    "fp64": Shape(4096, 4096, 4096),
}
_SMALL = {"float": Shape(256, 1024, 256)}
_ALL = tuple(KINDS)

PROBE = Probe(
    "gemm",
    run,
    sizes={
        "quick": Size(("bf16",), _LARGE, rounds=24, warm_ms=QUICK_WARM_MS),
        "standard": Size(_ALL, _LARGE, rounds=200, warm_ms=WARM_MS),
        "deep": Size(_ALL, _LARGE, rounds=4_000, warm_ms=WARM_MS),
    },
    small={
        "quick": Size(("bf16",), _SMALL, rounds=2),
        "standard": Size(_ALL, _SMALL, rounds=2),
        "deep": Size(_ALL, _SMALL, rounds=4),
    },
)
