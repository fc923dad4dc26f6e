"""The decision: a grant fits, a refusal says what would unblock it."""

from collections.abc import Mapping, Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts import wire
from mesh_contracts.placement import Engine, Intent, Model, Residency, Resources, WorkloadSpec
from meshkit.testing import NOW, test_id
from meshkit.transaction import MESSAGE_BYTES_MAX
from placement.domain.built import built_of
from placement.domain.decide import Grant, Refusal, answer_of
from placement.domain.engine import engine as deciding
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Found, Seat, Wish
from placement.domain.fleet import WORKLOADS_PER_NODE_MAX, Card, Server
from placement.domain.wishes import size_of, terms_of

STATES = st.sampled_from(["ready", "ready", "ready", "cordoned", "validating", "lost"])


def card(index: int, free: int = 1_000, model: str = "H100") -> Card:
    return Card(
        device_id=f"rehearsal-{index}",
        index=index,
        card=index,
        model=model,
        memory_mib=81_920,
        rehearsal=True,
        free_milli=free,
    )


def server(name: str = "n1", **fields: object) -> Server:
    base = Server(
        node_id=name,
        name=name,
        site="fr-idf-1",
        state="ready",
        generation=1,
        jurisdiction="FR",
        memory_mib=4_096,
        memory_free_mib=4_096,
        cards=(card(0), card(1)),
        since=NOW,
    )
    return msgspec.structs.replace(base, **fields)


def occupied(fleet: Sequence[Server]) -> deciding.Engine:
    """Return an engine that knows the nodes, with what is not free on them taken by others."""
    engine = deciding.Engine()
    for one in fleet:
        for each in built_of(one):
            engine.apply(each)
        taken = [(card.card, 1_000 - card.free_milli) for card in one.cards if card.free_milli < 1_000]
        for number, milli in taken:
            other(engine, one.node_id, f"card-{number}", Size(gpu_milli=milli), (number,))
        if one.memory_free_mib < one.memory_mib:
            size = Size(memory_mib=one.memory_mib - one.memory_free_mib)
            other(engine, one.node_id, "memory", size)
        for number in range(one.workloads):
            other(engine, one.node_id, f"slot-{number}", Size())
    return engine


def other(
    engine: deciding.Engine, node: str, name: str, size: Size, cards: tuple[int, ...] = ()
) -> None:
    wish = Wish(workload=f"{node}/{name}", organization="o", project="p", kind="endpoint", size=size)
    engine.apply(Found(wish=wish, seats=(Seat(node, cards, size.milli_each),), at=0))


def decide(
    resources: Resources,
    residency: Residency,
    fleet: Sequence[Server],
    crowd: Mapping[str, int] | None = None,
) -> Grant | Refusal:
    dislike = tuple(node for node, count in (crowd or {}).items() for _ in range(count))
    wish = Wish(
        workload="w",
        organization="o",
        project="p",
        kind="endpoint",
        size=size_of(resources),
        terms=terms_of(residency.jurisdictions, (), "o", "none"),
        dislike=dislike,
    )
    engine = occupied(fleet)
    return answer_of(engine, wish, engine.would(wish))


cards = st.lists(
    st.tuples(st.sampled_from([0, 250, 500, 1_000]), st.sampled_from(["H100", "B200"])), max_size=4
).map(lambda items: tuple(card(n, free, model) for n, (free, model) in enumerate(items)))
servers = st.builds(
    lambda number, state, where, memory, held: server(
        f"n{number}", state=state, jurisdiction=where, memory_free_mib=memory, cards=held
    ),
    st.integers(0, 30),
    STATES,
    st.sampled_from(["FR", "FR", "DE"]),
    st.integers(0, 4_096),
    cards,
)
fleets = st.lists(servers, max_size=8, unique_by=lambda item: item.node_id)
shapes = st.one_of(
    st.builds(Resources, gpus=st.integers(0, 3), gpu_model=st.sampled_from([None, "H100"])),
    st.builds(
        Resources, gpu_milli=st.sampled_from([250, 500, 1_000]), memory_mib=st.integers(1, 4_096)
    ),
)


def fits(resources: Resources, one: Server) -> bool:
    models = {card.model for card in one.cards}
    if resources.gpu_model is not None and models != {resources.gpu_model}:
        return False
    mine = [c for c in one.cards if resources.gpu_model in {None, c.model}]
    whole = sum(1 for c in mine if c.free_milli == 1_000)
    return (
        one.state == "ready"
        and one.jurisdiction == "FR"
        and one.memory_free_mib >= resources.memory_mib
        and (resources.gpu_model is None or bool(mine))
        and whole >= resources.gpus
        and (not resources.gpu_milli or any(c.free_milli >= resources.gpu_milli for c in mine))
    )


