"""Faults put into memory on purpose, between a check's writing and its reading."""

from typing import Any

from gpuprobe.fault import BITS_MAX, FaultUnusable
from gpuprobe.pattern import MASK
from gpuprobe.probe import Setting


def strike(setting: Setting, probe: str, words: Any, round_number: int, *, beside: str = "") -> None:
    """Change ``words`` (uint32, flat) as the faults of this probe say, in the round that they say.

    Faults of the kind ``beside`` are the probe's own to put in. Raises ``FaultUnusable`` where a fault
    lies outside of the words or is of a kind that memory has not.
    """
    backend, size = setting.backend, int(words.size)
    for fault in setting.struck(probe):
        if fault.kind == beside or not fault.strikes(round_number):
            continue
        last = fault.word + (fault.count - 1) * fault.stride
        if not (0 < fault.mask < 1 << BITS_MAX and fault.count >= 1 <= fault.stride and last < size):
            raise FaultUnusable(f"the check has {size} words of 32 bits; {fault} is outside of it")
        if fault.kind == "flip":
            places = (fault.word, fault.stride, fault.count, fault.mask)
            backend.launch("strike_flip", words, *places)
        elif fault.kind == "stick":
            places = (fault.word, fault.stride, fault.count, fault.mask)
            backend.launch("strike_stick", words, *places, fault.level & MASK)
        elif fault.kind == "alias":
            if 1 << fault.line >= size:
                raise FaultUnusable(
                    f"the check has {size} words; address line {fault.line} is not used"
                )
            backend.launch("strike_alias", words, size - size % (2 << fault.line), 1 << fault.line)
        else:
            raise FaultUnusable(f"{probe} has no fault of the kind {fault.kind}: flip, stick or alias")
