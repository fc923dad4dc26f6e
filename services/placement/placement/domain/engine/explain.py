"""Decisions in words: what each constraint left over, why this node and not the next, what would unblock."""

from collections.abc import Callable
from typing import NamedTuple

from mesh_contracts.placement import Reason

from placement.domain.engine.choose import Rated
from placement.domain.engine.explain_gang import (
    chosen_together,
    refused_together,
    survivors_together,
)
from placement.domain.engine.explain_mig import instances
from placement.domain.engine.fit import CONSTRAINTS
from placement.domain.engine.mix import ONE
from placement.domain.engine.relax_words import relaxation_reason
from placement.domain.engine.site import NodeSpec, Site
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Placed, Refused, Told, Wish

SLOTS = NodeSpec(node="").slots


class Explained(NamedTuple):
    """``survivors`` of each constraint in order; ``reasons`` for the node chosen, or for none."""

    survivors: list[Reason]
    reasons: list[Reason]


class Words(NamedTuple):
    """One constraint as people read it: what a node must be, the code of a refusal, what unblocks it."""

    detail: str
    refused: str
    unblock: str


def explain(
    site: Site,
    wish: Wish,
    outcome: Placed | Refused,
    *,
    called: Callable[[str], str] = str,
    others: bool = True,
) -> Explained:
    """Return an outcome in words.

    ``called`` gives the name of a node by its id. ``others``: whether the reader may know whose work is in
    the way.
    """
    why, fits = outcome.why, isinstance(outcome, Placed)
    left = survivors(wish, why) + instances(site, wish, placed=fits)
    if fits:
        return Explained(left, chosen(site, why, called))
    return Explained(left, refused(wish, why, called=called, others=others))


def survivors(wish: Wish, why: Told) -> list[Reason]:
    """Return how many nodes are left after each constraint that matters here, until none is."""
    left = sum(why.failed)
    found = [Reason(code="known", detail="nodes at this site", count=left)]
    for code, failed in zip(CONSTRAINTS, why.failed, strict=False):
        if not left:
            break
        left -= failed
        if failed or _matters(code, wish):
            found.append(Reason(code=code, detail=_words(code, wish).detail, count=left))
    return found if why.together is None else found + survivors_together(wish, why.together)


def refused(
    wish: Wish, why: Told, *, called: Callable[[str], str] = str, others: bool = True
) -> list[Reason]:
    """Return which constraint left no node, and the smallest change that would have admitted the wish.

    Nothing where no node was looked at: then ``short`` says what is lacking.
    """
    if not why.failed:
        return []
    left = before = sum(why.failed)
    last = CONSTRAINTS[0]
    for code, failed in zip(CONSTRAINTS, why.failed, strict=False):
        if failed:
            last, before, left = code, left, left - failed
    words = _words(last, wish)
    detail = f"{words.detail}: {left} of {before} nodes"
    found = [Reason(code=words.refused, detail=detail, unblock=words.unblock, count=before)]
    if left and why.together is not None:
        found = [refused_together(wish, why.together)]
    if why.relaxation is not None:
        found.append(relaxation_reason(wish, why.relaxation, called, others=others))
    return found


def chosen(site: Site, why: Told, called: Callable[[str], str] = str) -> list[Reason]:
    """Return what the node chosen scored, and the next best; of several members the domain."""
    if why.together is not None:
        return chosen_together(why.together)
    if why.best is None:
        return []
    name = called(site.specs[why.best.row].node)
    found = [Reason(code="chosen", detail=f"{name}: {_score(why.best)}")]
    if why.second is None:
        return [*found, Reason(code="runner_up", detail="no other node fits")]
    behind = why.best.score - why.second.score
    how = f"{_thousandths(behind)} behind" if behind else "equal: of equals the first known is taken"
    name = called(site.specs[why.second.row].node)
    return [*found, Reason(code="runner_up", detail=f"{name}: {_score(why.second)}; {how}")]


