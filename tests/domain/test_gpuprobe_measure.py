"""The program that measures a card: each part by itself, what it could not do written down beside the rest."""

import json
from pathlib import Path

import pytest
from gpuprobe import measure
from gpuprobe.bench import Bench, spread
from gpuprobe.measure import PARTS, Ledger, Part

from tests.domain.probing import opened

QUICK = ("card", "start", "ceilings", "gemm", "kernels", "shapes", "exactness")


def test_every_short_part_runs_on_the_host_and_is_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    said: list[str] = []
    told = measure.run(opened("host"), Ledger(file), 60, smoke=True, only=QUICK, say=said.append)
    assert {name: entry.get("error") for name, entry in told["parts"].items()} == dict.fromkeys(QUICK)
    assert len(said) == len(QUICK)
    kept = json.loads(file.read_text())["parts"]
    assert kept["gemm"]["result"]["bf16"]["golden"] == {"1": True, "2": True}
    assert kept["kernels"]["result"]["wrong_words"] == 0
    assert kept["exactness"]["result"]["bf16"]["512"]["same_exact"] == 1.0


def test_a_part_that_fails_tells_why_and_the_next_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(bench: Bench) -> None:
        bench.tell({"half": 1})
        raise OSError("no such sensor")

    parts = (Part("broken", broken, 1), Part("late", lambda _: 1, 10_000), Part("good", lambda _: 2, 1))
    monkeypatch.setattr(measure, "PARTS", parts)
    file = tmp_path / "measured.json"
    told = measure.run(opened("numpy"), Ledger(file), 60, say=lambda _: None)["parts"]
    assert told["broken"]["error"] == "OSError: no such sensor"
    assert told["broken"]["result"] == {"half": 1}
    assert "were left" in told["late"]["not_measured"]
    assert told["good"]["result"] == 2
    assert json.loads(file.read_text())["parts"]["good"]["result"] == 2


def test_the_most_telling_parts_come_first_and_all_names_differ() -> None:
    names = [part.name for part in PARTS]
    assert len(set(names)) == len(names)
    assert names.index("gemm") < names.index("quick") < names.index("clean")


def test_a_spread_tells_where_values_lie() -> None:
    told = spread([float(n) for n in range(100)])
    assert (told["count"], told["p50"], told["p95"], told["p99"]) == (100, 50, 95, 99)
    assert (told["min"], told["max"]) == (0, 99)
    assert spread([]) == {"count": 0}
