"""The check ``pcie``: what goes to the host and back comes back, at the speed of the link it should have.

A hash is made on the device, sent to pinned memory, sent back to another place, and checked there;
where a word is wrong, what the host holds tells which way it was broken.
"""

import dataclasses
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe import floors, link, pattern
from gpuprobe.fault import FaultUnusable
from gpuprobe.probe import GRAIN_BYTES, Pace, Probe, Setting
from gpuprobe.slab import Fill
from gpuprobe.strikes import strike
from gpuprobe.verdict import WATCH, Evidence, Finding
from gpuprobe.wrongs import Log, set_bits

SLICE_BYTES = 64 * 2**20
RESEAT = "cordon the node; reseat the card or move it to another slot, then check again"
LEAST_BYTES = 16 * 2**20
"""Less is sent too quickly for its speed to say much of the link."""

SAMPLED_WORDS = 4_096
IN_A_ROW = 3


@dataclass(frozen=True)
class Size:
    """``bytes`` sent each way, so often, or less where ``eager`` ends with enough good rounds.

    The first is not timed; ``both`` sends both ways at once too.
    """

    bytes: int
    rounds: int
    both: bool = False
    eager: bool = False


def run(setting: Setting, size: Size) -> Finding:
    """Return whether data survives the link, and how fast it is.

    Two buffers stand on the device, as large as there is room for. Raises ``NoRoom``.
    """
    backend = setting.backend
    room = setting.room(2 * size.bytes, 2 * min(size.bytes, LEAST_BYTES)) // 2
    words = room // GRAIN_BYTES * GRAIN_BYTES // 4
    sent: Any = backend.empty(words, np.uint32)
    back: Any = backend.empty(words, np.uint32)
    host = backend.pinned(words, np.uint32)
    log = Log(backend)
    down, up = (Pace(setting, SLICE_BYTES // 16, GRAIN_BYTES // 4) for _ in range(2))
    took_down, took_up = [], []
    backend.prepare("fill_hash", "check_hash")
    moved = words * 4 / 1e6
    profile = floors.profile(backend.traits.model)
    figure = profile.pcie if profile else None
    enough_ms = moved / floors.aim(setting, "pcie_gbps", figure) if size.eager else 0.0
    for number in range(size.rounds):
        what = Fill("hash", (pattern.key(setting.seed, number), pattern.INVERSE * (number % 2)))
        backend.launch("fill_hash", sent, 0, words // 4, *what.numbers)
        took_down.append(
            down.run(words, lambda at, n: backend.move(host[at : at + n], sent[at : at + n]))
        )
        _strike_host(setting, host, number)
        took_up.append(up.run(words, lambda at, n: backend.move(back[at : at + n], host[at : at + n])))
        strike(_device_side(setting), "pcie", back, number)
        backend.launch("check_hash", back, 0, words // 4, *what.numbers, log.array, number)
        wrongs = log.read()
        sampled = _sampled_wrong(setting, host, what, number)
        slower = [max(pair) for pair in zip(took_down, took_up, strict=True)][1:][-IN_A_ROW:]
        if wrongs.count or sampled or (len(slower) == IN_A_ROW and max(slower) <= enough_ms):
            break
    measured = {
        "to_host_gbps": moved / floors.fastest(took_down[1:] or took_down, IN_A_ROW),
        "to_device_gbps": moved / floors.fastest(took_up[1:] or took_up, IN_A_ROW),
    }
    if size.both and not (wrongs.count or sampled):
        measured["both_gbps"] = _both(setting, host, sent, back)
    evidence: Evidence = {"bytes": words * 4, "rounds": len(took_up)}
    evidence["slice_ms"] = round(max(down.longest_ms, up.longest_ms), 3)
    if wrongs.count or sampled:
        return _broken(evidence, log, host, what, sampled)
    return _judge(setting, figure, measured, evidence)


def _judge(
    setting: Setting, figure: floors.Figure | None, measured: dict[str, float], evidence: Evidence
) -> Finding:
    traits = setting.backend.traits
    slow = min(measured["to_host_gbps"], measured["to_device_gbps"])
    trained = link.link(traits.pci) if setting.backend.name == "cupy" else None
    judged = floors.judge(setting, "pcie_gbps", slow, figure)
    evidence |= judged.evidence
    measured = {**measured, "pcie_gbps": slow}
    if trained is not None:
        evidence |= {"generation": trained.generation, "width": trained.width}
        evidence |= {"generation_max": trained.generation_max, "width_max": trained.width_max}
        # An idle link may rest at a lower generation: what is as fast as it should be is not degraded.
        slow_too = judged.verdict != "pass" or (figure is None and trained.width < trained.width_max)
        if trained.degraded and slow_too:
            detail = (
                f"the link is trained to generation {trained.generation} x{trained.width}, and could be"
                f" generation {trained.generation_max} x{trained.width_max}"
            )
            return Finding(verdict="fail", detail=detail, action=RESEAT, evidence=evidence)
    detail = f"{slow:.1f} GB/s over the link, unharmed: {judged.words}"
    if judged.verdict == "pass":
        return Finding(verdict="pass", detail=detail, evidence=evidence, measured=measured)
    # A virtual machine or a shared switch is slow without a fault: speed alone condemns no card.
    return Finding(verdict="warn", detail=detail, action=WATCH, evidence=evidence, measured=measured)


def _broken(evidence: Evidence, log: Log, host: Any, what: Fill, sampled: list[int]) -> Finding:
    wrongs = log.read()
    word = wrongs.examples[0].where if wrongs.count else sampled[0]
    expected = pattern.hashed(word, *what.numbers)
    held = int(host[word])
    found = next((e.found for e in wrongs.examples if e.where == word), held)
    way = "to the host" if held != expected else "to the device"
    mask = (held if held != expected else found) ^ expected
    evidence |= {"words_wrong": max(wrongs.count, len(sampled)), "word": word, "offset": hex(word * 4)}
    evidence |= {"mask": hex(mask), "bits": set_bits(mask), "way": way}
    detail = (
        f"data was changed on its way {way}, first {hex(word * 4)} bytes on, in bits {set_bits(mask)}"
    )
    return Finding(verdict="fail", detail=detail, action=RESEAT, evidence=evidence)


def _both(setting: Setting, host: Any, sent: Any, back: Any) -> float:
    """Return GB/s of both ways at once: half of the pinned memory for each."""
    half = int(host.size) // 2
    part = min(half, SLICE_BYTES // 4)
    took = [
        setting.backend.both(
            lambda: setting.backend.move(host[:part], sent[:part]),
            lambda: setting.backend.move(back[half : half + part], host[half : half + part]),
        )
        for _ in range(5)
    ]
    return 2 * part * 4 / 1e6 / statistics.median(took)


def _sampled_wrong(setting: Setting, host: Any, what: Fill, number: int) -> list[int]:
    """Return which of some words are wrong on the host: the device is not asked about itself alone."""
    chosen = np.random.default_rng((setting.seed, number)).integers(0, host.size, SAMPLED_WORDS)
    return sorted(
        int(w) for w in set(chosen.tolist()) if int(host[w]) != pattern.hashed(w, *what.numbers)
    )


def _strike_host(setting: Setting, host: Any, number: int) -> None:
    """Flip what a fault of the level 0 says in the host's memory: broken on the way there."""
    for fault in setting.struck("pcie"):
        if fault.level == 0 and fault.kind == "flip" and fault.strikes(number):
            places = slice(fault.word, fault.word + (fault.count - 1) * fault.stride + 1, fault.stride)
            if places.stop > host.size or not 0 < fault.mask < 1 << 32:
                raise FaultUnusable(
                    f"the check sends {host.size} words of 32 bits; {fault} is outside of it"
                )
            host[places] ^= np.uint32(fault.mask)


def _device_side(setting: Setting) -> Setting:
    """Return the setting with only those faults that break data on its way back (level 1)."""
    kept = [f for f in setting.faults if f.probe != "pcie" or f.level or f.kind != "flip"]
    return dataclasses.replace(setting, faults=kept)


MIB = 2**20
PROBE = Probe(
    "pcie",
    run,
    sizes={
        "quick": Size(128 * MIB, 40, eager=True),
        "standard": Size(256 * MIB, 16, both=True),
        "deep": Size(256 * MIB, 200, both=True),
    },
    small={
        "quick": Size(2**16, 1),
        "standard": Size(2**16, 2, both=True),
        "deep": Size(2**17, 2, both=True),
    },
)