def _score(rated: Rated) -> str:
    """Return a score and the terms that add up to it, in thousandths of a GPU's worth of fragments."""
    terms = (
        ("fragments taken away", rated.gain),
        ("what stays free there", -rated.left),
        ("watts added", -rated.power),
        ("neighbours, dislikes and distance", -rated.bias),
    )
    shown = [(words, round(value / ONE, 1)) for words, value in terms if value]
    told = ", ".join(f"{value:+,.1f} {words}" for words, value in shown)
    return f"{_thousandths(rated.score)} ({told})" if told else _thousandths(rated.score)


def _thousandths(value: int) -> str:
    return f"{value / ONE:,.1f}"


def _matters(code: str, wish: Wish) -> bool:
    """Whether a constraint is told also where it leaves all nodes: those that were asked for, and the plain ones."""
    size, terms = wish.size, wish.terms
    asked = {
        "jurisdiction": terms.jurisdictions,
        "assurance": terms.assurances,
        "gpu_model": size.models,
        "gpus": size.cards,
        "cpu": size.cpu_milli,
        "isolation": terms.isolation,
        "power": False,
        "reserved": False,
        "quota": False,
    }
    return bool(asked.get(code, True))


def _words(code: str, wish: Wish) -> Words:
    places = ", ".join(sorted(wish.terms.jurisdictions))
    assurances = ", ".join(sorted(wish.terms.assurances))
    models = " or ".join(wish.size.models)
    size = wish.size
    alone = {
        "": "where nobody else must be alone",
        "node": "with no other tenant on the node",
        "nvlink": "with no other tenant in the NVLink domain",
        "rack": "with no other tenant in the rack",
    }[wish.terms.isolation]
    return {
        "ready": Words(
            "checked and taking work",
            "no_ready_node",
            "add a node, or return a cordoned one once it is repaired",
        ),
        "heard": Words(
            "heard of lately",
            "no_node_heard",
            "see whether the silent servers, their agents and the network between run",
        ),
        "jurisdiction": Words(
            f"in {places}",
            "no_node_in_jurisdiction",
            f"add a node in {places}, or widen residency.jurisdictions",
        ),
        "assurance": Words(
            f"certified for {assurances}",
            "no_node_with_assurance",
            f"add a node certified for {assurances}, or ask for less in residency.assurances",
        ),
        "gpu_model": Words(
            f"with a GPU of model {models}",
            "no_such_gpu",
            f"add a node with {models}, or ask for another resources.gpu_model",
        ),
        "gpus": _instance(size)
        if size.mig
        else Words(
            f"{_cards(size)} free on one node",
            "not_enough_gpus",
            "stop another endpoint, add a node, or ask for less in resources",
        ),
        "cpu": Words(
            f"{size.cpu_milli} milli of CPU free",
            "not_enough_cpu",
            "stop another endpoint, add a node, or ask for less resources.cpu_milli",
        ),
        "memory": Words(
            f"{size.memory_mib} MiB of memory free",
            "not_enough_memory",
            "stop another endpoint, add a node, or ask for less resources.memory_mib",
        ),
        "slots": Words(
            f"with fewer than {SLOTS} workloads", "node_full", "stop another endpoint, or add a node"
        ),
        "isolation": Words(
            alone,
            "nowhere_alone",
            "wait until the others there have ended, have an operator move replicas (POST "
            "/api/v1/sites/{site}/moves shows which), add a node, or ask for less isolation",
        ),
        "power": Words(
            "with watts left under every cap",
            "power_capped",
            "raise the cap, or stop other work under it",
        ),
        "reserved": Words(
            "neither reserved for somebody else nor kept for maintenance",
            "reserved",
            "wait until that is over, or ask for a run that ends before it begins",
        ),
        "quota": Words(
            "outside the NVLink domains that others are guaranteed",
            "quota_domains",
            "wait until others end, or have an operator raise the quota",
        ),
    }[code]


def _instance(size: Size) -> Words:
    return Words(
        f"with a MIG instance {size.mig} free on one GPU",
        "no_mig_instance",
        "stop what has instances there, put an idle GPU in MIG mode, or ask for a smaller resources.mig",
    )


def _cards(size: Size) -> str:
    return f"{size.gpus} whole GPUs" if size.gpus else f"{size.gpu_milli} milli of one GPU"
