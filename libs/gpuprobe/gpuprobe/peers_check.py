"""The check ``peers``: this GPU's memory to every other's and back, and sums over all; each compared word by word.

Not verified on hardware yet: no server with several GPUs was at hand. It is left out where there is
one GPU only.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from gpuprobe import floors
from gpuprobe.fabric import CudaFabric, Fabric, HostFabric, NoCollectives
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.operands import mix32
from gpuprobe.pattern import INVERSE, WORDS, key
from gpuprobe.probe import Probe, Setting
from gpuprobe.verdict import AGAIN, REPLACE, Evidence, Finding
from gpuprobe.wrongs import Log, Wrongs

ROUNDS = 2
"""Each way is gone twice, with opposite polarities."""

PRETENDED = 3
"""Devices that the host stands for."""

ADDED_WORDS = 2**20
LEAST_BYTES = 64 * 2**20
"""Less is copied too quickly for its speed to say much of a link."""


@dataclass(frozen=True)
class Size:
    """How many words each copy has, and how often a way is timed."""

    words: int
    repeats: int


@dataclass
class Passed:
    """What the copies came to, by way: (from, to)."""

    setting: Setting
    size: Size
    fabric: Fabric
    copies: int = 0
    wrong: dict[tuple[int, int], Wrongs] = field(default_factory=dict)
    gb_s: dict[tuple[int, int], float] = field(default_factory=dict)
    indirect: list[tuple[int, int]] = field(default_factory=list)
    sums: str = "not made"
    unadded: str = ""
    """Why there are no sums though there should be."""
    sums_wrong: int = 0


@dataclass(frozen=True)
class PeersProbe(Probe):
    """A probe that needs more than one GPU."""

    def size(self, setting: Setting) -> Size | None:
        """Return the level's size; ``None`` where there is one GPU only."""
        size: Size | None = super().size(setting)
        if setting.backend.name != "cupy" or size is None:
            return size
        return size if int(setting.backend.arrays.cuda.runtime.getDeviceCount()) > 1 else None


def run(setting: Setting, size: Size) -> Finding:
    """Return whether what this GPU sends and receives arrives as it was."""
    return run_over(setting, size, _fabric(setting))


def run_over(setting: Setting, size: Size, fabric: Fabric) -> Finding:
    """Go each way between this device and the others, then add up over all.

    Each device has one copy at a time, as large as all of them have room for. Raises ``NoRoom``.
    """
    size = replace(size, words=_fitting(setting, size, fabric))
    passed = Passed(setting, size, fabric)
    ours = setting.backend.device
    for other in range(len(fabric.backends)):
        if other == ours:
            continue
        for way in ((ours, other), (other, ours)):
            for number in range(ROUNDS):
                setting.go_on()
                _pass(passed, way, number)
    if ours == 0:
        _add(passed)
    return _judge(passed)


def _fitting(setting: Setting, size: Size, fabric: Fabric) -> int:
    """Return how many words every device has room for."""
    wanted, room = size.words * 4, size.words * 4
    for backend in fabric.backends:
        with backend.here():
            there = replace(setting, backend=backend)
            room = min(room, there.room(wanted, min(wanted, LEAST_BYTES)))
    return room // (WORDS * 4) * WORDS


def _fabric(setting: Setting) -> Fabric:
    if setting.backend.name == "cupy":
        return CudaFabric(setting.backend.arrays)
    kind = type(setting.backend)
    assert issubclass(kind, NumpyBackend)
    return HostFabric([kind(index) for index in range(max(PRETENDED, setting.backend.device + 1))])