@given(fleets, shapes)
def test_a_grant_fits_and_a_refusal_means_that_no_node_did(
    fleet: list[Server], resources: Resources
) -> None:
    answer = decide(resources, Residency(), fleet)
    able = [one for one in fleet if fits(resources, one)]
    if isinstance(answer, Grant):
        [node] = [one for one in able if one.node_id == answer.node_id]
        assert len(answer.cards) * answer.milli_each == (resources.gpus * 1_000 or resources.gpu_milli)
        assert all(node.cards[card].free_milli >= answer.milli_each for card in answer.cards)
    else:
        assert able == []
        assert all(reason.unblock for reason in answer.reasons)


def test_of_nodes_that_are_equal_but_for_what_is_free_the_fullest_is_taken() -> None:
    nodes = [server(f"n{free}", cards=(card(0, free), card(1))) for free in (1_000, 250, 500)]
    for fleet in (nodes, nodes[::-1]):
        answer = decide(Resources(gpus=1), Residency(), fleet)
        assert isinstance(answer, Grant)
        assert (answer.node_id, answer.cards) == ("n250", (1,))


def test_a_node_with_gpus_of_two_models_takes_what_runs_on_either_and_nothing_else() -> None:
    mixed = server(cards=(card(0), card(1, model="B200")))
    assert isinstance(decide(Resources(gpus=2), Residency(), [mixed]), Grant)
    refused = decide(Resources(gpus=1, gpu_model="H100"), Residency(), [mixed])
    assert isinstance(refused, Refusal)
    assert refused.reasons[0].code == "no_such_gpu"


def test_a_card_that_is_gone_is_given_to_nobody() -> None:
    one = server(cards=(card(0), msgspec.structs.replace(card(1), card=2)))
    answer = decide(Resources(gpus=2), Residency(), [one])
    assert isinstance(answer, Grant)
    assert answer.cards == (0, 2)
    assert isinstance(decide(Resources(gpus=3), Residency(), [one]), Refusal)


@given(fleets, shapes)
def test_survivors_never_grow_from_one_constraint_to_the_next(
    fleet: list[Server], resources: Resources
) -> None:
    counts = [reason.count for reason in decide(resources, Residency(), fleet).survivors]
    assert counts == sorted(counts, reverse=True)


def test_replicas_of_one_endpoint_are_spread_before_nodes_are_filled() -> None:
    fuller = server("n1", memory_free_mib=1_000)
    answer = decide(Resources(), Residency(), [fuller, server("n2")], {"n1": 1})
    assert isinstance(answer, Grant)
    assert answer.node_id == "n2"


def test_a_fraction_goes_to_the_fullest_device_that_fits() -> None:
    node = server(cards=(card(0, 1_000), card(1, 400), card(2, 100)))
    answer = decide(Resources(gpu_milli=250), Residency(), [node])
    assert isinstance(answer, Grant)
    assert answer.cards == (1,)


def test_whole_gpus_are_not_made_of_fractions() -> None:
    answer = decide(Resources(gpus=1), Residency(), [server(cards=(card(0, 999), card(1, 500)))])
    assert isinstance(answer, Refusal)
    assert answer.reasons[0].code == "not_enough_gpus"


def test_a_node_is_full_at_its_most_workloads_and_they_fit_into_one_message() -> None:
    full = server(workloads=WORKLOADS_PER_NODE_MAX)
    answer = decide(Resources(memory_mib=1), Residency(), [full])
    assert isinstance(answer, Refusal)
    assert [(reason.code, bool(reason.unblock)) for reason in answer.reasons] == [("node_full", True)]
    assert isinstance(decide(Resources(memory_mib=1), Residency(), [full, server("n2")]), Grant)
    largest = WorkloadSpec(
        workload_id=test_id("workload"),
        endpoint_id=test_id("endpoint"),
        organization=test_id("org"),
        project=test_id("project"),
        name="n" * 63,
        model=Model(id="all-minilm-l6-v2"),
        engine=Engine(embedding=True),
        resources=Resources(gpus=16, gpu_model="m" * 64, memory_mib=2**40),
        devices=[f"GPU-{number:036}" for number in range(16)],
        api_key="k" * 64,
    )
    intent = Intent(node_id=test_id("node"), workloads=[largest] * WORKLOADS_PER_NODE_MAX)
    assert len(wire.encode(intent)) < MESSAGE_BYTES_MAX


def test_data_that_must_stay_in_france_are_not_placed_in_germany() -> None:
    answer = decide(Resources(), Residency(), [server(jurisdiction="DE")])
    assert isinstance(answer, Refusal)
    assert answer.reasons[0].code == "no_node_in_jurisdiction"
    assert "FR" in (answer.reasons[0].unblock or "")


def test_an_empty_site_is_refused_with_what_to_do() -> None:
    answer = decide(Resources(), Residency(), [])
    assert isinstance(answer, Refusal)
    assert answer.reasons[0].code == "no_ready_node"
