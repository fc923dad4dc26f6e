"""What others see: routes only to who may be reached, intents only of what lives."""

from datetime import timedelta
from typing import Any, get_args

import pytest
from mesh_contracts.ask import Problem
from mesh_contracts.placement import (
    Alias,
    CreateEndpoint,
    EndpointState,
    Engine,
    Model,
    NodeState,
    Replicas,
    Residency,
    Resources,
    Routing,
    WorkloadState,
)
from meshkit.testing import NOW, wish
from placement.domain import limits
from placement.domain.admit import admit
from placement.domain.show import intent_of, route_of, show_endpoint, show_node

from tests.domain.test_placement_decide import server
from tests.domain.test_placement_plan import placed, wanted

EXTERNAL = Engine(kind="external", url="http://127.0.0.1:9/v1")


def create(**fields: object) -> CreateEndpoint:
    return CreateEndpoint(
        **wish(), **{"name": "m", "project": "demo", "model": Model(id="tiny"), **fields}
    )


LARGE = Model(id="/models/large", source="path")


def vllm(model: Model = LARGE, **engine: Any) -> dict[str, Any]:
    return {"model": model, "engine": Engine(kind="vllm", **engine), "resources": Resources(gpus=2)}


def test_vllm_is_admitted_as_it_was_asked_for() -> None:
    repository = Model(id="org/model", source="huggingface")
    for fields in (vllm(), vllm(repository), vllm(loras={"law": "/models/law"}), vllm(embedding=True)):
        assert admit(create(**fields)) == fields["engine"]


def test_only_replicas_that_answer_get_requests() -> None:
    items = [placed("w1"), placed("w2", state="starting"), placed("w3", state="stopping")]
    route = route_of(wanted(state="serving"), items)
    assert [replica.workload_id for replica in route.replicas] == ["w1"]
    assert route.replicas[0].trust == "loopback"


def test_an_engine_in_the_clear_on_another_machine_gets_no_requests() -> None:
    route = route_of(wanted(state="serving"), [placed("w1", address="10.0.0.7:80")])
    assert route.replicas == []
    assert [reason.code for reason in route.reasons] == ["insecure_address"]
    secure = route_of(wanted(state="serving"), [placed("w1", address="10.0.0.7:443", scheme="https")])
    assert secure.replicas[0].trust == "tls"


def test_an_external_route_leads_to_the_url_without_its_version() -> None:
    engine = Engine(kind="external", url="https://models.example:8443/base/v1/")
    route = route_of(wanted(engine=engine, state="serving"), [])
    assert [(item.scheme, item.address, item.trust) for item in route.replicas] == [
        ("https", "models.example:8443/base", "external")
    ]


@pytest.mark.parametrize(
    ("fields", "states", "held"),
    [
        ({"state": "asleep", "wanted": 0}, [], True),
        ({"state": "asleep", "wanted": 0, "failures": 9}, ["stopping"], True),
        ({"state": "starting"}, ["assigned"], True),
        ({"state": "degraded"}, ["failed", "starting"], True),
        ({"state": "pending", "missing": 1}, [], False),
        ({"state": "degraded", "missing": 1, "retry_at": NOW, "failures": 1}, ["failed"], True),
        ({"state": "degraded", "missing": 1, "retry_at": NOW, "failures": 3}, ["failed"], False),
        ({"state": "degraded", "failures": 3}, ["starting"], False),
        ({"state": "serving", "ready": 1}, ["ready"], False),
        ({"state": "stopping", "deleted": True}, ["stopping"], False),
        ({"state": "serving", "engine": EXTERNAL}, [], False),
    ],
)
def test_a_request_is_worth_holding_only_where_a_replica_comes(
    fields: dict[str, object], states: list[str], held: bool
) -> None:
    route = route_of(wanted(**fields), [placed(state, state=state) for state in states])
    assert route.wakes is held


def test_how_requests_are_led_stands_in_the_route_and_is_shown_with_how_many_demand_wants() -> None:
    routing = Routing(by="prefix", fallbacks=["other"], aliases=[Alias(name="chat", weight=5)])
    endpoint = wanted(routing=routing, wanted=2)
    assert route_of(endpoint, []).routing == routing
    shown = show_endpoint(endpoint, [], NOW)
    assert (shown.routing, shown.wanted) == (routing, 2)
    assert show_endpoint(wanted(engine=EXTERNAL), [], NOW).wanted is None
    drained = show_endpoint(endpoint, [placed("w", state="stopping", drains_until=NOW)], NOW)
    assert [reason.code for reason in drained.workloads[0].reasons] == ["draining"]


@pytest.mark.parametrize(
    ("states", "bounded", "at_rest"),
    [
        (get_args(NodeState), limits.NODE, limits.NODE_AT_REST),
        (get_args(EndpointState), limits.ENDPOINT, limits.ENDPOINT_AT_REST),
        (get_args(WorkloadState), limits.WORKLOAD, limits.WORKLOAD_AT_REST),
    ],
)
def test_every_state_rests_or_has_a_limit_and_never_both(
    states: tuple[str, ...], bounded: dict[str, limits.Limit], at_rest: tuple[str, ...]
) -> None:
    assert sorted([*bounded, *at_rest]) == sorted(states)
    assert all(limit.seconds > 0 and limit.unblock for limit in bounded.values())


