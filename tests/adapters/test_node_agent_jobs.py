"""Members of jobs under real shims: they find each other, write their checkpoint, and say how they ended."""

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh_contracts.node import LOG_CHARS_MAX, LogTail
from mesh_contracts.placement import Command, Resources
from meshkit.clock import SystemClock
from meshkit.testing import test_id
from node_agent.commands import Runs
from node_agent.held import WENT_AWAY
from node_agent.runtimes import process
from node_agent.tails import Tails

from tests.adapters.engines import NODE, Host, host, member, spec, until
from tests.adapters.podman import PODMAN_MORE, containers, image

__all__ = ["image"]

pytestmark = pytest.mark.slow

TELL = "import json, os; open('said', 'w').write(json.dumps(dict(os.environ)))"
CHECKPOINT = """
import os, signal, sys, time
def stop(*_):
    open(os.environ.get("CHECKPOINT", "checkpoint"), "w").write("step 7")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open("begun", "w").close()
time.sleep(600)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('begun','w'); time.sleep(600)"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Host]:
    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        yield made


def runs(program: str, **fields: Any) -> Any:
    return member(sys.executable, "-c", program, **fields)


def of_process(pid: int | None, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def begun(here: Host, wished: Any) -> Path:
    """Return the folder that a member works in, once its program runs."""
    work = here.folder / wished.workload_id / "work"
    await until((work / "begun").exists)
    return work


async def test_a_member_knows_who_and_where_it_is_and_nothing_of_ours(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_CREDENTIALS", "/secret")
    command = Command(image="none", argv=[sys.executable, "-c", TELL], env={"EPOCHS": "3"})
    wished = member(
        number=1,
        members=2,
        command=command,
        rendezvous="10.0.0.7:23456",
        devices=["GPU-1b2c", "GPU-3d4e"],
        attempt=2,
    )
    here.agent().wish([wished])
    stopped = await here.told.said("stopped")
    assert stopped.exit_code == 0
    assert here.told.verbs() == ["started", "stopped"]
    said = json.loads((here.folder / wished.workload_id / "work" / "said").read_text())
    assert (said["MASTER_ADDR"], said["MASTER_PORT"]) == ("10.0.0.7", "23456")
    assert (said["RANK"], said["WORLD_SIZE"], said["MESH_ATTEMPT"]) == ("1", "2", "2")
    assert (said["EPOCHS"], said["CUDA_VISIBLE_DEVICES"]) == ("3", "GPU-1b2c,GPU-3d4e")
    assert "NATS_CREDENTIALS" not in said


async def test_what_a_tenant_sets_is_its_programs_and_not_its_shims(here: Host) -> None:
    given = {"LD_PRELOAD": "/nowhere/evil.so", "PYTHONPATH": "/nowhere", "KEY": "two\nlines", "E": ""}
    program = f"{TELL}; import time; open('begun', 'w').close(); time.sleep(600)"
    wished = member(command=Command(image="none", argv=[sys.executable, "-c", program], env=given))
    here.agent().wish([wished])
    work = await begun(here, wished)
    said = json.loads((work / "said").read_text())
    assert {name: said[name] for name in given} == given
    shim = of_process(here.found(wished).shim_pid, "environ")
    assert not any(name in shim for name in ("LD_PRELOAD", "PYTHONPATH", "KEY", "RANK"))


async def test_a_command_that_no_program_can_be_given_is_refused(here: Host) -> None:
    for env in ({"": "1"}, {"A=B": "1"}, {"A": "1\0LD_PRELOAD=/evil.so"}):
        command = Command(image="none", argv=[sys.executable, "-c", TELL], env=env)
        here.agent().wish([member(command=command)])
        assert "variable" in (await here.told.said("failed")).reason
        here.told.facts.clear()


async def test_the_end_of_a_log_is_told_when_wished_for_and_when_its_workload_ends(here: Host) -> None:
    sent: list[LogTail] = []
    tails = Tails(here.folder, NODE, SystemClock(), sent.append)
    here.ended = tails.tell
    said = "print('x' * 40_000); print('the last line', flush=True)"
    wished = runs(f"{said}; open('begun', 'w').close(); import time; time.sleep(1)")
    here.agent().wish([wished])
    await begun(here, wished)
    tails.wish([wished])
    assert sent == []
    asked = msgspec.structs.replace(wished, log=1)
    for _ in range(2):
        tails.wish([asked])
    await here.told.said("stopped")
    assert [(one.number, one.cut) for one in sent] == [(1, True), (0, True)]
    assert all(one.text.endswith("the last line\n") for one in sent)
    assert {len(one.text) for one in sent} == {LOG_CHARS_MAX}


async def test_a_member_that_fails_says_how_and_is_not_begun_again(here: Host) -> None:
    wished = runs("import sys; print('no such file: data.bin'); sys.exit(3)")
    agent = here.agent()
    agent.wish([wished])
    failed = await here.told.said("failed")
    assert (failed.exit_code, failed.interrupted) == (3, False)
    assert "no such file: data.bin" in failed.reason
    agent.wish([wished])
    assert here.told.verbs() == ["started", "failed"]


async def test_a_member_that_is_stopped_has_time_for_its_checkpoint(here: Host, tmp_path: Path) -> None:
    written = tmp_path / "checkpoint"
    argv = [sys.executable, "-c", CHECKPOINT]
    wished = member(command=Command(image="none", argv=argv, env={"CHECKPOINT": str(written)}))
    agent = here.agent()
    agent.wish([wished])
    await begun(here, wished)
    assert [one.state for one in agent.statuses()] == ["ready"]
    agent.wish([])
    stopped = await here.told.said("stopped")
    assert stopped.exit_code == 0
    assert written.read_text() == "step 7"


async def test_a_member_that_will_not_stop_is_killed_after_its_time(here: Host) -> None:
    wished = runs(STUBBORN)
    agent = here.agent()
    agent.wish([wished])
    await begun(here, wished)
    agent.wish([])
    stopped = await here.told.said("stopped")
    assert stopped.exit_code == -9


async def test_a_device_is_its_next_holders_only_once_the_last_has_ended(here: Host) -> None:
    first, second = runs(CHECKPOINT), runs(TELL)
    engine = spec(devices=["rehearsal-n1-0"], resources=Resources(gpu_milli=100))
    agent = here.agent()
    agent.wish([first])
    await begun(here, first)
    agent.wish([first, second, engine])
    assert len(agent.statuses()) == 1
    agent.wish([second])
    await until(lambda: here.told.verbs().count("stopped") == 2)
    kinds = [
        (verb, fact.workload_id) for verb, fact in zip(here.told.verbs(), here.told.facts, strict=True)
    ]  # type: ignore[attr-defined]
    assert kinds.index(("stopped", first.workload_id)) < kinds.index(("started", second.workload_id))


async def test_a_member_runs_on_while_the_agent_restarts(here: Host) -> None:
    wished = runs(CHECKPOINT)
    agent = here.agent()
    agent.wish([wished])
    await begun(here, wished)
    before = here.found(wished)
    await agent.leave()
    again = here.agent()
    again.wish([wished])
    await until(lambda: [one.state for one in again.statuses()] == ["ready"])
    assert here.found(wished).engine_pid == before.engine_pid
    assert here.told.verbs() == ["started"]


async def test_a_member_that_its_servers_end_took_is_told_of_and_not_begun_again(here: Host) -> None:
    wished = runs(CHECKPOINT)
    agent = here.agent()
    agent.wish([wished])
    await begun(here, wished)
    here.cut_lifeline()
    await until(lambda: here.found(wished).why == "lifeline")
    await agent.leave()
    os.close(here.lifeline)
    here.lifeline, here.ours = os.pipe()
    again = here.agent()
    again.wish([wished])
    failed = await here.told.said("failed")
    assert (failed.interrupted, failed.reason) == (True, WENT_AWAY)
    assert not here.found(wished).alive


async def test_members_of_jobs_end_where_placement_is_not_heard_and_engines_do_not(here: Host) -> None:
    wished, engine = runs(CHECKPOINT), spec(devices=["rehearsal-n1-1"])
    agent = here.agent()
    agent.wish([wished, engine])
    await begun(here, wished)
    await here.told.said("ready")
    agent.stop_jobs("placement was not heard here for 20 s")
    failed = await here.told.said("failed")
    assert (failed.workload_id, failed.interrupted) == (wished.workload_id, True)
    assert here.found(engine).alive


async def test_what_this_node_cannot_run_is_refused_with_what_to_do(here: Host) -> None:
    for command, why in (
        (Command(image="registry.example/train:1"), "has no images"),
        (Command(image="none", argv=["no-such-program"]), "no program 'no-such-program'"),
    ):
        wished = member(command=command)
        here.agent().wish([wished])
        failed = await here.told.said("failed")
        assert why in failed.reason
        here.told.facts.clear()


async def test_what_is_left_of_a_kept_file_of_an_earlier_version_is_an_engine(here: Host) -> None:
    old = b'{"workload_id":"w","name":"tiny","devices":[],"incarnation":1,"boot_id":"b"}'
    here.folder.mkdir(parents=True)
    (here.folder / "workload.json").write_bytes(old)
    kept = process.recall(here.folder)
    assert kept is not None
    assert (kept.kind, kept.whole) == ("engine", False)
    (here.folder / "workload.json").unlink()


def in_container(image: str, program: str, **env: str) -> Any:
    return member(command=Command(image=image, argv=["/bin/sh", "-c", program], env=env))


async def test_a_member_runs_in_a_container_of_its_image_and_its_exit_code_is_kept(
    here: Host, image: str
) -> None:
    here.runs = Runs(runtime="podman", more=PODMAN_MORE)
    program = "busybox test $RANK = 0 && busybox test $EPOCHS = 3 && exit 7"
    wished = in_container(image, program, EPOCHS="3")
    here.agent().wish([wished])
    failed = await here.told.said("failed")
    assert failed.exit_code == 7


async def test_a_container_is_told_to_stop_and_none_is_left(here: Host, image: str) -> None:
    here.runs = Runs(runtime="podman", more=PODMAN_MORE)
    wished = in_container(image, "trap 'exit 0' TERM; echo begun; while :; do busybox sleep 0.1; done")
    agent = here.agent()
    agent.wish([wished])
    log = here.folder / wished.workload_id / "log"
    await until(lambda: log.exists() and b"begun" in log.read_bytes())
    agent.wish([])
    stopped = await here.told.said("stopped")
    assert stopped.exit_code == 0
    deaf = in_container(image, "trap '' TERM; echo begun; while :; do busybox sleep 0.1; done")
    deaf = msgspec.structs.replace(deaf, workload_id=test_id("workload", "deaf"))
    agent.wish([deaf])
    log = here.folder / deaf.workload_id / "log"
    await until(lambda: log.exists() and b"begun" in log.read_bytes())
    agent.wish([])
    await until(lambda: here.told.verbs().count("stopped") == 2)
    assert containers() == ""


async def test_without_podman_a_member_says_what_to_do(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.runs = Runs(runtime="podman")
    monkeypatch.setenv("PATH", "/nowhere")
    here.agent().wish([runs(TELL)])
    failed = await here.told.said("failed")
    assert "no podman on this server" in failed.reason
