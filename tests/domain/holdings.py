"""A job and a lease without a database: what a turn does to their members is done to values."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from mesh_contracts.placement import Command, Residency, Resources
from meshkit.testing import NOW, test_id
from placement.domain import jobs
from placement.domain.fleet import Held
from placement.domain.jobs import JobWish, WantedJob
from placement.domain.leases import LeaseWish, WantedLease
from placement.domain.members import Member, Turn

PROJECT, ORGANIZATION = test_id("project", "holdings"), test_id("organization", "holdings")


def job(**fields: Any) -> WantedJob:
    wished = fields.pop("wished", {})
    known = {
        "job_id": test_id("job", "a job"),
        "organization": ORGANIZATION,
        "project": PROJECT,
        "project_name": "demo",
        "name": "train",
        "site": "fr-idf-1",
        "wished": JobWish(
            **{
                "command": Command(image="i"),
                "members": 3,
                "resources": Resources(gpus=4),
                "residency": Residency(),
                **wished,
            }
        ),
        "priority": 100,
        "state": "queued",
        "generation": 1,
        "created_at": NOW,
        "since": NOW,
    }
    return WantedJob(**{**known, **fields})


def lease(**fields: Any) -> WantedLease:
    wished = fields.pop("wished", {})
    known = {
        "lease_id": test_id("lease", "a lease"),
        "organization": ORGANIZATION,
        "project": PROJECT,
        "project_name": "demo",
        "name": "metal",
        "site": "fr-idf-1",
        "wished": LeaseWish(**{"residency": Residency(), "nodes": 2, **wished}),
        "priority": 100,
        "state": "requested",
        "generation": 1,
        "created_at": NOW,
        "since": NOW,
        "starts_at": NOW,
        "waits_until": NOW,
    }
    return WantedLease(**{**known, **fields})


def member(number: int = 0, **fields: Any) -> Member:
    attempt = fields.get("attempt", 1)
    known = {
        "workload_id": test_id("workload", f"{fields.get('kind', 'job')} {attempt} {number}"),
        "owner_id": test_id("job", "a job"),
        "kind": "job",
        "number": number,
        "attempt": attempt,
        "node_id": test_id("node", f"n{number}"),
        "node": f"n{number}",
        "node_state": "ready",
        "node_since": NOW,
        "state": "assigned",
        "since": NOW,
        "created_at": NOW,
        "devices": (Held(f"gpu-{number}", 1_000),),
        "memory_mib": 256,
        "cpu_milli": 0,
    }
    return Member(**{**known, **fields})


def changed(item: Member, **fields: Any) -> Member:
    return msgspec.structs.replace(item, **fields)


class World:
    """A job and its members; ``room`` is whether the engine has seats for it now."""

    def __init__(self, held: WantedJob) -> None:
        self.job, self.members, self.room = held, list[Member](), True
        self.at, self.born = NOW, 0

    def settle(self) -> list[Turn]:
        """Look until nothing follows any more; return every turn."""
        turns = []
        while True:
            turn = jobs.judge(self.job, self.mine(), self.at)
            turns.append(turn)
            before = (self.job, list(self.members))
            self.apply(turn)
            if (self.job, self.members) == before:
                return turns
            assert len(turns) < 20, "what follows comes to an end"

    def mine(self) -> list[Member]:
        return [
            one for one in self.members if one.holds or one.living or one.attempt == self.job.attempt
        ]

    def apply(self, turn: Turn) -> None:
        self._members(turn)
        job = self.job
        due = jobs.due_after(job, self.at)
        begins = turn.state == "running" and job.state != "running"
        over = turn.state in jobs.OVER
        self.job = msgspec.structs.replace(
            job,
            state=turn.state,
            reasons=turn.reasons,
            failures=turn.failures,
            started_at=self.at if begins else job.started_at,
            due_at=due if begins else job.due_at if turn.state == "running" else None,
            ended_at=(job.ended_at or self.at) if over else None,
        )
        if turn.lost:
            self.mend(turn)
        if turn.tell in {"release", "cancel"}:
            self.place("none")
        if turn.tell == "ask":
            assert job.place == "none"
            self.seat() if self.room else self.place("waits")

    def seat(self) -> None:
        """Have the engine give it seats."""
        attempt = self.job.attempt + 1
        fields = {"state": "admitted", "place": "sits", "attempt": attempt, "reasons": ()}
        self.job = msgspec.structs.replace(self.job, **fields)
        count = self.job.wished.members
        self.members += [
            member(number, attempt=attempt, created_at=self.at, since=self.at)
            for number in range(count)
        ]

    def mend(self, turn: Turn) -> None:
        """Have the engine seat lost members anew, or say that there is no room."""
        assert self.job.place == "sits"
        mine = [one for one in self.mine() if one.attempt == self.job.attempt]
        lost = [one for one in mine if one.workload_id in {item.workload_id for item in turn.lost}]
        assert lost, "who is lost is there"
        assert not any(one.living for one in lost), "no member is there twice"
        if not self.room:
            for one in self.members:
                if one.holds and one.living:
                    self.change(one, state="stopping", holds=False)
            self.apply(jobs.stranded(self.job, lost, ()))
            self.place("waits")
            return
        for one in lost:
            self.born += 1
            more = {"workload_id": test_id("workload", f"again {self.born}"), "since": self.at}
            after = member(one.number, attempt=one.attempt, created_at=self.at, **more)
            self.change(one, replaced_by=after.workload_id)
            self.members.append(after)

    def place(self, place: str) -> None:
        self.job = msgspec.structs.replace(self.job, place=place)

    def change(self, item: Member, **fields: Any) -> None:
        place = [one.workload_id for one in self.members].index(item.workload_id)
        self.members[place] = changed(item, **fields)

    def _members(self, turn: Turn) -> None:
        for item, reason in turn.fails:
            self.change(item, state="failed", holds=False, reasons=(reason,))
        for item in turn.stops:
            self.change(item, state="stopping")


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
