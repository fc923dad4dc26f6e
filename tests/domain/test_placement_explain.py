"""Decisions in words: what is said today stays as it is said, and more is said where more was weighed."""

from mesh_contracts.placement import Reason
from placement.domain.engine.explain import explain
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Capped, Near, NodeTurned, Relaxation

from tests.domain.gang_world import GPU_W, racks
from tests.domain.gang_world import wish as gang
from tests.domain.placement_sites import node, placed, refused, site, wish

FRANCE = Terms(jurisdictions=("FR",))


def test_each_constraint_that_was_asked_for_says_how_many_nodes_it_left() -> None:
    wanted = wish("a", Size(gpus=1, memory_mib=64, models=("H100",)), FRANCE)
    engine = site(node("n1", gpus=2), node("n2", jurisdiction="DE"), node("n3", model="B200"))
    said = explain(engine.site, wanted, placed(engine, wanted)).survivors
    assert [(one.code, one.count) for one in said if one.count != 3] == [
        ("jurisdiction", 2),
        ("gpu_model", 1),
        ("gpus", 1),
        ("memory", 1),
        ("slots", 1),
    ]
    assert said[0] == Reason(code="known", detail="nodes at this site", count=3)


def test_a_refusal_names_what_left_no_node_and_then_what_would_fit() -> None:
    for code, size in (
        ("not_enough_gpus", Size(gpus=3, memory_mib=64)),
        ("no_such_gpu", Size(gpus=1, memory_mib=64, models=("B200",))),
        ("not_enough_memory", Size(memory_mib=5_000)),
    ):
        engine = site(*(node(name, gpus=2, memory_mib=4_096) for name in ("n1", "n2")))
        wanted = wish("a", size, FRANCE)
        said = explain(engine.site, wanted, refused(engine, wanted))
        assert said.survivors[-1].count == 0
        assert [reason.code for reason in said.reasons] == [code, "would_fit"]
        assert said.reasons[0].detail.endswith(": 0 of 2 nodes")


def test_the_winner_and_the_next_are_told_with_terms_that_add_up() -> None:
    engine = site(node("n1"), node("n2"))
    placed(engine, wish("a", Size(gpus=4)))
    wanted = wish("b", Size(gpus=4), dislike=("n2",))
    outcome = placed(engine, wanted)
    best, second = outcome.why.best, outcome.why.second
    assert best is not None
    assert second is not None
    for rated in (best, second):
        assert rated.score == rated.gain - rated.left - rated.power - rated.bias
    reasons = explain(engine.site, wanted, outcome, called=lambda name: f"node {name}").reasons
    assert [reason.code for reason in reasons] == ["chosen", "runner_up"]
    assert reasons[0].detail.startswith("node n1: ")
    assert "fragments taken away" in reasons[0].detail
    assert "neighbours, dislikes and distance" in reasons[1].detail
    assert reasons[1].detail.endswith(" behind")


def test_of_equals_it_is_said_that_the_first_known_was_taken() -> None:
    engine = site(node("n1"), node("n2"))
    wanted = wish("a", Size(gpus=1))
    reasons = explain(engine.site, wanted, placed(engine, wanted)).reasons
    assert reasons[1].detail.endswith("equal: of equals the first known is taken")


def test_a_constraint_that_was_not_asked_for_is_told_once_it_binds() -> None:
    engine = site(node("n1"), node("n2"))
    engine.apply(Capped(level="rack", domain="rack-of-n1", watts=500))
    wanted = wish("a", Size(gpus=1))
    said = explain(engine.site, wanted, placed(engine, wanted)).survivors
    assert said[-1] == Reason(code="power", detail="with watts left under every cap", count=1)


def test_whose_work_is_in_the_way_is_told_only_to_those_who_may_know() -> None:
    engine = site(node("n1"))
    placed(engine, wish("secret", Size(gpus=8)))
    wanted = wish("a", Size(gpus=1))
    outcome = refused(engine, wanted)
    assert outcome.why.relaxation == Relaxation("workload", 1, ("secret",))
    assert "secret" in explain(engine.site, wanted, outcome).reasons[-1].detail
    hidden = explain(engine.site, wanted, outcome, others=False).reasons[-1]
    assert hidden.detail == "it would fit once another workload has ended"
    assert "secret" not in str(hidden)


def test_of_a_gang_it_is_told_which_domains_hold_all_and_which_was_taken() -> None:
    engine = racks(4, 2)
    wanted = gang("a", 3, size=Size(gpus=4))
    told = explain(engine.site, wanted, placed(engine, wanted))
    assert [(reason.code, reason.count) for reason in told.survivors[-3:]] == [
        ("seats", 8),
        ("holds_nvlink", 0),
        ("holds_leaf", 2),
    ]
    assert told.survivors[-2].detail.endswith("the best holds 2")
    assert [reason.detail for reason in told.reasons] == [
        "leaf l0: room for 4, of which 1 stay free, over 2 NVLink domains",
        "leaf l1: room for 4, of which 1 stay free, over 2 NVLink domains",
    ]


def test_a_gang_is_told_whether_seats_watts_or_nearness_are_too_few() -> None:
    engine = racks(4, 2)
    near = Near(level="nvlink", required=True)
    for members, fields, code, count in (
        (9, {}, "not_enough_seats", 8),
        (3, {"near": near}, "not_near_enough", 2),
        (7, {"near": Near(segment=3)}, "not_near_enough", 1),
    ):
        wanted = gang("a", members, size=Size(gpus=4), **fields)
        reasons = explain(engine.site, wanted, refused(engine, wanted)).reasons
        assert (reasons[0].code, reasons[0].count) == (code, count)
        assert reasons[0].unblock
        assert reasons[1].code == "would_fit"
    watts = int(engine.power.planned["site"][0])
    engine.apply(Capped(level="site", domain="site", watts=watts + 5 * 4 * GPU_W))
    wanted = gang("a", 6, size=Size(gpus=4))
    told = explain(engine.site, wanted, refused(engine, wanted))
    assert (told.reasons[0].code, told.reasons[0].count) == ("power_capped", 5)
    assert ("powered", 5) in [(reason.code, reason.count) for reason in told.survivors]


def test_each_kind_of_relaxation_is_told_in_a_sentence_of_its_own() -> None:
    engine = site(node("n1"), node("n2", gpus=0, cpu_milli=0, jurisdiction="DE"))
    told = set()
    for wanted in (
        wish("a", Size(cpu_milli=65_000)),
        wish("a", Size(memory_mib=65_600)),
        wish("a", Size(gpus=1, models=("B200",))),
        wish("a", Size(gpus=9)),
        wish("a", Size(gpus=1), Terms(assurances=("hds",))),
        wish("a", Size(gpus=1), Terms(jurisdictions=("IT",))),
        wish("a", Size(gpus=1), Terms(isolation="nvlink")),
        wish("a", Size(gpus=8), members=2),
    ):
        reason = explain(engine.site, wanted, refused(engine, wanted)).reasons[-1]
        assert reason.unblock
        told.add(reason.detail)
    engine.apply(NodeTurned(node="n1", closed=True))
    wanted = wish("a", Size(gpus=1))
    told.add(explain(engine.site, wanted, refused(engine, wanted)).reasons[-1].detail)
    assert len(told) == 9
    assert "it would fit with 1 GPU fewer: 8" in told
    assert "it would fit with 1 member fewer: 1 of 2" in told
    assert "it would fit on n1, once it takes work again" in told