@pytest.mark.parametrize("state", [*limits.NODE, *limits.NODE_AT_REST])
def test_a_node_past_its_states_limit_is_listed_as_stuck_and_not_before(state: str) -> None:
    limit = limits.NODE.get(state)
    past = timedelta(seconds=limit.seconds if limit else 10**8)
    in_time = show_node(server(state=state), None, NOW + past)
    late = show_node(server(state=state), None, NOW + past + timedelta(seconds=1))
    assert "stuck" not in {reason.code for reason in in_time.reasons}
    assert ("stuck" in {reason.code for reason in late.reasons}) == (limit is not None)
    assert late.since == NOW


def test_a_node_that_never_joined_says_so() -> None:
    shown = show_node(server(state="enrolled"), None, NOW)
    assert [reason.code for reason in shown.reasons] == ["agent_not_joined"]


@pytest.mark.parametrize("state", limits.WORKLOAD)
def test_a_workload_that_waits_says_what_for_and_is_stuck_past_its_limit(state: str) -> None:
    items = [placed("w1", state=state)]
    limit = timedelta(seconds=limits.WORKLOAD[state].seconds)
    [soon] = show_endpoint(wanted(), items, NOW).workloads
    [late] = show_endpoint(wanted(), items, NOW + 2 * limit).workloads
    assert len(soon.reasons) == 1
    assert [reason.code for reason in late.reasons] == [soon.reasons[0].code, "stuck"]
    assert late.reasons[1].unblock


def test_an_endpoint_that_never_starts_is_listed_as_stuck_beside_its_reason() -> None:
    pending = wanted(reasons=(limits.Reason(code="no_ready_node", detail="none"),))
    shown = show_endpoint(pending, [], NOW + timedelta(hours=1))
    assert [reason.code for reason in shown.reasons] == ["no_ready_node", "stuck"]
    serving = show_endpoint(wanted(state="serving"), [], NOW + timedelta(days=400))
    assert serving.reasons == []


def test_an_intent_lists_what_lives_and_no_more() -> None:
    items = [(wanted(), placed(state, state=state)) for state in ("assigned", "ready", "stopping")]
    items.append((wanted(), placed("draining", state="stopping", drains_until=NOW)))
    intent = intent_of("n1", 3, items, (), {})
    assert [spec.workload_id for spec in intent.workloads] == ["assigned", "ready", "draining"]
    assert intent.check == 3


def test_a_builtin_embedding_model_makes_embeddings_without_being_told() -> None:
    engine = admit(create(model=Model(id="all-minilm-l6-v2")))
    assert isinstance(engine, Engine)
    assert engine.embedding


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"replicas": Replicas(min=2, max=1)}, "replicas.min"),
        ({"replicas": Replicas(min=1, max=1_000)}, "replicas.max"),
        ({"replicas": Replicas(min=0, max=0)}, "replicas.max"),
        ({"replicas": Replicas(sleep_after_ms=86_400_001)}, "replicas.sleep_after_ms"),
        ({"routing": Routing(fallbacks=["m"])}, "routing.fallbacks"),
        ({"routing": Routing(fallbacks=["other", "other"])}, "routing.fallbacks"),
        ({"routing": Routing(aliases=[Alias(name="m")])}, "routing.aliases"),
        ({"resources": Resources(gpus=1, gpu_milli=5)}, "resources.gpu_milli"),
        ({"resources": Resources(gpu_milli=1_001)}, "resources.gpu_milli"),
        ({"model": Model(id="gpt-9")}, "model.id"),
        ({"model": Model(id="m" * 1_025), "engine": EXTERNAL}, "model.id"),
        ({"model": Model(id="m", source="s" * 1_025), "engine": EXTERNAL}, "model.source"),
        ({"engine": Engine(kind="external", url=f"http://x/{'y' * 1_024}")}, "engine.url"),
        ({"resources": Resources(gpu_model="m" * 1_025)}, "resources.gpu_model"),
        ({"residency": Residency(jurisdictions=[])}, "residency.jurisdictions"),
        ({"residency": Residency(jurisdictions=["FR"] * 251)}, "residency.jurisdictions"),
        ({"model": Model(id="tiny", source="hub")}, "model.source"),
        ({"engine": Engine(kind="vllm")}, "resources.gpus"),
        ({"engine": Engine(kind="vllm"), "resources": Resources(gpus=1)}, "model.source"),
        (vllm(Model(id="large", source="path")), "model.id"),
        (vllm(Model(id="--trust-remote-code", source="huggingface")), "model.id"),
        (vllm(loras={"a": "-x"}), "engine.loras"),
        (vllm(loras={f"l{number}": "/l" for number in range(17)}), "engine.loras"),
        ({"engine": Engine(loras={"a": "/a"})}, "engine.loras"),
        ({"engine": Engine(kind="external")}, "engine.url"),
        ({"engine": Engine(kind="external", url="ftp://x/")}, "engine.url"),
        ({"engine": Engine(kind="external", url="http://me:pw@x/")}, "engine.url"),
        ({"engine": Engine(kind="external", url="http://169.254.169.254/v1")}, "engine.url"),
        ({"engine": Engine(kind="external", url="http://2852039166/v1")}, "engine.url"),
        ({"engine": Engine(kind="external", url="http://0xa9.254.0xa9fe/v1")}, "engine.url"),
        ({"engine": Engine(kind="external", url="http://[::ffff:a9fe:a9fe]/v1")}, "engine.url"),
        ({"engine": Engine(kind="llama", url="http://x/")}, "engine.url"),
    ],
)
def test_what_can_never_run_is_refused_at_the_door_by_field(fields: dict, param: str) -> None:
    problem = admit(create(**fields))
    assert isinstance(problem, Problem)
    assert (problem.status, problem.param) == (422, param)
    assert problem.detail
