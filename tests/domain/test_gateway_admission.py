"""Who is let in, for what, and which replica is asked."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.body import (
    CHAT,
    COMPLETE,
    EMBED,
    Operation,
    Wanted,
    for_engine,
    read,
    uncountable,
    unshortened,
)
from inference_gateway.domain.directory import Directory, not_serving
from inference_gateway.domain.faults import Fault
from inference_gateway.domain.keys import bearer, opens, ours
from inference_gateway.domain.marks import kept, missed
from inference_gateway.domain.records import Batched
from inference_gateway.domain.refusals import refusal_of
from mesh_contracts.identity import AccessEntry
from mesh_contracts.keytext import BASE62, key_text
from mesh_contracts.metering import ProducerMark
from mesh_contracts.placement import Reason, Replica, Route
from meshkit.testing import NOW, test_id

KEY = key_text("project", "a" * 30)
HELLO: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


def route(name: str = "chat", project: str = "p", age_s: int = 0, **fields: Any) -> Route:
    known = {
        "endpoint_id": test_id("endpoint", f"{name}{project}{age_s}"),
        "organization": test_id("organization", "o"),
        "project": test_id("project", project),
        "engine": "llama",
        "model_id": "weights",
        "created_at": NOW - timedelta(seconds=age_s),
    }
    return Route(name=name, **{**known, **fields})


def replica(name: str) -> Replica:
    return Replica(workload_id=test_id("workload", name), address="127.0.0.1:1", api_key="k")


def wanted(body: Any, operation: Operation = CHAT) -> Wanted:
    got = read(json.dumps(body).encode(), operation)
    assert isinstance(got, Wanted), got
    return got


def refused(body: Any, operation: Operation = CHAT) -> Fault:
    got = read(body if isinstance(body, bytes) else json.dumps(body).encode(), operation)
    assert isinstance(got, Fault), got
    return got


@given(st.text(alphabet=BASE62, min_size=30, max_size=30), st.integers(5, 48))
def test_a_key_with_one_wrong_character_is_refused_before_it_is_looked_up(body: str, at: int) -> None:
    key = key_text("project", body)
    assert bearer(f"Bearer {key}") == key
    wrong = "0" if key[at] != "0" else "1"
    assert ours(key)
    assert not ours(f"{key[:at]}{wrong}{key[at + 1 :]}")


@pytest.mark.parametrize("header", [None, "", KEY, f"Basic {KEY}", "Bearer " + "x" * 500])
def test_what_holds_no_key_is_none(header: str | None) -> None:
    assert bearer(header) is None


def test_what_others_call_a_key_is_not_one_of_ours() -> None:
    assert not ours("sk-123")


def test_a_revoked_an_expired_and_an_unknown_key_open_nothing() -> None:
    entry = AccessEntry(key_id=test_id("key"), role="project")
    late = AccessEntry(key_id=test_id("key"), role="project", expires_at=NOW)
    gone = AccessEntry(key_id=test_id("key"), role="project", revoked=True)
    assert opens(entry, lambda: NOW) is entry
    for no in (opens(late, lambda: NOW), opens(gone, lambda: NOW), opens(None, lambda: NOW)):
        assert isinstance(no, Fault)
        assert (no.status, no.code) == (401, "invalid_api_key")


def test_a_body_that_is_not_json_is_400_and_a_wrong_field_is_422_and_named() -> None:
    assert refused(b"{").status == 400
    assert refused(b"\xff\xfe").status == 400
    assert refused(b"[" * 100_000).status in {400, 422}
    for body, param in (
        ({"model": "chat"}, "messages"),
        ({"messages": HELLO["messages"]}, "model"),
        ({**HELLO, "messages": "hello"}, "messages"),
        ({**HELLO, "messages": []}, "messages"),
        ({**HELLO, "max_tokens": "many"}, "max_tokens"),
        ({**HELLO, "stream": "yes"}, "stream"),
        ({**HELLO, "stream_options": {"include_usage": 3}}, "stream_options.include_usage"),
    ):
        fault = refused(body)
        assert (fault.status, fault.param) == (422, param), body
        said = json.loads(fault.body())["error"]
        assert said["type"] == "invalid_request_error"
        assert said["code"]


def test_the_engine_is_asked_for_counts_and_by_its_own_name() -> None:
    sent = json.loads(for_engine(wanted({**HELLO, "stream": True}), "llama", "weights"))
    assert sent["model"] == "weights"
    assert sent["stream_options"] == {"include_usage": True}
    assert sent["timings_per_token"] is True
    vllm = json.loads(for_engine(wanted({**HELLO, "stream": True}), "vllm", "weights"))
    assert vllm["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    external = json.loads(for_engine(wanted({**HELLO, "stream": True}), "external", "weights"))
    assert "timings_per_token" not in external


def test_fields_we_do_not_know_pass_through_and_a_neighbours_slot_does_not() -> None:
    body = {**HELLO, "chat_template_kwargs": {"think": False}, "lora": [{"id": 1}], "id_slot": 2}
    body["n_cmpl"] = 3
    sent = json.loads(for_engine(wanted(body), "llama", "weights"))
    assert sent["chat_template_kwargs"] == {"think": False}
    assert sent["messages"] == HELLO["messages"]
    assert "lora" not in sent
    assert "id_slot" not in sent
    assert "n_cmpl" not in sent, "answers that the engine makes and does not count"
    assert json.loads(for_engine(wanted(body), "external", "m"))["id_slot"] == 2


def test_a_field_said_twice_means_the_last_to_us_and_to_the_engine() -> None:
    raw = b'{"model":"chat","messages":[{"role":"user"}],"stream":false,"stream":true}'
    got = read(raw, CHAT)
    assert isinstance(got, Wanted)
    assert got.stream
    sent = for_engine(got, "llama", "weights")
    assert sent.count(b'"stream":') == 1


@pytest.mark.parametrize(
    ("operation", "more", "param"),
    [
        (CHAT, {"n": 2}, "n"),
        (CHAT, {"n": 2, "stream": True}, None),
        (COMPLETE, {"prompt": ["a", "b"], "stream": True}, "prompt"),
        (COMPLETE, {"prompt": [[1, 2], [3]]}, "prompt"),
        (COMPLETE, {"prompt": [1, 2, 3]}, None),
        (COMPLETE, {"prompt": ["a"]}, None),
    ],
)
def test_what_the_built_in_engine_would_not_count_whole_is_refused(
    operation: Operation, more: dict[str, Any], param: str | None
) -> None:
    body = {**HELLO, **more} if operation is CHAT else {"model": "chat", **more}
    fault = uncountable(wanted(body, operation), "llama")
    assert (fault.param if fault else None) == param
    assert uncountable(wanted(body, operation), "vllm") is None


def test_a_vector_is_not_given_longer_than_it_was_asked_for() -> None:
    body = {"model": "e", "input": "text"}
    fault = unshortened(wanted({**body, "dimensions": 8}, EMBED), "llama")
    assert fault is not None
    assert (fault.status, fault.param) == (422, "dimensions")
    assert unshortened(wanted({**body, "dimensions": None}, EMBED), "llama") is None
    assert unshortened(wanted({**body, "dimensions": 8}, EMBED), "external") is None


def test_embeddings_do_not_stream() -> None:
    got = wanted({"model": "e", "input": "text", "stream": True}, EMBED)
    assert not got.stream
    assert wanted({"model": "c", "prompt": ["a", "b"]}, COMPLETE).model == "c"


def test_a_name_means_the_callers_own_endpoint_only() -> None:
    directory = Directory()
    mine, theirs = route(project="mine"), route(project="theirs")
    directory.put(mine.endpoint_id, mine)
    directory.put(theirs.endpoint_id, theirs)
    assert directory.find(mine.project, "chat") == mine
    directory.put(mine.endpoint_id, None)
    assert directory.find(mine.project, "chat") is None
    assert directory.of(theirs.project) == [theirs]


def test_of_two_endpoints_with_one_name_the_living_then_the_newest_answers() -> None:
    directory = Directory()
    stopping = route(age_s=0, state="stopping")
    older, newer = route(age_s=20), route(age_s=10)
    for known in (newer, stopping, older):
        directory.put(known.endpoint_id, known)
    assert directory.find(newer.project, "chat") == newer
    directory.put(newer.endpoint_id, None)
    assert directory.find(newer.project, "chat") == older


def test_a_model_that_cannot_answer_says_why_and_what_unblocks_it() -> None:
    reason = Reason(code="no_node_fits", detail="no node fits", unblock="add a node")
    fault = not_serving(route(state="starting", reasons=[reason]))
    assert (fault.status, fault.code) == (503, "endpoint_starting")
    assert "no node fits" in fault.message
    assert json.loads(fault.body())["error"]["reasons"][0]["unblock"] == "add a node"


@pytest.mark.parametrize(
    ("status", "said", "code", "elsewhere"),
    [
        (400, "exceed_context_size_error", 400, False),
        (422, None, 422, False),
        (401, None, 503, True),
        (404, None, 503, True),
        (429, None, 429, True),
        (500, None, 503, True),
        (503, None, 503, True),
    ],
)
def test_an_engines_refusal_is_the_clients_fault_or_asked_elsewhere(
    status: int, said: str | None, code: int, *, elsewhere: bool
) -> None:
    raw = json.dumps({"error": {"code": status, "message": "too long", "type": said}}).encode()
    refusal = refusal_of(status, raw, "chat")
    assert (refusal.fault.status, refusal.elsewhere) == (code, elsewhere)
    if said:
        assert refusal.fault.code == said
        assert "too long" in refusal.fault.message


def test_a_body_that_no_replica_could_answer_is_the_clients_whatever_the_engine_calls_it() -> None:
    for message, told in (
        ("input (702 tokens) is too large to process. increase the batch", "input (702 tokens)"),
        ("image input is not supported - hint: provide the mmproj", "image input"),
    ):
        raw = json.dumps({"error": {"code": 500, "message": message, "type": "server_error"}}).encode()
        refusal = refusal_of(500, raw, "chat")
        assert (refusal.fault.status, refusal.elsewhere) == (400, False)
        assert refusal.fault.code == "refused_by_engine"
        assert refusal.fault.message.startswith(told)
        assert not {"hint", "increase"} & set(refusal.fault.message.replace(":", "").split())


def test_batches_are_kept_until_the_ledger_says_that_it_holds_them() -> None:
    batches = [Batched(n, epoch, n, ()) for epoch in (1, 2) for n in (1, 2, 3)]
    mark = ProducerMark(
        producer=test_id("producer"), epoch=2, sequence=1, missing=[(1, 3), (2, 3)], earlier=[(1, 2)]
    )
    left = kept(batches, mark)
    assert [(batch.epoch, batch.sequence) for batch in left] == [(1, 3), (2, 2), (2, 3)]
    assert [(batch.epoch, batch.sequence) for batch in missed(left, mark)] == [(1, 3), (2, 3)]


NUMBERS = st.tuples(st.integers(1, 4), st.integers(1, 6))


@given(st.sets(NUMBERS), st.dictionaries(st.integers(1, 4), st.integers(0, 7), min_size=1))
def test_exactly_what_a_mark_covers_is_forgotten(
    numbers: set[tuple[int, int]], held: dict[int, int]
) -> None:
    batches = [Batched(place, *number, ()) for place, number in enumerate(sorted(numbers))]
    newest, *earlier = sorted(held.items(), reverse=True)
    mark = ProducerMark(
        producer=test_id("producer"), epoch=newest[0], sequence=newest[1], earlier=earlier
    )
    assert kept(batches, mark) == [one for one in batches if not mark.covers(one.epoch, one.sequence)]
