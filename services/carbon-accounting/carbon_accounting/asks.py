"""The door for questions, one function each."""

from typing import cast

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.carbon import (
    Factors,
    Footprint,
    Footprints,
    GetReceipt,
    GetSigningKey,
    ListFactors,
    ListFootprints,
    Receipt,
    SigningKey,
)
from mesh_contracts.node import Quality
from mesh_contracts.units import CarbonUg, EnergyUj
from meshkit.clock import Clock
from meshkit.store import Row, Transaction

from carbon_accounting import reading
from carbon_accounting.domain.receipt import Settled, body_of
from carbon_accounting.domain.split import NON_SERVING
from carbon_accounting.grid.factors import FACTORS, factor_named
from carbon_accounting.signing import Signer

PAGE_MAX = 500
PENDING_RETRY_S = 2


class Asks:
    """Answers about factors, footprints and receipts; ``signer`` signs the latter."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    async def get_receipt(
        self,
        ask: GetReceipt,
        principal: Principal,
        tx: Transaction,
        clock: Clock,  # noqa: ARG002
    ) -> Receipt | Problem:
        """Return a request's signed receipt, once the interval in which it ended is settled.

        The same receipt each time: its body is kept, and Ed25519 draws nothing.
        """
        kept = await reading.load_request(tx, ask.request_id)
        if kept is None or not principal.sees(kept.project):
            return Problem(
                title="No such request",
                status=404,
                code="receipt_not_found",
                detail=f"there is no ledger line of {ask.request_id} that you can see: was it just made, or by another project?",
            )
        if kept.node_id is None:
            return Problem(
                title="The energy is not known",
                status=404,
                code="energy_unknown",
                detail="no metered node of the mesh served this request: ask whoever runs the external engine",
            )
        if kept.settled_at is None:
            return await _pending(tx, kept)
        assert kept.factor_id is not None, "the table's CHECK holds"
        settled = Settled(
            row=kept.row,
            site=kept.site,
            jurisdiction=kept.jurisdiction or "",
            energy_uj=kept.energy_uj or 0,
            carbon_ug=kept.carbon_ug or 0,
            factor=factor_named(kept.factor_id),
            quality=cast("Quality", kept.quality),
            energy_source=kept.energy_source or "",
            settled_at=kept.settled_at,
        )
        return self._signer.sign(body_of(settled))

    async def get_signing_key(
        self, ask: GetSigningKey, principal: Principal, tx: Transaction, clock: Clock
    ) -> SigningKey:
        """Return the public key that receipts are verified with."""
        del ask, principal, tx, clock
        return self._signer.public


async def list_factors(
    ask: ListFactors, principal: Principal, tx: Transaction, clock: Clock
) -> Factors:
    """Return the factor table, which is short enough for one page."""
    del ask, principal, tx, clock
    return Factors(items=list(FACTORS))


async def list_footprints(
    ask: ListFootprints,
    principal: Principal,
    tx: Transaction,
    clock: Clock,  # noqa: ARG001
) -> Footprints:
    """Return sums by project; the operator's only to those who see everything."""
    sees_all = principal.sees(None)
    limit = max(1, min(ask.page.limit, PAGE_MAX))
    rows: list[Row] = []
    if sees_all or principal.project is not None:
        project = None if sees_all else principal.project
        rows = await reading.list_accounts(tx, project, ask.page.cursor or "", limit + 1)
    shown = rows[:limit]
    operator = await reading.operator_accounts(tx) if sees_all else {}
    return Footprints(
        items=[
            Footprint(
                project=row["name"],
                project_id=row["account"],
                requests=row["requests"],
                energy_uj=EnergyUj(row["energy_uj"]),
                carbon_ug=CarbonUg(row["carbon_ug"]),
                quality="estimated" if row["estimated"] else "measured",
            )
            for row in shown
        ],
        operator_energy_uj=EnergyUj(sum(energy for energy, _ in operator.values())),
        operator_carbon_ug=CarbonUg(sum(carbon for _, carbon in operator.values())),
        operator_non_serving_uj=EnergyUj(operator.get(NON_SERVING, (0, 0))[0]),
        next=shown[-1]["account"] if len(rows) > limit else None,
    )


async def _pending(tx: Transaction, kept: reading.Kept) -> Problem:
    held = await reading.held_of(tx, kept.node_id)
    at = await reading.last_read(tx, kept.node_id)
    # A node that is gone is not read again: whoever waits must be able to see that.
    last = "it was never read" if at is None else f"it was last read at {at:%Y-%m-%dT%H:%M:%SZ}"
    detail = held or (
        f"it is settled with a reading of its node's meter after its end; {last}: ask again soon"
    )
    return Problem(
        title="The receipt is not settled yet",
        status=409,
        code="receipt_pending",
        detail=detail,
        retry_after_s=PENDING_RETRY_S,
    )
