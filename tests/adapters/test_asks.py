"""Asks and answers: in time, of those who may, typed both ways, and never an exception for the peer's sake."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh_contracts import wire
from mesh_contracts.ask import (
    Ask,
    DeadLetters,
    Empty,
    ListDeadLetters,
    Principal,
    Problem,
    subject_of_ask,
)
from mesh_contracts.fact import tag_of
from mesh_contracts.identity import (
    CreateProject,
    EnrolNode,
    ListOrganizations,
    Organization,
    Organizations,
)
from mesh_contracts.units import DEFAULT_SITE
from meshkit import answering, telemetry
from meshkit.answering import serve
from meshkit.bus import Bus
from meshkit.config import Secret, Settings
from meshkit.errors import Unavailable
from meshkit.principal import seal
from meshkit.testing import NOW, FrozenClock, test_id

from tests.servers_nats import MESH_SECRET, Connect, NatsServer, settings_for

ACME = Organization(id=test_id("organization", "acme"), name="acme", created_at=NOW, generation=1)


def principal(role: str = "admin", lives_s: float = 60) -> Principal:
    expires_at = datetime.now(UTC) + timedelta(seconds=lives_s)
    return Principal(principal_id=test_id("key", role), role=role, expires_at=expires_at)


class Owner:
    """A handler that remembers who asked what."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer if answer is not None else Organizations(items=[ACME])
        self.asked: list[tuple[Any, Principal]] = []

    async def __call__(self, ask: Any, by: Principal) -> Any:
        self.asked.append((ask, by))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


async def serving(bus: Bus, **answers: Any) -> answering.Served:
    kinds: dict[str, Any] = {
        "listed": ListOrganizations,
        "created": CreateProject,
        "enrolled": EnrolNode,
    }
    doors: dict[type[Ask], Any] = {kinds[name]: handler for name, handler in answers.items()}
    return await serve(bus, "identity", DEFAULT_SITE, doors)


def problem(answer: Any) -> tuple[int, str]:
    assert isinstance(answer, Problem), answer
    assert answer.detail
    return answer.status, answer.code


async def test_an_ask_gets_its_typed_answer_and_the_handler_knows_who_asked(
    bus: Bus, connect: Connect
) -> None:
    owner = Owner()
    served = await serving(bus, listed=owner)
    asker = await connect("gateway")
    by = principal()
    answer = await asker.ask(ListOrganizations(**asker.wish(by)))
    assert answer == Organizations(items=[ACME])
    assert owner.asked[0][1] == by
    await served.stop()


async def test_a_problem_comes_back_typed_with_the_frameworks_headers(bus: Bus) -> None:
    told = Problem(
        title="No\nsuch thing", status=404, code="not_found", detail="name another", param="name"
    )
    served = await serving(bus, listed=Owner(told))
    ask = ListOrganizations(**bus.wish(principal()))
    assert await bus.ask(ask) == told
    raw = await bus.request(
        subject_of_ask(ListOrganizations, DEFAULT_SITE), wire.encode(ask), within_s=1
    )
    assert raw.headers["Nats-Service-Error-Code"] == "404"
    assert raw.headers["Nats-Service-Error"] == "No such thing"
    await served.stop()


@pytest.mark.parametrize(
    ("sealed", "expected"),
    [
        (lambda: "", (401, "principal_invalid")),
        (lambda: "p1.e30.AAAA", (401, "principal_invalid")),
        (lambda: seal(principal(), Secret("another mesh")), (401, "principal_invalid")),
        (lambda: seal(principal(lives_s=-1), MESH_SECRET), (401, "principal_invalid")),
        (lambda: seal(principal(role="project"), MESH_SECRET), (403, "forbidden")),
        (lambda: seal(principal(role="unheard of"), MESH_SECRET), (403, "forbidden")),
    ],
)
async def test_who_may_not_is_refused_before_the_handler(
    bus: Bus, sealed: Callable[[], str], expected: tuple[int, str]
) -> None:
    owner = Owner()
    served = await serving(bus, listed=owner)
    answer = await bus.ask(ListOrganizations(**bus.wish(sealed())))
    assert problem(answer) == expected
    if expected[0] == 403:
        assert ListOrganizations.permission in answer.detail
    assert owner.asked == []
    await served.stop()


async def test_an_ask_for_everybody_needs_no_principal(bus: Bus) -> None:
    owner = Owner(Problem(title="t", status=401, code="join_token_invalid", detail="get a new one"))
    served = await serving(bus, enrolled=owner)
    ask = EnrolNode(**bus.wish(""), name="n1", join_token="t", public_key="U" + "A" * 55)
    assert problem(await bus.ask(ask)) == (401, "join_token_invalid")
    assert owner.asked[0][1].role == answering.NOBODY
    await served.stop()


async def test_an_ask_that_names_another_site_than_it_is_sent_to_is_refused(bus: Bus) -> None:
    owner = Owner()
    served = await serving(bus, enrolled=owner)
    elsewhere = bus.wish("", site="another-hall")
    ask = EnrolNode(**elsewhere, name="n1", join_token="t", public_key="U" + "A" * 55)
    raw = await bus.request(subject_of_ask(EnrolNode, DEFAULT_SITE), wire.encode(ask), within_s=1)
    refused = wire.decode(raw.data, Problem)
    assert problem(refused) == (400, "bad_ask")
    assert "another-hall" in refused.detail
    assert owner.asked == []
    await served.stop()


