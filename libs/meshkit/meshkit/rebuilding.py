"""A bucket rebuilt as a difference: what should stand there is put, what should not is dropped."""

import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from mesh_contracts import wire

from meshkit.bucket import BucketWriter
from meshkit.store import Store
from meshkit.transaction import Transaction, bucket_lock

Snapshot = Callable[[Transaction], Awaitable[Mapping[str, msgspec.Struct]]]

logger = logging.getLogger(__name__)


async def put_difference(store: Store, writer: BucketWriter, bucket: str, snapshot: Snapshot) -> int:
    """Write to the outbox what makes ``bucket`` hold ``snapshot``; return how many changes it took.

    Under the bucket's lock: a transaction that has put and not yet committed is waited for, and one
    that puts later leaves later.
    """
    async with store.transaction() as tx:
        await tx.value("SELECT pg_advisory_xact_lock($1)", bucket_lock(bucket))
        wanted = await snapshot(tx)
        held = await writer.held()
        changed = [key for key, value in wanted.items() if held.get(key) != wire.encode(value)]
        for key in changed:
            await tx.put(bucket, key, wanted[key])
        extra = [key for key in held if key not in wanted]
        for key in extra:
            await tx.drop(bucket, key)
    logger.info("bucket %s: %d put, %d dropped", bucket, len(changed), len(extra))
    return len(changed) + len(extra)
