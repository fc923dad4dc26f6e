"""Keys as text, who may see which project, and how a key comes and ends."""

import zlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity.domain import keys, tenancy
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.identity import CreateOrganization, CreateProject, IssueKey, Project, RevokeKey
from mesh_contracts.keytext import BASE62, digest_of, hint_of, key_text, role_in
from meshkit.testing import NOW, test_id, wish

bodies = st.text(alphabet=BASE62, min_size=30, max_size=30)
roles = st.sampled_from(["admin", "project", "join"])
DIGEST = digest_of("some key")


def principal(role: str = "admin", **scope: str) -> Principal:
    return Principal(principal_id="key_x", role=role, expires_at=NOW + timedelta(minutes=1), **scope)


def project(name: str, organization: str) -> Project:
    return Project(
        id=test_id("project", f"{organization}/{name}"),
        name=name,
        organization=organization,
        organization_id=test_id("org", organization),
        created_at=NOW,
        generation=1,
    )


@given(roles, bodies)
def test_a_key_names_its_role_and_keeps_its_form(role: str, body: str) -> None:
    text = key_text(role, body)
    assert text.startswith(f"mesh_{role}_{body}")
    assert len(text) == len(f"mesh_{role}_") + 36
    assert role_in(text) == role


@given(roles, bodies, st.data())
def test_a_key_with_one_wrong_character_opens_nothing(
    role: str, body: str, data: st.DataObject
) -> None:
    text = key_text(role, body)
    at = data.draw(st.integers(len(f"mesh_{role}_"), len(text) - 1))
    wrong = data.draw(st.sampled_from([one for one in BASE62 if one != text[at]]))
    assert role_in(text[:at] + wrong + text[at + 1 :]) is None


def test_the_checksum_is_the_crc32_of_what_precedes_in_base62() -> None:
    text = key_text("admin", "0" * 30)
    number = 0
    for character in text[-6:]:
        number = number * 62 + BASE62.index(character)
    assert number == zlib.crc32(b"mesh_admin_" + b"0" * 30)


@pytest.mark.parametrize(
    "text", ["", "mesh_admin_", "mesh_root_" + "0" * 36, "sk-abc", "mesh_admin_é" * 9]
)
def test_what_is_no_key_has_no_role(text: str) -> None:
    assert role_in(text) is None


@given(bodies)
def test_a_hint_shows_the_prefix_and_the_last_four_characters_only(body: str) -> None:
    text = key_text("project", body)
    assert hint_of(text) == f"mesh_project_…{text[-4:]}"


def test_a_name_means_the_project_of_the_principals_own_organization() -> None:
    mine, other = project("web", "acme"), project("web", "globex")
    asked_by = principal(organization=mine.organization_id)
    assert tenancy.choose("web", [other, mine], asked_by) == mine


def test_a_name_that_several_organizations_bear_is_ambiguous_to_an_admin_without_one() -> None:
    chosen = tenancy.choose("web", [project("web", "acme"), project("web", "globex")], principal())
    assert isinstance(chosen, Problem)
    assert (chosen.status, chosen.code) == (409, "ambiguous_project")
    assert [one["project"] for one in chosen.reasons] == ["acme/web", "globex/web"]


def test_a_projects_key_cannot_tell_anothers_project_from_none() -> None:
    mine, other = project("web", "acme"), project("web", "globex")
    tenant = principal("project", project=mine.id, organization=mine.organization_id)
    hidden = tenancy.choose(other.id, [other], tenant)
    absent = tenancy.choose(other.id, [], tenant)
    assert isinstance(hidden, Problem)
    assert hidden == absent
    assert tenancy.choose("web", [mine, other], tenant) == mine


def test_an_admitted_project_is_told_under_its_own_id_with_its_tenant() -> None:
    organization = tenancy.found(CreateOrganization(**wish(), name="acme"), NOW)
    ask = CreateProject(**wish(), organization="acme", name="web")
    admission = tenancy.admit(ask, organization, NOW, actor="key_x")
    assert admission.fact.key == admission.fact.project == admission.project.id
    assert admission.fact.organization == organization.id
    assert admission.fact.actor == "key_x"
    assert tenancy.admit(ask, organization, NOW, actor="key_x") == admission


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"role": "root"}, "role"),
        ({"role": "project"}, "project"),
        ({"role": "admin", "project": "web"}, "project"),
        ({"role": "admin", "expires_at": NOW}, "expires_at"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_the_field_at_fault(
    fields: dict[str, object], param: str
) -> None:
    refused = keys.refuse(IssueKey(**wish(), name="k", **fields), NOW)
    assert refused is not None
    assert (refused.status, refused.param) == (422, param)


def test_a_key_opens_its_project_until_it_is_revoked_and_ends_once() -> None:
    web = project("web", "acme")
    issued = keys.issue(
        IssueKey(**wish(), name="ci", project="web"), web, NOW, digest=DIGEST, hint="mesh_project_…abcd"
    )
    opens = keys.entry(issued.key, issued.organization_id)
    assert (opens.project, opens.project_name, opens.revoked) == (web.id, "web", False)
    ask = RevokeKey(**wish(), key_id=issued.key.id)
    ended = keys.revoke(ask, issued.key, web.organization_id, NOW)
    assert keys.entry(ended.key, issued.organization_id).revoked
    assert ended.fact is not None
    assert ended.fact.project == web.id
    again = keys.revoke(ask, ended.key, web.organization_id, NOW + timedelta(hours=1))
    assert again.fact is None
    assert again.key == ended.key


def test_nothing_that_is_told_or_shown_of_a_key_holds_its_text() -> None:
    text = key_text("project", "a" * 30)
    issued = keys.issue(
        IssueKey(**wish(), name="ci", project="web"),
        project("web", "acme"),
        NOW,
        digest=digest_of(text),
        hint=hint_of(text),
    )
    assert "a" * 30 not in repr(issued)
    assert digest_of(text) not in repr(issued.fact)
