"""How gateways share a ceiling that is no money: requests and tokens a minute, parallel requests.

Integers, and their sum over the gateways that live is at most the ceiling, whoever asks when. Each is
given its target once the others have let go of theirs: two rounds after a change all stand right.
"""

from collections.abc import Mapping

LEASE_MS = 30_000
"""How long a share is good for after it was asked for; then it is free again."""

IDLE_PART = 16
"""All gateways together keep this part of the whole demand as a floor: an idle one gets something."""


def apportioned(ceiling: int, demands: Mapping[str, int]) -> dict[str, int]:
    """Return each gateway's target: the whole ceiling, by what each was asked for (largest remainder).

    No one counts with more than the ceiling, so that a flood at one does not starve another.
    Where nobody was asked for anything all get the same; equals are served in the order of their names.
    """
    wanted = {name: min(demand, ceiling) for name, demand in demands.items()}
    total, count = sum(wanted.values()), len(wanted)
    weights = {
        name: IDLE_PART * count * demand + total if total else 1 for name, demand in wanted.items()
    }
    whole = sum(weights.values())
    shares = {name: ceiling * weight // whole for name, weight in weights.items()}
    by_remainder = sorted(
        weights, key=lambda name: (-(ceiling * weights[name] % whole), -wanted[name], name)
    )
    for name in by_remainder[: ceiling - sum(shares.values())]:
        shares[name] += 1
    assert sum(shares.values()) == (ceiling if shares else 0), "all of a ceiling is shared"
    return shares


def share(
    ceiling: int,
    me: str,
    demands: Mapping[str, int],
    held: Mapping[str, int],
    *,
    in_use: int = 0,
) -> int:
    """Return what ``me`` may use from now on: its target, or what the others leave of it.

    ``demands`` are those of all gateways that live, ``me`` included; ``held`` are the others' shares.
    What is ``in_use`` of a share cannot be let go of: it stays, though the target be less.
    """
    free = max(0, ceiling - sum(held.values()))
    mine = min(max(apportioned(ceiling, demands)[me], in_use), free)
    assert mine == 0 or mine + sum(held.values()) <= ceiling, "shares stay within the ceiling"
    return mine
