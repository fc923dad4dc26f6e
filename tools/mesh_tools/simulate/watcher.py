"""Looks for what must never be, from what agents are told alone: no table, nothing that placement remembers.

It hears each node's intents, when an agent has nothing of a workload any more or lost power, and placement's
facts that a node takes nothing new, or takes work again. Times are given (ms). ``breaches`` says what it found.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

import msgspec
from mesh_contracts.placement import Intent, MemberSpec, WorkloadSpec

BREACHES_MAX = 100
"""Breaches that are kept in words; all are counted."""
SEATS_MAX = 500_000
"""Members whose last node is remembered, to tell who was moved."""
WHOLE = 1_000
GRACE_MS = 5_000
"""A node's return may be heard so much later than what it was given then: both leave side by side."""
SAME_MS = 1_000
"""What was asked for so shortly after a node was closed may have been decided before."""
SITE = ("site", "site")
POWERED = ("rack", "pdu", "row", "hall")

Spec = WorkloadSpec | MemberSpec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What the watcher knows of a node before anything begins."""

    node_id: str
    jurisdiction: str
    devices: tuple[str, ...]
    idle_w: int
    gpu_w: int
    domains: Mapping[str, str]


class Part(msgspec.Struct, frozen=True):
    """What one workload has of its node: so many thousandths of each device."""

    devices: tuple[str, ...]
    milli: int
    owner: str
    attempt: int


class Suspect(msgspec.Struct, frozen=True):
    """Something that a node was given while it was closed, as far as was heard."""

    heard_at: int
    node_id: str
    workload_id: str
    closed_at: int


class _Node:
    """One node: what it is told to run, what of it is there, and what it is to stop and has not yet."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.domains = (
            SITE,
            *((level, place.domains[level]) for level in POWERED if level in place.domains),
        )
        self.listed: dict[str, Spec] = {}
        self.there: dict[str, Part] = {}
        self.held: Counter[str] = Counter()
        self.closed_at: int | None = None
        self.opened_at = 0
        self.powered = True


