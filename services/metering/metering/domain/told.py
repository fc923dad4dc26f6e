"""The facts that follow from a batch's new lines."""

from datetime import datetime

from mesh_contracts.fact import Fact, born_of
from mesh_contracts.inference import UsageMetered
from mesh_contracts.metering import RatedRow, UsageRated, UsageRecorded
from mesh_contracts.units import MoneyMicroeur

from metering.domain.rate import summed


def told(batch: UsageMetered, lines: list[RatedRow], now: datetime) -> list[Fact]:
    """Return what to tell of the lines that are new: the lines themselves, and each project's sums."""
    if not lines:
        return []
    rated = UsageRated(
        **born_of(batch, now, UsageRated, key=batch.producer),
        producer=batch.producer,
        epoch=batch.epoch,
        sequence=batch.sequence,
        rows=lines,
    )
    facts: list[Fact] = [rated]
    for one in summed(lines):
        scope = {"organization": one.organization, "project": one.project}
        envelope = born_of(batch, now, UsageRecorded, key=one.project, salt=one.model, **scope)
        facts.append(
            UsageRecorded(
                **envelope,
                model=one.model,
                interval_start=one.interval_start,
                interval_end=one.interval_end,
                requests=one.requests,
                prompt_tokens=one.prompt_tokens,
                completion_tokens=one.completion_tokens,
                cost_microeur=MoneyMicroeur(one.cost_microeur),
            )
        )
    return facts
