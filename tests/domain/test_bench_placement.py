"""What ``mesh bench placement`` reads, sums and prints: on lists of its own size, and on openb's where they are."""

import json
from pathlib import Path

import pytest
from mesh_tools.bench.placement import command, openb
from mesh_tools.bench.placement.command import DATA, NODES, main, one_run
from mesh_tools.bench.placement.driven import asked, drive, engine_of
from mesh_tools.bench.placement.yardstick import Fgd, drive_fgd
from placement.domain.engine.site import NodeSpec

pytestmark = pytest.mark.slow

NODE_LINES = "sn,cpu_milli,memory_mib,gpu,model\nb,8000,16384,2,T4\na,8000,16384,1,G2\n"
POD_LINES = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    "p0,1000,1024,1,1000,\n"
    "p1,1000,1024,1,500,T4|G2\n"
    "p2,1000,1024,0,0,\n"
)
KEYS = {"allocation_pct", "placed", "rejected", "decisions_per_s", "p50_ms", "p99_ms"}

needs_openb = pytest.mark.skipif(
    not (DATA / NODES).exists(), reason="openb's lists are not on this machine"
)


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, Path]:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text(NODE_LINES)
    pods.write_text(POD_LINES)
    return nodes, pods


def test_a_list_is_read_by_name_and_each_pod_asks_for_whole_gpus_or_a_share(
    lists: tuple[Path, Path],
) -> None:
    assert [spec.node for spec in openb.read_nodes(lists[0])] == ["a", "b"]
    sizes = [pod.size for pod in openb.read_pods(lists[1])]
    assert [(size.gpus, size.gpu_milli, size.models) for size in sizes] == [
        (1, 0, ()),
        (0, 500, ("G2", "T4")),
        (0, 0, ()),
    ]


def test_pods_arrive_until_the_next_would_be_too_many(lists: tuple[Path, Path]) -> None:
    pods = openb.read_pods(lists[1])
    for seed in range(10):
        order = openb.arrivals(pods, seed, 3_000, 1.3)
        assert 3_900 - 1_000 < sum(pod.size.milli for pod in order) <= 3_900
    assert openb.arrivals(pods, 1, 3_000, 1.3) == openb.arrivals(pods, 1, 3_000, 1.3)


def test_a_run_prints_its_figures_and_the_last_line_is_one_object(
    lists: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--nodes", str(lists[0]), "--trace", str(lists[1]), "--seed", "7", "--arrived", "1.3"]
    assert main(argv, as_json=True) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() >= KEYS
    assert found["placed"] > 0
    assert 0 < found["allocation_pct"] <= 100
    again = one_run(lists[0], lists[1], 7, 1.3)
    assert {key: again[key] for key in ("allocation_pct", "placed", "rejected")} == {
        key: found[key] for key in ("allocation_pct", "placed", "rejected")
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [("sn,gpu\n,1\n", "no column sn"), ("name\nx\n", "no column sn")],
)
def test_a_list_that_cannot_be_read_is_one_sentence_and_exit_2(
    lists: tuple[Path, Path], capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    lists[0].write_text(text)
    assert main(["--nodes", str(lists[0]), "--trace", str(lists[1])], as_json=False) == 2
    assert said in capsys.readouterr().err


@needs_openb
@pytest.mark.parametrize("seed", [42])
def test_openb_is_filled_as_far_as_published_fgd_fills_it(seed: int) -> None:
    specs, pods = (
        openb.read_nodes(DATA / NODES)[::4],
        openb.read_pods(DATA / "openb_pod_list_default.csv"),
    )
    milli = sum(spec.gpus for spec in specs) * 1_000
    order = openb.arrivals(pods, seed, milli, 1.3)
    fgd = Fgd(specs, pods)
    drive_fgd(fgd, order)
    theirs = 100 * (1 - int(fgd.free.sum()) / milli)
    ours = _used(specs, order, pods)
    assert ours >= theirs - 0.3, (
        f"a quarter of the nodes, seed {seed}: {ours:.2f} %, FGD {theirs:.2f} %"
    )


def _used(specs: list[NodeSpec], order: list[openb.Pod], pods: list[openb.Pod]) -> float:
    milli = sum(spec.gpus for spec in specs) * 1_000
    used = openb.Allocation(milli)
    wishes = [asked(number, pod.size) for number, pod in enumerate(order)]
    drive(engine_of(specs, openb.mix_of(pods)), wishes, lambda size, done: used.note(size, placed=done))
    return used.last_pct


def test_parts_that_need_no_list_run_where_there_are_none_and_print_what_they_must_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = command.Amount(racks=16, gangs=40, packed=40, plans=1, failures=1, times=1)
    monkeypatch.setattr(command, "QUICK", few)
    argv = ["--data", str(tmp_path), "--quick", "--only", "lists,speed,gangs,preemption,rack"]
    assert main(argv, as_json=True) == 0
    said = capsys.readouterr()
    found = json.loads(said.out.splitlines()[-1])
    assert found.keys() == {"seeds", "gangs", "preemption", "rack"}
    assert "without them there is no lists, speed" in said.err
    assert "p99 must be 5 ms" in said.out
    assert found["gangs"]["partial"] == 0
    assert found["gangs"]["placed"] > 0
    assert found["preemption"]["victims"] > 0
    assert found["rack"]["workloads"] > 0


def test_a_part_that_nobody_knows_is_said_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--only", "gangs,gongs"], as_json=False)
    assert stopped.value.code == 2
    assert "there is no part 'gongs'" in capsys.readouterr().err
