"""A site's memory as it is kept: in parts, none of which takes long to write."""

from collections.abc import Iterator, Sequence

import msgspec

from placement.domain.engine.snapshot import HeldState, Snapshot

HOLDINGS_A_PART = 1_000

_head = msgspec.json.Decoder(Snapshot)
_holdings = msgspec.json.Decoder(list[HeldState])


def parts_of(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield all but who is where, then that in parts."""
    yield msgspec.json.encode(msgspec.structs.replace(snapshot, holdings=[]))
    held = snapshot.holdings
    for first in range(0, len(held), HOLDINGS_A_PART):
        yield msgspec.json.encode(held[first : first + HOLDINGS_A_PART])


def snapshot_of(parts: Sequence[bytes]) -> Snapshot:
    """Return what was kept in parts."""
    head, *rest = parts
    held = [one for part in rest for one in _holdings.decode(part)]
    return msgspec.structs.replace(_head.decode(head), holdings=held)
