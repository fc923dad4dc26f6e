"""Energy and carbon shared out in whole units: nothing is lost, nothing is made."""

from collections.abc import Mapping, Sequence

import msgspec

COMPLETION_WEIGHT = 4
"""What a completion token weighs against a prompt token.

A prompt's tokens go through the model together, a completion's one pass each, which uses the
same hardware for longer. 4 is a convention (prices use the like), not a measurement: a ratio
fitted on each engine's metered energy will replace it, and a receipt then names the method.
"""

UJ_MG_PER_UG = 3_600_000_000
"""µJ x mg/kWh that make one µg: 3.6e12 µJ in a kWh, 1,000 µg in a mg."""

OPERATOR = "operator"
"""The account of what nodes take idle."""
NON_SERVING = "operator/non-serving"
"""The account of what nodes take above idle, and for no request."""


def weight(prompt_tokens: int | None, completion_tokens: int | None) -> int:
    """Return what a request weighs in its node's energy; 0 where no token is known."""
    return (prompt_tokens or 0) + COMPLETION_WEIGHT * (completion_tokens or 0)


def share_out(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Return ``total`` shared by ``weights`` in whole units that sum to it exactly.

    Hamilton's largest remainder, ties by key. Empty where nothing weighs anything.
    """
    assert total >= 0
    whole = sum(weights.values())
    if whole == 0:
        return {}
    shares = {key: total * part // whole for key, part in weights.items()}
    left = total - sum(shares.values())
    order = sorted(weights, key=lambda key: (-(total * weights[key] % whole), key))
    for key in order[:left]:
        shares[key] += 1
    assert sum(shares.values()) == total
    return shares


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """An interval's energy, wholly: by request, idle, and above idle but for no request."""

    shares: dict[str, int]
    idle_uj: int
    non_serving_uj: int

    @property
    def operator_uj(self) -> int:
        """What stays with the operator."""
        return self.idle_uj + self.non_serving_uj


def divide(
    energy_uj: int,
    idle_uj: int,
    weights: Mapping[str, int],
    *,
    starting_uj: int = 0,
    ceiling_uj: int | None = None,
) -> Division:
    """Return whose an interval's energy is; every request named has a share, be it 0.

    With E the node's meter, E_idle what it would have taken idle, E_start what engines took before
    their first answer, and C the most it could have taken to serve (``domain.serving``)::

        E_serving     = min(E - E_idle - E_start, C)    shared by weight among the requests that ended
        E_non_serving = E - E_idle - E_serving          the operator's, as E_idle is

    Where no request weighs anything E_serving is 0. This is the direct view: a receipt holds what its
    request caused, and the operator keeps the rest. The full view (the GHG Protocol's fair share,
    Google's comprehensive figure for a Gemini prompt) spreads the rest too; it is not computed yet.
    """
    idle = min(max(idle_uj, 0), energy_uj)
    serving = max(0, energy_uj - idle - max(starting_uj, 0))
    if ceiling_uj is not None:
        serving = min(serving, max(ceiling_uj, 0))
    shares = share_out(serving, weights)
    return Division(
        shares={key: shares.get(key, 0) for key in weights},
        idle_uj=idle,
        non_serving_uj=energy_uj - idle - sum(shares.values()),
    )


class Carbon(msgspec.Struct, frozen=True, kw_only=True):
    """Carbon of a row of energies by one factor, and what is carried to the next."""

    carbon_ug: tuple[int, ...]
    remainder: int


def carbon_of(energies_uj: Sequence[int], carbon_mg_per_kwh: int, remainder: int) -> Carbon:
    """Return each energy's carbon in whole µg, rounded down with what was left before it added.

    Over any row of energies of one account and factor the sum is exact but for the remainder,
    which stays below one µg; so each single figure is off by less than one µg.
    """
    assert 0 <= remainder < UJ_MG_PER_UG
    carbon = []
    for energy in energies_uj:
        whole, remainder = divmod(energy * carbon_mg_per_kwh + remainder, UJ_MG_PER_UG)
        carbon.append(whole)
    return Carbon(carbon_ug=tuple(carbon), remainder=remainder)
