"""Whether the evidence of a check names the place of the fault that was put into it."""

from gpuprobe.chains import UNITS
from gpuprobe.fault import Fault
from gpuprobe.struck import TILE
from gpuprobe.verdict import Evidence


def at_word(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names a word, and exactly its bits."""
    return evidence.get("word") == fault.word and evidence.get("mask") == hex(fault.mask)


def some_of_word(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names a word, and some of its bits: a stuck one is right half of the time."""
    mask = int(str(evidence.get("mask", "0")), 16)
    return evidence.get("word") == fault.word and 0 < mask == mask & fault.mask


def at_lane(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names one of the words that lie evenly, and its bits."""
    word = evidence.get("word")
    assert isinstance(word, int)
    lane, rest = divmod(word - fault.word, fault.stride)
    return rest == 0 <= lane < fault.count and evidence.get("mask") == hex(fault.mask)


def at_line(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names the dead line of the address."""
    return evidence.get("line") == fault.line


def at_cell(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names a cell of a multiprocessor."""
    return (
        evidence.get("sm") == fault.sm
        and evidence.get("cell") == fault.word
        and evidence.get("mask") == hex(fault.mask)
    )


def at_lanes(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names a multiprocessor, its scheduler, the unit, its lanes and bits."""
    return (
        evidence.get("sms") == [fault.sm]
        and evidence.get("schedulers_wrong") == [fault.line]
        and evidence.get("units") == UNITS[fault.level]
        and evidence.get("lanes") == hex(fault.word)
        and evidence.get("xor") == hex(fault.mask)
    )


def at_row(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names an element of a product, and its bits."""
    return (evidence.get("row"), evidence.get("col"), evidence.get("xor")) == (
        fault.row,
        fault.col,
        hex(fault.mask),
    )


def at_tile(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names where a tile of a product begins."""
    # Where later products stand in the wrong one's place, its rows alone are known.
    row, col = fault.row // TILE * TILE, fault.col // TILE * TILE
    return (evidence.get("row"), evidence.get("col", col)) == (row, col)


def at_peer(evidence: Evidence, fault: Fault) -> bool:
    """Tell whether it names a word on its way to another device, and its bits."""
    return evidence.get("word") == fault.word and evidence.get("xor") == hex(fault.mask)
