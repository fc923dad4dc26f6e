"""What placement's tables, its log and what was answered must say of each other."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from meshkit.store import Row, Store, Transaction
from placement import memory
from placement.domain.engine.engine import Engine

from tests.adapters.any_kept import Kept
from tests.adapters.standby import SITE

SITS = """
SELECT m.number, coalesce(m.job_id, m.lease_id) AS owner, m.node_id, m.devices
FROM member m LEFT JOIN job j USING (job_id) LEFT JOIN lease l USING (lease_id)
WHERE (j.place = 'sits' AND m.attempt = j.attempt AND m.replaced_by IS NULL) OR l.place = 'sits'
UNION ALL SELECT 0, workload_id, node_id, devices FROM workload WHERE state NOT IN ('stopped', 'failed')
ORDER BY owner, number
"""
PLACES = """
SELECT job_id AS id, place, ended_at IS NOT NULL AS over, due_at FROM job
WHERE place <> 'none' OR ended_at IS NULL
UNION ALL SELECT lease_id, place, ended_at IS NOT NULL, due_at FROM lease WHERE place <> 'none' OR ended_at IS NULL
"""
WRITTEN_MAX = 200_000
"""Decisions that are written down of a run in which something was wrong."""


async def agree(store: Store) -> list[str]:
    """Return where the tables and the memory that follows from the log differ, at one moment."""
    async with store.transaction() as tx:
        # Most of it before anybody is held up.
        await memory.of(tx.beside).at(SITE).catch_up(tx)
    async with store.transaction() as tx:
        held = await memory.hold(tx, SITE)
        seq, engine = held.seq, held.engine
        found = await _holdings(tx, engine) + await _set(tx, engine)
    trouble = memory.of(store.beside).trouble()
    if trouble:
        found.append(trouble)
    return [f"decision {seq}: {one}" for one in found]


async def _holdings(tx: Transaction, engine: Engine) -> list[str]:
    cards = {
        (row["node_id"], row["device_id"]): row["card"]
        for row in await tx.rows("SELECT node_id, device_id, card FROM device")
    }
    tables: dict[str, list[Any]] = {}
    for row in await tx.rows(SITS):
        devices = msgspec.json.decode(row["devices"])
        places = tuple(sorted(cards[row["node_id"], one] for one, *_ in devices))
        tables.setdefault(row["owner"], []).append((row["node_id"], places))
    seats = {
        name: [(one.node, tuple(sorted(one.cards))) for one in engine.seats(holding.parts)]
        for name, holding in engine.holdings.items()
    }
    found = [
        f"{name} sits at {tables.get(name)} by the tables, at {seats.get(name)} by the log"
        for name in sorted(tables.keys() | seats.keys())
        if tables.get(name) != seats.get(name)
    ]
    places = await tx.rows(PLACES)
    waits = {row["id"] for row in places if row["place"] == "waits"}
    queue = set(engine.turns.queue.entries)
    if waits != queue:
        found.append(f"only in the tables wait {waits - queue}, only in the queue {queue - waits}")
    # A booking whose time is over is dropped as it is noticed; its lease ends with the next tick.
    now = datetime.fromtimestamp(engine.turns.now / 1_000, UTC)
    booked = {row["id"] for row in places if row["place"] == "booked" and row["due_at"] > now}
    open_ones = {row["id"] for row in places if not row["over"]}
    for row in await tx.rows("SELECT window_id, ends_at FROM maintenance WHERE over_at IS NULL"):
        open_ones.add(row["window_id"])
        if row["ends_at"] is None or row["ends_at"] > now:
            booked.add(row["window_id"])
    bookings = set(engine.turns.admission.calendar.bookings)
    if not booked <= bookings <= open_ones:
        found.append(f"booked are {booked} by the tables, {bookings} by the log")
    return found


async def _set(tx: Transaction, engine: Engine) -> list[str]:
    """Return where nodes, caps and quota are known otherwise than they stand."""
    found = []
    for row in await tx.rows("SELECT node_id, name, state, silent FROM node"):
        at = engine.site.row_of[row["node_id"]]
        known = (bool(engine.site.closed[at]), bool(engine.site.silent[at]))
        if known != (row["state"] != "ready", row["silent"]):
            found.append(f"{row} is known as (closed, silent) {known}")
    return found


async def write_down(store: Store, to: Path) -> None:
    """Write what was decided where somebody can read it once the database is gone."""
    async with store.transaction() as tx:
        rows = await tx.rows(
            "SELECT seq, epoch, input, outcome FROM decision WHERE site = $1 ORDER BY seq DESC LIMIT $2",
            *(SITE, WRITTEN_MAX),
        )
    lines = (f"{row['seq']} {row['epoch']} {row['input']} {row['outcome']}" for row in reversed(rows))
    await asyncio.to_thread(to.write_text, "\n".join(lines))


async def answered(store: Store, kept: Kept) -> list[str]:
    """Return which answers do not hold: what was made is there, what was to end does, what was set is so."""
    async with store.transaction() as tx:
        rows = {
            row["id"]: row
            for row in await tx.rows(
                "SELECT job_id AS id, state, ended_at IS NOT NULL AS goes, state = 'cancelled' AS undone FROM job"
                " UNION ALL SELECT lease_id, state, state NOT IN"
                "  ('requested', 'reserved', 'provisioning', 'active'), reasons LIKE '%\"released\"%' FROM lease"
                " UNION ALL SELECT endpoint_id, state, deleted, deleted FROM endpoint"
            )
        }
        quotas = await tx.rows(
            "SELECT scope_kind, scope_id, gpus, gpus_max, weight, generation FROM quota"
        )
        caps = await tx.rows("SELECT level, domain, watts, generation FROM cap")
        letters = await tx.rows("SELECT tag, reason, tries, parked FROM dead_letter")
    found = [f"{name} was made and is not there" for name in kept.made if name not in rows]
    found += [f"{rows[one]} was to end" for one in kept.ended if one in rows and not rows[one]["goes"]]
    found += [
        f"{rows[one]} was not to end"
        for one in kept.made.keys() - kept.undone
        if one in rows and rows[one]["undone"]
    ]
    found += _of(kept.quotas, quotas, ("scope_kind", "scope_id"), ("gpus", "gpus_max", "weight"))
    found += _of(kept.caps, caps, ("level", "domain"), ("watts",))
    return found + [f"nobody could handle {letter}" for letter in letters]


def _of(
    kept: dict[tuple[str, str], Any], rows: list[Row], key: tuple[str, str], fields: tuple[str, ...]
) -> list[str]:
    stands = {(row[key[0]], row[key[1]]): row for row in rows}
    found = []
    for name, answer in kept.items():
        row = stands.get(name)
        if row is None or row["generation"] < answer.generation:
            found.append(f"{answer} was set, {row} stands")
        elif row["generation"] == answer.generation and any(
            row[field] != getattr(answer, field) for field in fields
        ):
            found.append(f"{answer} was set last, {row} stands")
    return found