async def test_a_malformed_ask_is_refused_and_says_what_is_wrong(bus: Bus) -> None:
    served = await serving(bus, listed=Owner())
    subject = subject_of_ask(ListOrganizations, DEFAULT_SITE)
    whole = ListOrganizations(**bus.wish(principal()))
    zoneless = msgspec.structs.replace(whole, deadline=whole.deadline.replace(tzinfo=None))
    bodies = [b"", b"{}", b'{"tag":"identity.key.issue"}', b"\xff", b'{"z":' + b"[" * 100_000]
    for body in (*bodies, wire.encode(zoneless)):
        raw = await bus.request(subject, body, within_s=1)
        assert raw.headers["Nats-Service-Error-Code"] == "400"
        assert wire.decode(raw.data, Problem).code == "bad_ask"
    await served.stop()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (RuntimeError("a customer's secret"), (500, "internal")),
        (Unavailable("database"), (503, "unavailable")),
        (object(), (500, "internal")),
    ],
)
async def test_a_handler_that_fails_is_answered_without_its_content(
    bus: Bus, fault: Any, expected: tuple[int, str]
) -> None:
    served = await serving(bus, listed=Owner(fault))
    answer = await bus.ask(ListOrganizations(**bus.wish(principal())))
    assert problem(answer) == expected
    assert "secret" not in str(answer)
    await served.stop()


async def test_an_answer_too_large_for_the_bus_is_a_problem_that_says_so(bus: Bus) -> None:
    served = await serving(bus, listed=Owner(Organizations(items=[ACME] * 10_000)))
    answer = await bus.ask(ListOrganizations(**bus.wish(principal())))
    assert problem(answer) == (413, "answer_too_large")
    assert bus.connected
    await served.stop()


async def test_an_ask_of_any_owner_goes_to_the_one_that_is_named(bus: Bus) -> None:
    served = await serve(bus, "metering", DEFAULT_SITE, {ListDeadLetters: Owner(DeadLetters(items=[]))})
    ask = ListDeadLetters(**bus.wish(principal()))
    assert await bus.ask(ask, owner="metering") == DeadLetters(items=[])
    assert problem(await bus.ask(ask, owner="carbon")) == (503, "unavailable")
    await served.stop()


async def test_an_answer_in_an_unknown_form_is_502(bus: Bus) -> None:
    served = await serving(bus, listed=Owner(Empty()))
    answer = await bus.ask(ListOrganizations(**bus.wish(principal())))
    assert problem(answer) == (502, "bad_answer")
    await served.stop()


async def test_a_service_is_found_and_tells_how_its_asks_fare(bus: Bus, connect: Connect) -> None:
    identity = await connect("identity")
    served = await serving(identity, listed=Owner())
    await bus.ask(ListOrganizations(**bus.wish("forged")))
    await bus.ask(ListOrganizations(**bus.wish(principal())))
    for subject in ("$SRV.PING", "$SRV.PING.identity"):
        pong = json.loads((await bus.request(subject, b"", within_s=1)).data)
        assert (pong["type"], pong["name"]) == ("io.nats.micro.v1.ping_response", "identity")
    info = json.loads((await bus.request(f"$SRV.INFO.identity.{pong['id']}", b"", within_s=1)).data)
    assert info["endpoints"][0]["subject"] == subject_of_ask(ListOrganizations, DEFAULT_SITE)
    stats = json.loads((await bus.request("$SRV.STATS.identity", b"", within_s=1)).data)["endpoints"][0]
    assert (stats["num_requests"], stats["num_errors"]) == (2, 1)
    assert stats["last_error"] == "principal_invalid"
    await served.stop()


async def test_the_answers_span_is_the_child_of_the_asks(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    base = settings_for(nats_server.url, tmp_path)
    settings = Settings(
        nats_url=base.nats_url,
        nats_credentials=base.nats_credentials,
        mesh_secret_file=base.mesh_secret_file,
        mesh_trace_dir=tmp_path / "traces",
    )
    telemetry.start("identity", settings)
    try:
        clock = FrozenClock(datetime.now(UTC))
        bus = await Bus.connect(settings, user="identity", clock=clock, secret=MESH_SECRET)
        served = await serving(bus, listed=Owner())
        with telemetry.span("request"):
            await bus.ask(ListOrganizations(**bus.wish(principal())))
        await served.stop()
        await bus.close()
    finally:
        telemetry.stop()
    lines = [
        json.loads(line)
        for path in (tmp_path / "traces").iterdir()
        for line in path.read_text().splitlines()
    ]
    spans = {each["name"]: each for each in lines}
    tag = tag_of(ListOrganizations)
    assert spans[f"answer {tag}"]["parent_id"] == spans[f"ask {tag}"]["span_id"]
    assert spans[f"ask {tag}"]["parent_id"] == spans["request"]["span_id"]
    assert len({each["trace_id"] for each in lines}) == 1
