"""The door for facts: one function each."""

import logging

from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.inference import UsageMetered
from mesh_contracts.metering import RatedRow
from meshkit import semconv
from meshkit.clock import Clock
from meshkit.store import Transaction
from meshkit.telemetry import METRICS, span, traceparent

from metering import crossing, store
from metering.domain import numbers, rate
from metering.domain.told import told

logger = logging.getLogger(__name__)


async def on_project_admitted(fact: ProjectAdmitted, tx: Transaction, _clock: Clock) -> None:
    """Learn what people call a project."""
    await store.name_project(tx, fact)


async def on_usage_metered(batch: UsageMetered, tx: Transaction, clock: Clock) -> None:
    """Write a batch's requests into the ledger, each once, charge them, and say which batches it holds now.

    Batches may come late and in any order; a request that has a line already gets no second one.
    """
    epochs = await store.hold_producer(tx, batch.producer)
    rows = rate.fresh(batch.rows, await store.known(tx, [row.request_id for row in batch.rows]))
    lines: list[RatedRow] = []
    if rows:
        book = await store.prices(tx)
        debtors = [
            (row.project, rate.price_for(book, row.model, row.started_at).price_id) for row in rows
        ]
        rated = rate.rate(rows, book, await store.owed(tx, debtors))
        lines = rated.lines
        await store.record(tx, batch, lines, rated.remainders)
    for fact in told(batch, lines, clock.now()):
        await tx.tell(fact)
    if lines:
        # Last of all that locks: budgets are held as shortly as can be.
        await crossing.charge(tx, batch, lines)
    await _mark(batch, epochs, tx)
    _show(batch, lines, tx)


async def _mark(batch: UsageMetered, epochs: dict[int, numbers.Ranges], tx: Transaction) -> None:
    held = epochs.get(batch.epoch)
    if held is None:
        held = await store.epoch_held(tx, batch.producer, batch.epoch)
    now_held = numbers.added(held, batch.sequence)
    if now_held == held:
        return
    await store.keep_numbers(tx, batch.producer, batch.epoch, now_held)
    epochs[batch.epoch] = now_held
    mark = numbers.mark(batch.producer, epochs)
    await tx.put("limits", f"producer.{batch.producer}", mark)
    missing = sum(numbers.gap_count(one) for one in epochs.values())
    if numbers.gap_count(now_held) > numbers.gap_count(held):
        logger.warning(
            "usage of %s jumped to batch %d of epoch %d: %d missing, wished for again",
            *(batch.producer, batch.sequence, batch.epoch, missing),
        )
    tx.after_commit(lambda: METRICS.set("mesh_usage_batches_missing", missing, producer=batch.producer))


def _show(batch: UsageMetered, lines: list[RatedRow], tx: Transaction) -> None:
    """Count the lines, and add a span to each one's own trace, once they are truly there."""
    known = len(batch.rows) - len(lines)
    batch_trace = traceparent() or batch.traceparent
    links = [] if batch_trace is None else [batch_trace]

    def show() -> None:
        if known:
            METRICS.count("mesh_usage_rows_known_total", known)
        for line in lines:
            usage = line.usage
            METRICS.count("mesh_usage_rows_total", state=usage.state)
            METRICS.count("mesh_usage_cost_microeur_total", line.cost_microeur)
            if rate.uncounted(usage):
                METRICS.count("mesh_usage_rows_uncounted_total")
            if sampled(usage.traceparent):
                attributes = {semconv.MESH_REQUEST_ID: usage.request_id}
                with span(
                    "ledger.record", parent=usage.traceparent, links=links, attributes=attributes
                ):
                    pass

    tx.after_commit(show)


def sampled(parent: str | None) -> bool:
    """Tell whether a traceparent names a span that is kept (the row's own trace, or none at all)."""
    return (
        parent is not None
        and parent[-1] in "13579bdf"
        and parent[3:35].strip("0") != ""
        and parent[36:52].strip("0") != ""
    )
