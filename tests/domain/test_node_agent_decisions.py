"""What the agent decides: what to start and stop, what has failed, what energy was drawn."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.fact import Fact
from mesh_contracts.node import WorkloadFailed, WorkloadReady
from mesh_contracts.placement import Engine, Model, Resources, WorkloadSpec
from meshkit.clock import SystemClock
from meshkit.testing import test_id
from node_agent.domain import energy, reconcile, supervise
from node_agent.domain.energy import Meter, PowerModel, Use
from node_agent.domain.reconcile import Forget, Phase, Start, Stop
from node_agent.domain.supervise import Seen, Watch
from node_agent.telling import Teller

IDS = [test_id("workload", f"w{number}") for number in range(5)]
PHASES: list[Phase] = ["starting", "ready", "stopping", "stopped", "failed", "interrupted"]
here_maps = st.dictionaries(st.sampled_from(IDS), st.sampled_from(PHASES))
wanted_sets = st.sets(st.sampled_from(IDS))


def spec(workload_id: str) -> WorkloadSpec:
    return WorkloadSpec(
        workload_id=workload_id,
        endpoint_id=test_id("endpoint", "e"),
        organization=test_id("organization", "o"),
        project=test_id("project", "p"),
        name="tiny",
        model=Model(id="tiny"),
        engine=Engine(),
        resources=Resources(),
        devices=[],
        api_key="key",
    )


@given(wanted_sets, here_maps)
def test_what_runs_as_wished_is_left_alone(wanted: set[str], here: dict[str, Phase]) -> None:
    actions = reconcile.reconcile([spec(w) for w in sorted(wanted)], here)
    touched = {
        action.spec.workload_id if isinstance(action, Start) else action.workload_id
        for action in actions
    }
    assert (
        not {w for w in wanted if here.get(w) in {"starting", "ready", "stopping", "failed"}} & touched
    )


@given(wanted_sets, here_maps)
def test_following_the_actions_comes_to_rest_with_what_is_wished(
    wanted: set[str], here: dict[str, Phase]
) -> None:
    specs = [spec(w) for w in sorted(wanted)]
    now = dict(here)
    for _ in range(3):
        for action in reconcile.reconcile(specs, now):
            match action:
                case Start(begun):
                    now[begun.workload_id] = "ready"
                case Stop(workload_id):
                    now[workload_id] = "stopped"
                case Forget(workload_id):
                    del now[workload_id]
        # What was ending has ended meanwhile.
        now = {w: "stopped" if phase == "stopping" else phase for w, phase in now.items()}
    assert reconcile.reconcile(specs, now) == []
    assert set(now) == wanted
    assert all(here.get(w) == "failed" for w, phase in now.items() if phase == "failed")


@given(wanted_sets, here_maps)
def test_room_is_made_before_it_is_taken(wanted: set[str], here: dict[str, Phase]) -> None:
    kinds = [isinstance(a, Start) for a in reconcile.reconcile([spec(w) for w in sorted(wanted)], here)]
    assert kinds == sorted(kinds)


def test_a_wish_twice_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        reconcile.reconcile([spec(IDS[0]), spec(IDS[0])], {})


def test_a_succeeded_writer_is_not_listened_to() -> None:
    assert reconcile.newer((1, 9), (2, 3))
    assert not reconcile.newer((2, 3), (1, 10))
    assert not reconcile.newer((2, 3), (2, 3))
    assert reconcile.newer((2, 3), (2, 4))


def test_a_check_is_due_at_first_and_when_the_wish_rises() -> None:
    assert reconcile.check_is_due(None, 0)
    assert not reconcile.check_is_due(3, 3)
    assert reconcile.check_is_due(3, 4)


def judged(watch: Watch, *looks: Seen, step_s: float = 2.0) -> Watch:
    for number, seen in enumerate(looks, start=1):
        watch = supervise.judge(watch, seen, watch.since + step_s * number)
    return watch


ANSWERS = Seen(alive=True, answered=True)
SILENT = Seen(alive=True, answered=False)
GONE = Seen(alive=False, words="exit code 1")


def test_an_engine_is_ready_with_its_first_answer_and_forgiven_two_silences() -> None:
    ready = judged(Watch(), SILENT, SILENT, SILENT, ANSWERS)
    assert ready.phase == "ready"
    assert judged(ready, SILENT, SILENT, ANSWERS, SILENT, SILENT).phase == "ready"
    failed = judged(ready, SILENT, SILENT, SILENT)
    assert failed.phase == "failed"
    assert "3 probes" in failed.reason


def test_an_engine_that_never_answers_has_failed_after_a_minute() -> None:
    assert judged(Watch(), SILENT, step_s=60).phase == "starting"
    assert judged(Watch(), Seen(alive=True), step_s=61).phase == "failed"


@given(st.sampled_from(["starting", "ready"]))
def test_an_engine_that_ends_unasked_has_failed_and_says_why(phase: supervise.Phase) -> None:
    failed = judged(Watch(phase=phase), GONE)
    assert failed.phase == "failed"
    assert "exit code 1" in failed.reason


def test_an_engine_that_ends_as_wished_is_stopped_for_good() -> None:
    stopping = Watch(phase="stopping")
    assert judged(stopping, ANSWERS, SILENT).phase == "stopping"
    assert judged(stopping, GONE, ANSWERS, GONE).phase == "stopped"


DEVICES = ["d0", "d1"]
MODEL = PowerModel(idle_w=70, full_w=700, host_idle_w=100, host_full_w=200, cpus=2)
uses = st.lists(
    st.builds(
        Use,
        engine=st.sampled_from(["a", "b", "c"]),
        cpu_us=st.integers(0, 10_000_000),
        devices=st.sampled_from([(), ("d0",), ("d0", "d1")]),
    ),
    unique_by=lambda use: use.engine,
)


def metered(meter: Meter, at_us: int, engines: list[Use]) -> Meter:
    drawn = energy.rehearse(MODEL, DEVICES, energy.busy_since(meter, at_us, engines))
    return energy.add(meter, drawn, at_us, engines)


@given(st.lists(st.tuples(st.integers(0, 5_000_000), uses), max_size=8))
def test_counters_never_fall_and_idle_is_never_more_than_all(
    looks: list[tuple[int, list[Use]]],
) -> None:
    meter = Meter(epoch=1, boot_id="b", at_us=0)
    for step, engines in looks:
        after = metered(meter, meter.at_us + step, engines)
        assert after.counter_uj >= meter.counter_uj
        assert after.idle_uj >= meter.idle_uj
        assert all(after.devices_uj[d] >= meter.devices_uj.get(d, 0) for d in DEVICES)
        assert after.idle_uj <= after.counter_uj
        meter = after
    full_w = MODEL.host_full_w + len(DEVICES) * MODEL.full_w
    assert meter.counter_uj <= full_w * meter.at_us


def test_an_idle_second_draws_idle_power_and_a_busy_one_more_by_the_time_computed() -> None:
    idle = metered(Meter(epoch=1, boot_id="b", at_us=0), 1_000_000, [])
    assert idle.counter_uj == idle.idle_uj == (100 + 2 * 70) * 1_000_000
    busy = metered(idle, 2_000_000, [Use(engine="a", cpu_us=500_000, devices=("d1",))])
    above = busy.counter_uj - idle.counter_uj - 240 * 1_000_000
    assert above == (700 - 70) * 500_000 + (200 - 100) * 250_000
    assert busy.devices_uj["d0"] == 2 * 70 * 1_000_000


@given(st.integers(0, 900_000), st.integers(0, 900_000), st.integers(0, 900_000))
def test_what_an_engine_takes_before_its_first_answer_is_counted_apart_once(
    loading: int, between: int, serving: int
) -> None:
    def engine(cpu_us: int, starting_us: int) -> list[Use]:
        return [Use(engine="a", cpu_us=cpu_us, devices=("d0",), starting_us=starting_us)]

    meter = metered(Meter(epoch=1, boot_id="b", at_us=0), 1_000_000, engine(loading, loading))
    assert meter.starting_uj == meter.counter_uj - meter.idle_uj
    answered = loading + between // 2
    meter = metered(meter, 2_000_000, engine(loading + between, answered))
    then = meter.starting_uj
    assert then <= meter.counter_uj - meter.idle_uj
    after = metered(meter, 3_000_000, engine(loading + between + serving, answered))
    assert after.starting_uj == then


def test_an_engine_adopted_into_a_new_epoch_does_not_bring_its_past() -> None:
    old = [Use(engine="a", cpu_us=9_000_000, devices=("d0",))]
    fresh = energy.resume(None, "b", 5, old)
    assert fresh.epoch == 1
    assert energy.busy_since(fresh, 1_000_005, old).total_us == 0


@given(st.integers(0, energy.GAP_MAX_US))
def test_counters_go_on_over_a_short_pause_of_the_same_boot(gap: int) -> None:
    kept = Meter(epoch=4, boot_id="b", at_us=1_000, counter_uj=99)
    assert energy.resume(kept, "b", 1_000 + gap, []) == kept


@pytest.mark.parametrize(
    ("boot", "at_us"), [("another", 2_000), ("b", 1_001 + energy.GAP_MAX_US), ("b", 0)]
)
def test_another_boot_or_a_long_pause_begins_a_new_epoch(boot: str, at_us: int) -> None:
    kept = Meter(epoch=4, boot_id="b", at_us=1_000, counter_uj=99)
    fresh = energy.resume(kept, boot, at_us, [])
    assert (fresh.epoch, fresh.counter_uj, fresh.at_us) == (5, 0, at_us)


def test_what_became_of_one_start_of_a_workload_is_one_fact_however_often_told() -> None:
    told: list[Fact] = []
    node = test_id("node", "n")
    teller = Teller(told.append, node, "fr-idf-1", SystemClock())
    for incarnation in (1, 1, 2):
        teller.tell_of(WorkloadReady, IDS[0], incarnation, address="127.0.0.1:1")
    teller.tell_of(WorkloadFailed, IDS[0], 1, reason="gone")
    first, again, second, failed = told
    assert first.fact_id == again.fact_id
    assert len({first.fact_id, second.fact_id, failed.fact_id}) == 3
    assert {fact.key for fact in told} == {node}
    assert isinstance(first.occurred_at, datetime)
