"""What others see: routes only to who may be reached, intents only of what lives."""

import pytest
from mesh_contracts.ask import Problem
from mesh_contracts.placement import CreateEndpoint, Engine, Model, Replicas, Resources
from meshkit.testing import wish
from placement.domain.admit import admit
from placement.domain.show import intent_of, route_of

from tests.domain.test_placement_plan import placed, wanted


def create(**fields: object) -> CreateEndpoint:
    return CreateEndpoint(
        **wish(), **{"name": "m", "project": "demo", "model": Model(id="tiny"), **fields}
    )


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


def test_an_intent_lists_what_lives_and_no_more() -> None:
    items = [(wanted(), placed(state, state=state)) for state in ("assigned", "ready", "stopping")]
    intent = intent_of("n1", 3, items)
    assert [spec.workload_id for spec in intent.workloads] == ["assigned", "ready"]
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
        ({"resources": Resources(gpus=1, gpu_milli=5)}, "resources.gpu_milli"),
        ({"resources": Resources(gpu_milli=1_001)}, "resources.gpu_milli"),
        ({"model": Model(id="gpt-9")}, "model.id"),
        ({"model": Model(id="tiny", source="hub")}, "model.source"),
        ({"engine": Engine(kind="vllm")}, "engine.kind"),
        ({"engine": Engine(kind="external")}, "engine.url"),
        ({"engine": Engine(kind="external", url="ftp://x/")}, "engine.url"),
        ({"engine": Engine(kind="external", url="http://me:pw@x/")}, "engine.url"),
        ({"engine": Engine(kind="external", url="http://169.254.169.254/v1")}, "engine.url"),
        ({"engine": Engine(kind="llama", url="http://x/")}, "engine.url"),
    ],
)
def test_what_can_never_run_is_refused_at_the_door_by_field(fields: dict, param: str) -> None:
    problem = admit(create(**fields))
    assert isinstance(problem, Problem)
    assert (problem.status, problem.param) == (422, param)
    assert problem.detail