class Watcher:
    """Hears all that agents hear. ``may_be`` gives where a workload may be, by its name (``None``: not known)."""

    def __init__(
        self,
        places: Iterable[Place],
        may_be: Callable[[str], Sequence[str] | None],
        caps: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        self.breaches: list[str] = []
        self.count: Counter[str] = Counter()
        self.held_milli = 0
        self.begun = self.moved = self.restarted = 0
        self._caps: dict[tuple[str, str], int] = dict(caps or {})
        self._may_be = may_be
        self._nodes = {place.node_id: _Node(place) for place in places}
        self._where: dict[str, str] = {}
        self._alive: dict[str, Counter[int]] = {}
        self._seats: dict[tuple[str, int], str] = {}
        self._watts: Counter[tuple[str, str]] = Counter()
        self.suspects: list[Suspect] = []
        for node in self._nodes.values():
            for domain in node.domains:
                self._watts[domain] += node.place.idle_w

    def cap(self, level: str, domain: str, watts: int) -> None:
        """Know what a part of the site may draw from now on."""
        self._caps[(level, domain) if level != "site" else SITE] = watts

    def told(self, node_id: str, intent: Intent, at: int) -> None:
        """Hear what a node should run from now on."""
        node = self._nodes[node_id]
        specs: tuple[Spec, ...] = (*intent.workloads, *intent.members)
        before, node.listed = node.listed, {spec.workload_id: spec for spec in specs}
        for workload_id, spec in node.listed.items():
            # What was to stop, has not yet and is to run again is no new one.
            if workload_id not in before and workload_id not in node.there:
                self._look(node, spec, at)
                self._begin(node, spec)

    def ended(self, node_id: str, workload_id: str) -> None:
        """Hear that an agent has nothing of a workload any more, whether it was to stop or not."""
        node = self._nodes[node_id]
        part = node.there.pop(workload_id, None)
        if part is None:
            return
        self._change(node, part, -1)
        del self._where[workload_id]
        alive = self._alive[part.owner]
        alive[part.attempt] -= 1
        if not +alive:
            del self._alive[part.owner]

    def down(self, node_id: str) -> None:
        """Hear that a node has lost power: nothing is there any more, whatever it is told."""
        node = self._nodes[node_id]
        node.powered = False
        for workload_id in list(node.there):
            self.ended(node_id, workload_id)

    def up(self, node_id: str) -> None:
        """Hear that a node has power again, and begins what it is told."""
        node = self._nodes[node_id]
        node.powered = True
        for spec in node.listed.values():
            self._begin(node, spec)

    def closed(self, node_id: str, at: int) -> None:
        """Hear that placement has cordoned a node, or given it up, at a time."""
        node = self._nodes.get(node_id)
        if node is not None and node.closed_at is None and at > node.opened_at:
            node.closed_at = at

    def opened(self, node_id: str, at: int) -> None:
        """Hear that placement has a node take work again, at a time."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.closed_at, node.opened_at = None, at

    def judge(self, at: int) -> None:
        """Say which nodes were given something while they were closed, once a return of theirs would be known."""
        suspects, self.suspects = self.suspects, []
        for one in suspects:
            if at - one.heard_at < GRACE_MS:
                self.suspects.append(one)
            elif self._nodes[one.node_id].opened_at <= one.closed_at:
                self._breach(
                    "closed node", f"{one.workload_id} was given to {one.node_id}, which is closed"
                )

    def broken(self) -> list[str]:
        """Return the jobs of which some members are told to run and others are not; for when nothing changes."""
        listed: Counter[tuple[str, int]] = Counter()
        whole: dict[tuple[str, int], int] = {}
        for node in self._nodes.values():
            for spec in node.listed.values():
                if isinstance(spec, MemberSpec) and spec.kind == "job":
                    listed[spec.owner_id, spec.attempt] += 1
                    whole[spec.owner_id, spec.attempt] = spec.members
        return sorted(
            owner for (owner, attempt), count in listed.items() if count != whole[owner, attempt]
        )

    def listed(self) -> dict[str, set[str]]:
        """Return the workloads that nodes are told to run, by node, of those that are told any."""
        return {node_id: set(node.listed) for node_id, node in self._nodes.items() if node.listed}

    def domains(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return each part of the site with its watts now and the most that it would draw, by level and name."""
        most: Counter[tuple[str, str]] = Counter()
        for node in self._nodes.values():
            for domain in node.domains:
                most[domain] += node.place.idle_w + len(node.place.devices) * node.place.gpu_w
        return {domain: (self._watts[domain], most[domain]) for domain in most}

    def _look(self, node: _Node, spec: Spec, at: int) -> None:
        """Look at what a node is told to run for the first time: whether it may, and who was moved."""
        place = node.place
        self.begun += 1
        if isinstance(spec, MemberSpec):
            self._note_seat(spec, place.node_id)
        allowed = self._may_be(spec.name)
        if allowed is not None and place.jurisdiction not in allowed:
            self._breach(
                "jurisdiction", f"{spec.name} may be in {allowed}, not in {place.jurisdiction}"
            )
        unknown = sorted(set(spec.devices) - set(place.devices))
        if unknown:
            self._breach("no such device", f"{place.node_id} has no {unknown[0]}")
        closed_at = node.closed_at
        if closed_at is not None and asked_at(spec.workload_id) > closed_at + SAME_MS:
            self.suspects.append(Suspect(at, place.node_id, spec.workload_id, closed_at))

    def _begin(self, node: _Node, spec: Spec) -> None:
        place, workload_id, part = node.place, spec.workload_id, _part(spec)
        if not node.powered:
            return
        elsewhere = self._where.get(workload_id)
        if elsewhere is not None:
            self._breach("two nodes", f"{workload_id} is at {elsewhere} and at {place.node_id}")
            self.ended(elsewhere, workload_id)
        alive = self._alive.setdefault(part.owner, Counter())
        others = sorted(attempt for attempt in +alive if attempt != part.attempt)
        if others:
            self._breach("two attempts", f"{part.owner} begins attempt {part.attempt} beside {others}")
        alive[part.attempt] += 1
        self._where[workload_id] = place.node_id
        node.there[workload_id] = part
        self._change(node, part, 1)
        for device in part.devices:
            if node.held[device] > WHOLE:
                both = sorted(one for one, other in node.there.items() if device in other.devices)
                self._breach("device given twice", f"{device} of {place.node_id} has {', '.join(both)}")

    def _note_seat(self, spec: MemberSpec, node_id: str) -> None:
        seat = spec.owner_id, spec.number
        before = self._seats.pop(seat, None)
        if before is not None and spec.attempt > 1:
            self.moved += before != node_id
            self.restarted += before == node_id
        elif len(self._seats) >= SEATS_MAX:
            del self._seats[next(iter(self._seats))]
        self._seats[seat] = node_id

    def _change(self, node: _Node, part: Part, sign: int) -> None:
        """Count what a workload takes, or gave back; look at the caps where it takes."""
        watts = 0
        for device in part.devices:
            before = node.held[device]
            node.held[device] = after = before + sign * part.milli
            watts += ((after > 0) - (before > 0)) * node.place.gpu_w
        self.held_milli += sign * part.milli * len(part.devices)
        if not watts:
            return
        for domain in node.domains:
            self._watts[domain] += watts
            cap = self._caps.get(domain)
            if watts > 0 and cap is not None and self._watts[domain] > cap:
                self._breach(
                    "above a cap", f"{' '.join(domain)} draws {self._watts[domain]} W of {cap} W"
                )

    def _breach(self, kind: str, words: str) -> None:
        self.count[kind] += 1
        if len(self.breaches) < BREACHES_MAX:
            self.breaches.append(f"{kind}: {words}")


def asked_at(identity: str) -> int:
    """Return when the cause of what an id names came to be (ms): it stands in the id."""
    return UUID(identity.partition("_")[2]).int >> 80


def _part(spec: Spec) -> Part:
    resources = spec.resources
    shared = resources is not None and not resources.gpus and resources.gpu_milli
    milli = resources.gpu_milli if resources is not None and shared else WHOLE
    if isinstance(spec, MemberSpec):
        return Part(tuple(spec.devices), milli, spec.owner_id, spec.attempt)
    # Replicas of an endpoint are their own: several run side by side, and one beside its successor.
    return Part(tuple(spec.devices), milli, spec.workload_id, 1)
