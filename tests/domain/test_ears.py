"""What comes in is looked at: a fact is handled only where it stands where its owner tells it."""

from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts import wire
from mesh_contracts.fact import subject_of
from mesh_contracts.identity import CreateProject, KeyRevoked, ProjectAdmitted
from meshkit.consumer import Pulled
from meshkit.ears import Ears, Fate, parent_of
from meshkit.idempotency import body_hash
from meshkit.testing import envelope, test_id, wish

EARS = Ears([ProjectAdmitted])
SAMPLED = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


def project(key: str = "project-1", **fields: object) -> ProjectAdmitted:
    return ProjectAdmitted(**envelope(key, **fields), name="demo", organization_name="demo")


def pulled(subject: str, data: bytes, headers: bytes | None = None) -> Pulled:
    return Pulled(subject, data, b"$JS.ACK.IDENTITY.r.1.7.3.1795469688231983184.0", headers)


@given(st.binary(max_size=200), st.text(max_size=40))
def test_no_bytes_on_no_subject_raise_or_pass_for_a_fact(data: bytes, subject: str) -> None:
    assert EARS.look(pulled(subject, data)).fate in {Fate.BURY, Fate.PARK, Fate.DROP}


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_damaged_fact_is_never_handled_as_another(at: int, flip: int) -> None:
    fact = project()
    raw = bytearray(wire.encode(fact))
    raw[at % len(raw)] ^= flip
    heard = EARS.look(pulled(subject_of(fact), bytes(raw)))
    if heard.fate is Fate.HANDLE:
        assert heard.fact is not None
        assert subject_of(heard.fact) == subject_of(fact)


def test_a_fact_on_its_own_subject_is_handled_and_elsewhere_dropped() -> None:
    fact = project()
    assert EARS.look(pulled(subject_of(fact), wire.encode(fact))).fact == fact
    assert EARS.look(pulled(subject_of(project("project-2")), wire.encode(fact))).fate is Fate.DROP


def test_a_copy_is_dropped_by_its_headers() -> None:
    fact = project()
    for name in (b"Nats-Stream", b"Nats-Subject"):
        headers = b"NATS/1.0\r\n" + name + b": IDENTITY\r\n\r\n"
        assert EARS.look(pulled(subject_of(fact), wire.encode(fact), headers)).fate is Fate.DROP


def test_a_type_from_the_future_is_parked_under_its_own_id() -> None:
    fact = KeyRevoked(**envelope("key-1", version=7), key_id=test_id("key"))
    heard = EARS.look(pulled(subject_of(fact), wire.encode(fact)))
    assert (heard.fate, heard.fact_id, heard.key, heard.version) == (
        Fate.PARK,
        fact.fact_id,
        "key-1",
        7,
    )


def test_a_field_from_the_future_is_let_by() -> None:
    fact = project()
    grown = wire.encode(fact).replace(b'"name":', b'"colour":"green","name":', 1)
    assert EARS.look(pulled(subject_of(fact), grown)).fact == fact


def test_only_a_kept_trace_has_a_parent() -> None:
    fact = project()
    kept, let_go = SAMPLED, SAMPLED[:-1] + "0"
    for parent, found in ((kept, kept), (let_go, None)):
        headers = b"NATS/1.0\r\nNats-Msg-Id: x\r\ntraceparent: " + parent.encode() + b"\r\n\r\n"
        assert parent_of(EARS.look(pulled(subject_of(fact), wire.encode(fact), headers))) == found


def test_a_repeated_wish_has_the_same_body_whatever_its_envelope() -> None:
    first = CreateProject(**wish(idempotency_key="a"), name="one", organization="demo")
    again = CreateProject(**wish(idempotency_key="b"), name="one", organization="demo")
    other = CreateProject(**wish(idempotency_key="a"), name="two", organization="demo")
    assert body_hash(first) == body_hash(again) != body_hash(other)
