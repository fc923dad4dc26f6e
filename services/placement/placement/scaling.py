"""From demand to how many replicas are wanted; ``settle`` starts and stops them."""

from collections.abc import Sequence
from datetime import datetime

from meshkit.store import Transaction

from placement import demands, reading, store
from placement.domain.scale import Scaled, scale


async def rescale(tx: Transaction, endpoint_ids: Sequence[str], now: datetime) -> list[str]:
    """Decide anew how many replicas each endpoint needs; return those that need another number.

    The caller holds the site's memory, and settles what is returned.
    """
    changed = []
    for endpoint_id in endpoint_ids:
        wanted = await reading.load_wanted(tx, endpoint_id)
        if wanted is None:
            continue
        before = Scaled(wanted=wanted.wanted, need=wanted.need, look_at=wanted.look_at)
        if wanted.deleted or wanted.external:
            after = Scaled(wanted=wanted.wanted, need=wanted.need, look_at=None)
        else:
            told = await demands.told(tx, endpoint_id)
            after = scale(wanted.replicas, wanted.wanted, wanted.need, told, now)
        if after != before:
            await store.keep_scale(tx, endpoint_id, after)
        if after.wanted != before.wanted:
            changed.append(endpoint_id)
    return changed
