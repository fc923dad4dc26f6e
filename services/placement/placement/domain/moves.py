"""Replicas that somebody has asked to sit elsewhere: how long that is tried, and what is said of it."""

from mesh_contracts.placement import Reason

TRIED_FOR_S = 600
"""A move that has found no room by then is given up."""

ASKED_FOR = Reason(code="move_asked_for", detail="an operator has it moved to make room")
"""Why a replica that serves is to end once its successor answers."""


def standing(successor: str | None, to_node: str) -> list[Reason]:
    """Return what a move waits for."""
    if successor is not None:
        detail = f"{successor} starts on {to_node}; the replica serves until it answers"
        return [Reason(code="successor_starting", detail=detail)]
    detail = f"there is no room on {to_node} yet beside what is there"
    unblock = "it begins once there is; GET /api/v1/nodes shows what each has free"
    return [Reason(code="no_room_there", detail=detail, unblock=unblock)]


def given_up(to_node: str) -> Reason:
    """Return why a replica stays where it is after all."""
    minutes = TRIED_FOR_S // 60
    return Reason(
        code="move_given_up",
        detail=f"there was no room on {to_node} for {minutes} minutes; the replica stays where it is",
        unblock="plan the moves anew: POST /api/v1/sites/{site}/moves",
    )
