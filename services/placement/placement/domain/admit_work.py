"""Whether a job or a lease may be wished for at all: what no free capacity would ever make possible."""

from datetime import datetime, timedelta

from mesh_contracts import wire
from mesh_contracts.ask import Problem
from mesh_contracts.placement import Command, Near, RequestLease, Resources, SubmitJob
from mesh_contracts.units import is_image

from placement.domain.admit import TEXT_CHARS_MAX, bad_jurisdictions, bad_resources, invalid

JOBS_PER_PROJECT_MAX = 5_000
LEASES_PER_PROJECT_MAX = 500
TENANT_PRIORITY_MAX = 500
"""What a project may say its work is worth; above are the operators'."""
COMMAND_BYTES_MAX = 3_000
"""A node's members, as many as it may have, are one message."""
TIME_MAX_S = 366 * 24 * 3_600


def bad_job(ask: SubmitJob, *, operator: bool) -> Problem | None:
    """Return what is wrong with a job that is wished for, if anything."""
    times = ("min_run_s", "restart_loses_s", "run_max_s", "slack_s")
    return (
        _bad_command(ask.command)
        or bad_resources(ask.resources)
        or bad_jurisdictions(ask.residency.jurisdictions)
        or bad_near(ask.near, ask.members, ask.resources)
        or bad_priority(ask.priority, operator=operator)
        or next((fault for name in times if (fault := _bad_time(name, getattr(ask, name)))), None)
        or (
            invalid("min_run_s", "min_run_s must not pass run_max_s, at which it is ended")
            if 0 < ask.run_max_s < ask.min_run_s
            else None
        )
    )


def bad_lease(ask: RequestLease, now: datetime, *, operator: bool) -> Problem | None:
    """Return what is wrong with a lease that is wished for, if anything."""
    if (ask.nodes > 0) == (ask.domains > 0):
        return invalid(
            "nodes", "ask for nodes (whole servers) or domains (whole NVLink domains): one of them"
        )
    if ask.domains and ask.near.segment > 1:
        return invalid("near.segment", "whole domains are their own segments: leave near.segment out")
    if ask.gpu_model is not None and len(ask.gpu_model) > TEXT_CHARS_MAX:
        return invalid("gpu_model", f"gpu_model may have at most {TEXT_CHARS_MAX} characters")
    return (
        bad_jurisdictions(ask.residency.jurisdictions)
        or (bad_near(ask.near, ask.nodes) if ask.nodes else None)
        or bad_priority(ask.priority, operator=operator)
        or _bad_time("wait_s", ask.wait_s)
        or _bad_span(ask, now)
    )


def bad_near(near: Near, members: int, resources: Resources | None = None) -> Problem | None:
    """Return what is wrong with how near members must be, if anything."""
    if resources is not None and resources.mig and near != Near():
        detail = "MIG instances have no NVLink and are placed one by one: leave near out"
        return invalid("near", detail)
    if near.segment > members:
        return invalid("near.segment", f"a segment of {near.segment} is more than {members} members")
    return None


def bad_priority(priority: int, *, operator: bool) -> Problem | None:
    """Return what is wrong with what something is said to be worth, if anything."""
    if priority > TENANT_PRIORITY_MAX and not operator:
        detail = f"a project's work is worth at most {TENANT_PRIORITY_MAX}: above are the operators'"
        return invalid("priority", detail)
    return None


def _bad_command(command: Command) -> Problem | None:
    if not command.image.strip():
        return invalid("command.image", "name the image that each member runs")
    if not is_image(command.image):
        detail = "it is no image of a registry: write it like registry.example/team/train:1"
        return invalid("command.image", detail)
    size = len(wire.encode(command))
    if size > COMMAND_BYTES_MAX:
        detail = f"image, argv and env are {size} bytes together, at most {COMMAND_BYTES_MAX}: put more into a file"
        return invalid("command", detail)
    return None


def _bad_time(name: str, seconds: int) -> Problem | None:
    if seconds > TIME_MAX_S:
        return invalid(name, f"{name} may be at most {TIME_MAX_S} (a year)")
    return None


def _bad_span(ask: RequestLease, now: datetime) -> Problem | None:
    last = now + timedelta(seconds=TIME_MAX_S)
    for name in ("starts_at", "ends_at"):
        at = getattr(ask, name)
        if at is not None and at > last:
            return invalid(name, f"{name} may be at most a year from now")
    begins = max(now, ask.starts_at or now)
    if ask.ends_at is not None and ask.ends_at <= begins:
        return invalid("ends_at", "ends_at must be after now, and after starts_at")
    return None
