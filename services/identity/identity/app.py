"""Identity, assembled: its doors, the bootstrap and the bus' callout."""

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
from mesh_contracts.units import Site
from meshkit.clock import Clock, SystemClock
from meshkit.errors import ConfigError
from meshkit.service import Service
from nkeys import KeyPair

from identity import asks, bootstrap, store
from identity.bootstrap import Bootstrap
from identity.callout import Callout, read_signer
from identity.settings import IdentitySettings
from identity.tidying import keep_tidy

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
    service.runs("tidying", lambda: keep_tidy(lambda: service.store, clock))
    _begin(service, settings, clock)
    return service


def _begin(service: Service, settings: IdentitySettings, clock: Clock) -> None:
    seed = settings.identity_callout_seed_file
    if settings.identity_bootstrap_file is not None:
        wanted = bootstrap.read(settings.identity_bootstrap_file)
        seed = seed or wanted.callout_seed_file
        _apply(service, wanted, settings.mesh_site, clock)
    if seed is not None:
        _answer_the_bus(service, settings, clock, read_signer(seed))


def _apply(service: Service, wanted: Bootstrap, site: Site, clock: Clock) -> None:
    missing: list[str] = ["it is not applied yet"]

    async def apply() -> None:
        try:
            await bootstrap.apply(wanted, service.store, clock, site)
        except ConfigError as fault:
            missing[:] = [str(fault)]
            raise
        missing.clear()

    service.runs("bootstrap", apply)
    service.needs("bootstrap", lambda: missing[0] if missing else None)


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
