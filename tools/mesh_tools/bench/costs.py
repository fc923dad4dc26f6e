"""What a simulated engine costs, what it keeps, and when it would have answered: all stated, none measured."""

import heapq
from collections import OrderedDict
from collections.abc import Sequence

import msgspec


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulated engine takes; chosen, not measured."""

    prefill_us: float = 150.0
    """A prompt token that is not in the cache: 6,700 tokens a second, one prompt after the other."""
    decode_us: float = 4_000.0
    """A token of an answer, whatever else is in the batch."""
    slots: int = 16
    """Requests in the batch; further ones wait."""
    block_tokens: int = 16
    cache_blocks: int = 512
    """What the cache holds: 8,192 tokens."""


class PrefixCache:
    """Blocks of prompts by the hash of all that leads up to them; the least recently used go first."""

    def __init__(self, block_tokens: int, blocks_max: int) -> None:
        self._block_tokens = block_tokens
        self._blocks_max = blocks_max
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def take(self, tokens: Sequence[str]) -> int:
        """Return how many tokens at the beginning are held; afterwards all whole blocks are."""
        held, unbroken, before = 0, True, 0
        for start in range(0, len(tokens) - self._block_tokens + 1, self._block_tokens):
            before = hash((before, tuple(tokens[start : start + self._block_tokens])))
            if before in self._blocks:
                self._blocks.move_to_end(before)
                held += self._block_tokens if unbroken else 0
                continue
            unbroken = False
            self._blocks[before] = None
            if len(self._blocks) > self._blocks_max:
                self._blocks.popitem(last=False)
        return held

    def forget(self) -> None:
        """Hold nothing."""
        self._blocks.clear()


class Timeline:
    """When requests would have been served had nothing but the engine taken time.

    The clock of a busy machine stretches what is measured; this one counts only stated costs, from the
    times at which requests say that they came.
    """

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._device_free_s = 0.0
        self._ends_s: list[float] = []

    def first_s(self, at_s: float, uncached: int, answered: int) -> float:
        """Return the time from ``at_s`` to the first token, behind all that was served before."""
        begins = max(at_s, self._device_free_s)
        if len(self._ends_s) >= self._costs.slots:
            begins = max(begins, heapq.heappop(self._ends_s))
        self._device_free_s = begins + uncached * self._costs.prefill_us / 1e6
        each = self._costs.decode_us / 1e6
        heapq.heappush(self._ends_s, self._device_free_s + answered * each)
        return self._device_free_s + each - at_s
