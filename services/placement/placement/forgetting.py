"""What placement forgets in time: work and windows that have ended, demand that stands no more, checks out of the breaker's window."""

from datetime import datetime, timedelta

from meshkit.store import Transaction

from placement import breaking, demands, jobstore, leasestore, logs, store, windows

BATCH = 1_000


async def forget(tx: Transaction, now: datetime) -> None:
    """Forget what has been over for long, at most ``BATCH`` of each kind."""
    before = now - timedelta(seconds=store.ENDED_KEPT_S)
    await store.forget_ended(tx, before, BATCH)
    await store.forget_stopped(tx, before, BATCH)
    await jobstore.forget(tx, before, BATCH)
    await leasestore.forget(tx, before, BATCH)
    await windows.forget(tx, before, BATCH)
    await logs.forget(tx, now - timedelta(seconds=logs.KEPT_S), BATCH)
    await demands.forget(tx, now, BATCH)
    await breaking.forget(tx, now)
