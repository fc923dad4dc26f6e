"""Sealing and opening a principal, and what NATS' bytes look like: pure."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.ask import Principal
from meshkit.config import Secret
from meshkit.errors import PrincipalInvalid
from meshkit.principal import SEALED_CHARS_MAX, seal, unseal
from meshkit.testing import NOW, test_id
from meshkit.wireform import header_block, parse_headers, pub, status_of

SECRET = Secret("one mesh")
ALICE = Principal(
    principal_id=test_id("key", "alice"),
    role="project",
    project=test_id("project", "p"),
    expires_at=NOW + timedelta(minutes=1),
)


def test_a_sealed_principal_opens_as_it_was() -> None:
    assert unseal(seal(ALICE, SECRET), SECRET, NOW) == ALICE


def test_a_principal_is_no_good_from_the_moment_it_expires() -> None:
    with pytest.raises(PrincipalInvalid, match="expired"):
        unseal(seal(ALICE, SECRET), SECRET, ALICE.expires_at)


def test_another_meshs_seal_is_refused() -> None:
    with pytest.raises(PrincipalInvalid, match="not sealed by this mesh"):
        unseal(seal(ALICE, Secret("another mesh")), SECRET, NOW)


@given(st.data())
def test_no_changed_character_opens(data: st.DataObject) -> None:
    sealed = seal(ALICE, SECRET)
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(
        st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != sealed[at])
    )
    forged = sealed[:at] + other + sealed[at + 1 :]
    with pytest.raises(PrincipalInvalid):
        unseal(forged, SECRET, NOW)


@given(st.text(max_size=SEALED_CHARS_MAX + 10))
def test_whatever_text_is_opened_raises_only_that_it_is_invalid(text: str) -> None:
    with pytest.raises(PrincipalInvalid):
        unseal(text, SECRET, NOW)


names = st.from_regex(r"[A-Za-z][A-Za-z-]{0,20}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), max_size=30)


@given(st.dictionaries(names, values, min_size=1, max_size=5))
def test_headers_are_read_back_as_they_were_written(headers: dict[str, str]) -> None:
    assert parse_headers(header_block(headers)) == headers


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_a_publish_says_how_long_it_is(data: bytes, value: bytes) -> None:
    text = value.hex()
    command = pub("a.b", data, "_INBOX.x", {"Nats-Msg-Id": text})
    head, _, rest = command.partition(b"\r\n")
    verb, subject, reply, block, total = head.split(b" ")
    assert (verb, subject, reply) == (b"HPUB", b"a.b", b"_INBOX.x")
    assert parse_headers(rest[: int(block)]) == {"Nats-Msg-Id": text}
    assert rest[int(block) : int(total)] == data
    assert rest[int(total) :] == b"\r\n"


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (None, 0),
        (b"NATS/1.0\r\nA: 1\r\n\r\n", 0),
        (b"NATS/1.0 503\r\n\r\n", 503),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n", 100),
        (b"NATS/1.0 abc\r\n\r\n", 0),
    ],
)
def test_a_status_is_read_from_the_first_line(block: bytes | None, status: int) -> None:
    assert status_of(block) == status