def _pass(passed: Passed, way: tuple[int, int], number: int) -> None:
    """Fill on one device, copy, compare on the other."""
    setting, size, fabric = passed.setting, passed.size, passed.fabric
    source, to = way
    near, far = fabric.backends[source], fabric.backends[to]
    salt, polarity = key(setting.seed, number), INVERSE if number % 2 else 0
    vectors = size.words // WORDS
    with near.here():
        sent = near.empty(size.words, np.uint32)
        near.launch("fill_hash", sent, 0, vectors, salt, polarity)
        near.wait()
    with far.here():
        arrived = far.empty(size.words, np.uint32)
        arrived.fill(0)
        far.wait()
    if not fabric.direct(source, to) and way not in passed.indirect:
        passed.indirect.append(way)
    ms = min(fabric.copy_ms(to, arrived, source, sent) for _ in range(size.repeats))
    passed.gb_s[way] = max(passed.gb_s.get(way, 0.0), size.words * 4 / max(ms, 1e-6) * 1e-6)
    with far.here():
        for fault in setting.struck("peers"):
            if fault.strikes(passed.copies):
                far.launch("strike_flip", arrived, fault.word, fault.stride, fault.count, fault.mask)
        log = Log(far)
        far.launch("check_hash", arrived, 0, vectors, salt, polarity, log.array, number)
        found = log.read()
    passed.copies += 1
    if found.count and way not in passed.wrong:
        passed.wrong[way] = found


def _add(passed: Passed) -> None:
    """Add up words over all devices: integers, so that the order does not count."""
    setting, fabric = passed.setting, passed.fabric
    # A device has its part and the sum: together no more than one copy was.
    index = np.arange(min(ADDED_WORDS, passed.size.words // 2), dtype=np.uint32)
    parts = [mix32(index ^ np.uint32(key(setting.seed, d))) for d in range(len(fabric.backends))]
    there = []
    for backend, part in zip(fabric.backends, parts, strict=True):
        with backend.here():
            there.append(backend.put(part))
    try:
        sums = fabric.add_up(there)
    except NoCollectives as fault:
        passed.unadded = str(fault)
        return
    right = np.sum(parts, axis=0, dtype=np.uint32)
    for backend, total in zip(fabric.backends, sums, strict=True):
        with backend.here():
            passed.sums_wrong += int(np.count_nonzero(backend.fetch(total) != right))
    passed.sums = f"{len(parts)} devices"


def _judge(passed: Passed) -> Finding:
    setting = passed.setting
    slowest = min(passed.gb_s, key=lambda way: passed.gb_s[way])
    evidence: Evidence = {
        "ways": len(passed.gb_s),
        "indirect": len(passed.indirect),
        "sums": passed.sums,
        "slowest": f"{slowest[0]} to {slowest[1]}",
        "slowest_gb_s": round(passed.gb_s[slowest], 1),
    }
    if passed.wrong:
        way, found = next(iter(passed.wrong.items()))
        evidence |= {"from": way[0], "to": way[1], "words_wrong": found.count, "word": found.first}
        evidence |= {"xor": hex(found.bits), "ways_wrong": len(passed.wrong)}
        detail = f"{found.count} words changed on their way from GPU {way[0]} to {way[1]}"
        return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)
    if passed.sums_wrong:
        evidence["sums_wrong"] = passed.sums_wrong
        detail = f"{passed.sums_wrong} sums over all GPUs are wrong"
        return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)
    profile = floors.profile(setting.backend.traits.model)
    value = passed.gb_s[slowest]
    stands = floors.judge(setting, "peer_gb_s", value, profile.peer if profile else None)
    evidence |= stands.evidence
    measured = {"peer_gb_s": value}
    if stands.verdict != "pass":
        detail = f"from GPU {slowest[0]} to {slowest[1]}: {value:.0f} GB/s, {stands.words}"
        return Finding(verdict=stands.verdict, detail=detail, action=stands.action, evidence=evidence)
    detail = f"{len(passed.gb_s)} ways between GPUs carry every word"
    if passed.unadded:
        detail += f"; sums over all GPUs were not made: {passed.unadded}"
        return Finding(verdict="inconclusive", detail=detail, action=AGAIN, evidence=evidence)
    return Finding(verdict="pass", detail=detail, evidence=evidence, measured=measured)


PROBE = PeersProbe(
    "peers",
    run,
    sizes={"standard": Size(2**28, 3), "deep": Size(2**28, 20)},
    small={"standard": Size(2**10, 1), "deep": Size(2**10, 1)},
)
