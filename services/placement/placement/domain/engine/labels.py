"""Which work is firm and which is borrowed, as guarantees get room, lose it and are changed."""

from typing import TYPE_CHECKING

from placement.domain.engine.branches import Project
from placement.domain.engine.calendar import FOREVER, Calendar
from placement.domain.engine.domains import Domains
from placement.domain.engine.queue import rank_of
from placement.domain.engine.quota import Quota

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine

PROMOTED_MAX = 64
"""Borrowed workloads that are looked at when a guarantee has room again: whether they are firm from now on."""


class Labels:
    """Turns work from firm to borrowed and back; seats stay as they are."""

    def __init__(self, engine: "Engine", quota: Quota, domains: Domains, calendar: Calendar) -> None:
        self._engine, self._quota = engine, quota
        self._domains, self._calendar = domains, calendar

    def promote(self, project: Project, now: int) -> None:
        """Have what a project borrowed be firm, as far as its guarantee has room again: high classes first."""
        if not self._quota.active:
            return
        looked = 0
        others = (one for one in project.organization.projects.values() if one is not project)
        for one in (project, *others):
            if not one.lent:
                continue
            lent = [(rank_of(c.priority), name) for name, c in one.held_by.items() if c.borrowed]
            booked = self._booked(one, now, FOREVER)
            for _, name in sorted(lent, key=lambda pair: pair[0]):
                looked += 1
                if looked > PROMOTED_MAX:
                    return
                if one.held_by[name].amount.gpu <= self._quota.room(one, booked):
                    self._turn(one, name, now, borrowed=False)

    def make_way(self, project: Project, want: int, now: int, end: int) -> None:
        """Have the latest of a project's lowest class borrow until ``want`` more can be firm up to ``end``."""
        if not self._quota.active:
            return
        booked = self._booked(project, now, end)
        firm = [
            (rank_of(one.priority), number, name)
            for number, (name, one) in enumerate(project.held_by.items())
            if one.preemptible and not one.borrowed and not one.booked
        ]
        for _, _, name in sorted(firm, reverse=True):
            if want <= self._quota.room(project, booked):
                break
            self._turn(project, name, now, borrowed=True)

    def count_anew(self, now: int) -> None:
        """Decide anew what is firm and what is borrowed, after quotas or the site were changed."""
        self._domains.clear()
        if not self._quota.active:
            return
        self._pin_bookings()
        soft = []
        for workload, holding in list(self._engine.holdings.items()):
            wish = holding.wish
            if wish.reservation:
                continue
            project = self._quota.project(wish.organization, wish.project)
            if wish.preemptible:
                soft.append((rank_of(wish.priority), project, workload))
                if not holding.borrowed:
                    self._mark(project, workload, now, borrowed=True)
            elif self._domains.active:
                self._domains.enter(project, holding.parts)
        for _, project, workload in sorted(soft, key=lambda one: one[0]):
            booked = self._booked(project, now, FOREVER)
            if project.held_by[workload].amount.gpu <= self._quota.room(project, booked):
                self._turn(project, workload, now, borrowed=False)

    def count_domains(self) -> None:
        """Count anew who is in which NVLink domain, after nodes were built otherwise."""
        if not self._domains.active:
            return
        self._domains.clear()
        self._pin_bookings()
        for holding in self._engine.holdings.values():
            wish = holding.wish
            if not holding.borrowed and not wish.reservation:
                project = self._quota.project(wish.organization, wish.project)
                self._domains.enter(project, holding.parts)

    def _pin_bookings(self) -> None:
        for booking in self._calendar.bookings.values():
            if booking.wanted is not None:
                owner = self._quota.project(booking.wanted.organization, booking.wanted.project)
                self._domains.enter(owner, booking.parts)

    def _booked(self, project: Project, now: int, end: int) -> int:
        return self._calendar.booked(project.organization.name, project.name, now, end)

    def _turn(self, project: Project, workload: str, now: int, *, borrowed: bool) -> None:
        parts = self._engine.holdings[workload].parts
        if self._domains.active:
            if borrowed:
                self._domains.leave(project, parts)
            elif self._domains.breaks(project, parts):
                return
            else:
                self._domains.enter(project, parts)
        self._mark(project, workload, now, borrowed=borrowed)

    def _mark(self, project: Project, workload: str, now: int, *, borrowed: bool) -> None:
        self._quota.turn(project, workload, now, borrowed=borrowed)
        self._engine.holdings[workload] = self._engine.holdings[workload]._replace(borrowed=borrowed)
