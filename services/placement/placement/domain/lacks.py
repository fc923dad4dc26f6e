"""Why something waits or is refused, in words: what the site lacks, or what a quota or the calendar does."""

from collections.abc import Callable

from mesh_contracts.placement import Reason

from placement.domain import maintenance
from placement.domain.engine.engine import Engine
from placement.domain.engine.explain import refused
from placement.domain.engine.explain_mig import instances
from placement.domain.engine.notice import Queued, Short, Told
from placement.domain.engine.share import gpus
from placement.domain.engine.wish import Wish
from placement.domain.wishes import at_of, in_words

RAISE = "have an operator raise the quota, or ask for less"
WAIT = "wait until others of yours end, or have an operator raise the quota"
WORDS = {
    "queue": ("queue_full", "so many wait already that no more may", "try again later"),
    "promised": (
        "kept_for_others",
        "it would fit, but then others who wait would not start when they were told",
        "wait, or give it a run_max_s: what ends before they start may go first",
    ),
    "reservation": ("not_reserved", "{name} is not open to it", "ask again once it has begun"),
    "nodes": (
        "not_enough_servers",
        "{have} of {want} servers are free for all of that time{by}",
        "ask for another time, or for fewer",
    ),
    "then": (
        "not_enough_servers",
        "{have_gpus} of the {want_gpus} asked for are free, server by server, for all of that time",
        "ask for another time, or for fewer",
    ),
    "time": (
        "reservation_too_short",
        "{name} is open for {have} ms more, and {want} are asked for",
        "ask for less time",
    ),
    "carbon": (
        "waits_for_the_grid",
        "a kWh emits {have_g} g now and is expected to emit {want_g} g from {at} on, when it is to begin",
        "submit it with less slack_s to have it begin before",
    ),
    "capacity": (
        "site_too_small",
        "this site would not hold it if it were empty: {want_gpus} are asked for, {have_gpus} are built",
        "ask for less, or less near to each other, or have nodes added",
    ),
    "kind": (
        "site_too_small",
        "this site would not hold it if it were empty: it has GPUs enough, but not such, or not so near to each other",
        "ask for others, or less near to each other, or have nodes added",
    ),
    "places": (
        "site_too_small",
        "this site would not hold it if it were empty: its nodes have not so much memory or CPU, or take not so many members",
        "ask for fewer members, or for less of each, or have nodes added",
    ),
}
"""What is lacking that no quota gives: the code of a reason, what it says, what helps."""


def short_of(short: Short) -> Reason:
    """Return what is lacking, who holds most of it, and what helps."""
    holders = ", ".join(f"{holder} has {gpus(held)}" for holder, held in short.holders)
    by = f" ({holders})" if holders else ""
    have = max(0, short.have)
    # What is booked may be free at another time.
    then = short.code == "capacity" and short.ever
    # GPUs enough may be of another model or in another mode, or stand too far from each other.
    kind = short.code == "capacity" and not short.ever and short.want <= have
    # What asks for no GPU lacks something else.
    built = "kind" if short.want else "places"
    known = WORDS.get("then" if then else built if kind else short.code)
    if known is not None:
        code, detail, unblock = known
        words = {"name": short.name, "have": have, "want": short.want, "by": by}
        words |= {"have_gpus": gpus(have), "want_gpus": gpus(short.want)}
        words |= {"have_g": round(have / 1_000), "want_g": round(short.want / 1_000)}
        at = at_of(short.at)
        detail = detail.format(**words, at="" if at is None else in_words(at))
        return Reason(code=code, detail=detail, unblock=unblock)
    detail = f"{gpus(short.want)} are asked for, {gpus(have)} of its quota are left{by}"
    if short.code == "domains":
        detail = f"{have} of {short.want} NVLink domains of its quota are left{by}"
    unblock = WAIT if short.ever else RAISE
    return Reason(code=f"quota_{short.code}", detail=f"{short.name}: {detail}", unblock=unblock)


def why_not(
    told: Told | None,
    short: Short | None,
    wish: Wish,
    called: Callable[[str], str] = str,
    engine: Engine | None = None,
) -> tuple[Reason, ...]:
    """Return why a wish waits or is refused, as its owner may know it: not whose work is in the way.

    ``called`` gives a node's name by its id; ``engine`` knows which nodes are kept for maintenance.
    """
    why = () if short is None else (short_of(short),)
    if told is None or not told.failed:
        return why
    worked_on = () if engine is None or short is not None else maintenance.waits_for(engine, wish)
    mig = () if engine is None else instances(engine.site, wish)
    return (*why, *refused(wish, told, called=called, others=False), *mig, *worked_on)


def waits_for(
    outcome: Queued, wish: Wish, called: Callable[[str], str] = str, engine: Engine | None = None
) -> tuple[Reason, ...]:
    """Return why one who just asked has to wait."""
    if outcome.short is not None:
        return (short_of(outcome.short),)
    return why_not(outcome.why, None, wish, called, engine)
