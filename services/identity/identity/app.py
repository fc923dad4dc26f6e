"""Identity, assembled: its doors, the bootstrap and the bus' callout."""

import asyncio
from pathlib import Path

from mesh_contracts.identity import (
    CreateJoinToken,
    CreateOrganization,
    CreateProject,
    EnrolNode,
    IssueKey,
    ListJoinTokens,
    ListKeys,
    ListOrganizations,
    ListProjects,
    RevokeKey,
)
from meshkit.clock import Clock, SystemClock
from meshkit.service import Service
from nkeys import KeyPair

from identity import asks, bootstrap, store
from identity.callout import Callout, read_signer
from identity.settings import IdentitySettings

MIGRATIONS = Path(__file__).parent / "migrations"


def assemble(settings: IdentitySettings, clock: Clock | None = None) -> Service:
    """Return identity, wired. Raises ``ConfigError`` for a bootstrap or seed file that is none."""
    clock = clock or SystemClock()
    service = Service("identity", settings, clock=clock, migrations=MIGRATIONS)
    service.answers(CreateOrganization, asks.create_organization)
    service.answers(ListOrganizations, asks.list_organizations)
    service.answers(CreateProject, asks.create_project)
    service.answers(ListProjects, asks.list_projects)
    service.answers(IssueKey, asks.issue_key, after_puts=True)
    service.answers(ListKeys, asks.list_keys)
    service.answers(RevokeKey, asks.revoke_key, after_puts=True)
    service.answers(CreateJoinToken, asks.create_join_token)
    service.answers(ListJoinTokens, asks.list_join_tokens)
    service.answers(EnrolNode, asks.enrol_node)
    service.writes("access", store.access)
    _begin(service, settings, clock)
    return service


def _begin(service: Service, settings: IdentitySettings, clock: Clock) -> None:
    wanted = None
    if settings.identity_bootstrap_file is not None:
        wanted = bootstrap.read(settings.identity_bootstrap_file)
        given = wanted

        applied = asyncio.Event()

        async def begin() -> None:
            if not applied.is_set():
                await bootstrap.apply(given, service.store, clock, settings.mesh_site)
                applied.set()

        service.runs("bootstrap", begin)
        service.needs("bootstrap", lambda: None if applied.is_set() else "the bootstrap is not applied")
    seed = settings.identity_callout_seed_file or (wanted.callout_seed_file if wanted else None)
    if seed is not None:
        _answer_the_bus(service, settings, clock, read_signer(seed))


def _answer_the_bus(
    service: Service, settings: IdentitySettings, clock: Clock, signer: KeyPair
) -> None:
    listening: list[Callout] = []

    async def answer() -> None:
        callout = Callout(
            service.bus,
            service.store,
            signer=signer,
            site=settings.mesh_site,
            life_s=settings.identity_node_life_s,
            clock=clock,
        )
        listening[:] = [callout]
        await callout.run()

    def ready() -> str | None:
        return None if any(one.listening for one in listening) else "the bus' callout is not answered"

    service.runs("callout", answer)
    service.needs("callout", ready)
