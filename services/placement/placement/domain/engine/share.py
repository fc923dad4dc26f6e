"""What a quota must be so that all of it can be kept."""

from collections.abc import Mapping

from placement.domain.engine.branches import Organization
from placement.domain.engine.notice import QuotaSet
from placement.domain.engine.quota import Quota
from placement.domain.engine.size import MILLI_PER_GPU


def check(
    quota: Quota, given: QuotaSet, built_milli: int, built: Mapping[str, tuple[int, int]]
) -> None:
    """Raise ``ValueError`` for a quota that cannot be kept beside the others, saying what stands against it.

    A project's guarantees come out of its organisation's, the organisations' out of what is built.
    ``built``: how many NVLink domains of each kind there are, and the milli of GPU in the largest.
    """
    name = given.project or given.organization
    if min(given.gpu_milli, given.weight, *given.domains.values()) < 0:
        raise ValueError(f"{name}: a quota is not negative")
    if given.limit_milli is not None and given.limit_milli < given.gpu_milli:
        raise ValueError(
            f"{name}: the limit of {gpus(given.limit_milli)} is less than the {gpus(given.gpu_milli)} guaranteed"
        )
    inside = 0
    for kind, count in given.domains.items():
        inside += count * built.get(kind, (0, 0))[1]
    if inside > given.gpu_milli:
        raise ValueError(
            f"{name}: {given.domains} NVLink domains hold {gpus(inside)}: guarantee as many"
        )
    above = quota.organizations.get(given.organization)
    if given.project:
        _project(above, given)
    else:
        _organization(quota, above, given, built_milli, built)


def _project(above: Organization | None, given: QuotaSet) -> None:
    others = [one for one in above.projects.values() if one.name != given.project] if above else []
    has = above.guarantee if above else 0
    promised = sum(one.guarantee for one in others)
    if promised + given.gpu_milli > has:
        raise ValueError(
            f"{given.organization} is guaranteed {gpus(has)}, its other projects {gpus(promised)}:"
            f" {gpus(given.gpu_milli)} more are too many"
        )
    for kind, count in given.domains.items():
        has = above.domains.get(kind, 0) if above else 0
        promised = sum(one.domains.get(kind, 0) for one in others)
        if promised + count > has:
            raise ValueError(
                f"{given.organization} is guaranteed {has} NVLink domains of {kind},"
                f" its other projects {promised}: {count} more is too much"
            )


def _organization(
    quota: Quota,
    above: Organization | None,
    given: QuotaSet,
    built_milli: int,
    built: Mapping[str, tuple[int, int]],
) -> None:
    projects = list(above.projects.values()) if above else []
    inside = sum(one.guarantee for one in projects)
    if given.gpu_milli < inside:
        raise ValueError(f"{given.organization}: its projects are guaranteed {gpus(inside)} already")
    others = [one for one in quota.organizations.values() if one is not above]
    promised = sum(one.guarantee for one in others)
    if promised + given.gpu_milli > built_milli:
        raise ValueError(
            f"the site has {gpus(built_milli)}, {gpus(promised)} are guaranteed to others:"
            f" {gpus(given.gpu_milli)} more are too many"
        )
    kinds = {kind: None for one in projects for kind in one.domains} | dict.fromkeys(given.domains)
    for kind in kinds:
        inside = sum(one.domains.get(kind, 0) for one in projects)
        count = given.domains.get(kind, 0)
        if count < inside:
            raise ValueError(
                f"{given.organization}: its projects are guaranteed {inside} NVLink domains of {kind}"
            )
        has = built.get(kind, (0, 0))[0]
        promised = sum(one.domains.get(kind, 0) for one in others)
        if count and promised + count > has:
            raise ValueError(
                f"the site has {has} NVLink domains of {kind}, {promised} are guaranteed to others:"
                f" {count} more is too much"
            )


def gpus(milli: int) -> str:
    """Return thousandths of GPUs in words."""
    return f"{milli / MILLI_PER_GPU:g} GPUs"
