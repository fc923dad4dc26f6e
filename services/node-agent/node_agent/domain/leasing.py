"""What is to be done next with a server that is leased out. Called again and again, in any state."""

from collections.abc import Sequence
from typing import Literal

from mesh_contracts.placement import MemberSpec
from mesh_contracts.units import WorkloadId

At = Literal["handing_over", "held", "given_back", "erased", "attested"]
"""How far a lease of this server has come."""

Step = Literal["hand_over", "take_back", "erase", "attest"]

State = Literal["starting", "ready", "stopping"]


ON_ITS_OWN: dict[At, Step] = {
    "handing_over": "take_back",
    "held": "take_back",
    "given_back": "erase",
    "erased": "attest",
}
"""What is done, unasked, with a server whose lease nobody knows any more, as it has another name by now."""


def next_step(
    known: tuple[WorkloadId, At] | None, wanted: Sequence[MemberSpec]
) -> tuple[Step | None, MemberSpec | None]:
    """Return the next step and the lease it is for: of the last lease, ``known``, or of one that is new.

    A lease that is not listed any more is given back. What is new waits until then; that the server is
    clean by then is for who lists it to know: it heard what was recorded, or a person returned the node.
    """
    mine = None if known is None else _of(known[0], wanted)
    if known is not None:
        at = known[1]
        if mine is not None and mine.step == "hold" and at == "handing_over":
            return "hand_over", mine
        if (mine is None or mine.step != "hold") and at in {"handing_over", "held"}:
            return "take_back", mine
        if mine is not None and mine.step == "erase" and at == "given_back":
            return "erase", mine
        if mine is not None and mine.step == "attest" and at == "erased":
            return "attest", mine
        if mine is not None or at in {"handing_over", "held"}:
            return None, mine
    fresh = next((one for one in wanted if one.step == "hold"), None)
    return (None, None) if fresh is None else ("hand_over", fresh)


def shown(at: At) -> State | None:
    """Return how a lease that has come so far stands in a heartbeat; nothing once the server is given back."""
    return {"handing_over": "starting", "held": "ready"}.get(at)  # type: ignore[return-value]


def _of(workload_id: WorkloadId, wanted: Sequence[MemberSpec]) -> MemberSpec | None:
    return next((one for one in wanted if one.workload_id == workload_id), None)
