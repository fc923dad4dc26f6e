"""The kernel's log: what was logged while no agent was there is heard by the next, and nothing twice."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from node_agent.kernel_log import FILE, Heard, KernelLog

from tests.adapters.engines import until

pytestmark = pytest.mark.slow


class Log:
    """A pipe that holds all that was logged, for each reader from its beginning, as the kernel's log does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "kmsg"
        self.records = b""
        self.writer = -1

    def logs(self, number: int, message: str) -> None:
        record = f"6,{number},{number * 100},-;{message}\n SUBSYSTEM=pci\n".encode()
        self.records += record
        if self.writer >= 0:
            os.write(self.writer, record)

    @asynccontextmanager
    async def heard(self, folder: Path | None) -> AsyncIterator[list[str]]:
        """Have an agent hear for the block; give what it heard of errors."""
        heard: list[str] = []

        def told(line: str) -> bool:
            if "Xid" in line:
                heard.append(line)
            return "Xid" in line

        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path)
        self.writer = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        os.write(self.writer, self.records)
        log = KernelLog(self.path, told, folder)
        try:
            log.start()
            yield heard
        finally:
            log.stop()
            os.close(self.writer)
            self.writer = -1


async def test_what_is_logged_while_no_agent_is_there_is_heard_by_the_next_once(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.logs(7, "Xid before any agent")
    async with log.heard(tmp_path) as heard:
        log.logs(8, "Xid one")
        log.logs(9, "usb 1-1: new device")
        await until(lambda: heard == ["Xid one"])
    log.logs(10, "Xid two")
    async with log.heard(tmp_path) as heard:
        await until(lambda: heard == ["Xid two"])
        log.logs(11, "Xid three")
        await until(lambda: heard == ["Xid two", "Xid three"])
    async with log.heard(tmp_path) as heard:
        log.logs(12, "Xid four")
        await until(lambda: heard == ["Xid four"])


async def test_after_a_boot_all_that_it_logged_is_heard(tmp_path: Path) -> None:
    log = Log(tmp_path)
    (tmp_path / FILE).write_bytes(msgspec.json.encode(Heard("another boot", 1_000)))
    log.logs(3, "Xid at the start")
    async with log.heard(tmp_path) as heard:
        await until(lambda: heard == ["Xid at the start"])


async def test_a_file_that_nobody_can_wait_for_is_not_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "kern.log"
    file.write_text("6,1,1,-;Xid\n")
    (tmp_path / FILE).write_bytes(msgspec.json.encode(Heard("another boot", 1_000)))
    log = KernelLog(file, lambda _: True, tmp_path)
    log.start()
    await asyncio.sleep(0)
    assert not log.open
    assert "nobody can wait for" in caplog.text
