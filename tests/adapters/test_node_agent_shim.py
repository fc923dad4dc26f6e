"""A shim and what its engine prints: the address is found whatever stands beside it."""

import os
import signal
import sys
from pathlib import Path

from meshkit.testing import test_id
from node_agent.runtimes import process

from tests.adapters.engines import until

WORKLOAD = test_id("workload", "of the shim")
PROGRAM = """
import sys, time
from node_agent.engines.llama_server import announce
sys.stderr.write("0.00.142.477 ")
sys.stderr.flush()
announce("ENGINE_ADDRESS=127.0.0.1:41229")
sys.stderr.write("W srv    load_model: ...\\n")
"""


STRAY = """
import os, time
if os.fork() == 0:
    os.setsid()
    while True:
        os.write(1, b"ENGINE_ADDRESS=\\n" * 10_000)
time.sleep(0.2)
"""


async def test_who_leaves_its_group_and_prints_on_does_not_keep_the_end_from_being_said(
    tmp_path: Path,
) -> None:
    kept = process.Kept(
        workload_id=WORKLOAD, name="train", devices=[], incarnation=1, boot_id=process.boot_id()
    )
    shim = process.launch(tmp_path, kept, [sys.executable, "-c", STRAY], {}, None)
    try:
        await until(lambda: process.ended(shim))
    except TimeoutError:
        os.kill(shim, signal.SIGKILL)
        raise
    found = process.look(tmp_path, WORKLOAD)
    assert (found.exit_code, found.why) == (0, "ended")


async def test_an_address_is_heard_though_another_thread_is_in_the_middle_of_a_line(
    tmp_path: Path,
) -> None:
    kept = process.Kept(
        workload_id=WORKLOAD, name="tiny", devices=[], incarnation=1, boot_id=process.boot_id()
    )
    shim = process.launch(tmp_path, kept, [sys.executable, "-P", "-c", PROGRAM], {}, None)
    await until(lambda: process.ended(shim))
    found = process.look(tmp_path, WORKLOAD)
    assert (found.address, found.exit_code) == ("127.0.0.1:41229", 0)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == ["0.00.142.477 ", "ENGINE_ADDRESS=127.0.0.1:41229", "W srv    load_model: ..."]
