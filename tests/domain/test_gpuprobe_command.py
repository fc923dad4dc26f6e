"""The command line: parts, baselines, a child with a deadline, and what is not understood."""

import json
from pathlib import Path

import pytest
from gpuprobe import __main__ as command
from gpuprobe import backend
from gpuprobe.backend import NoGpu
from gpuprobe.on_cuda import CudaBackend
from gpuprobe.presence import nvidia
from gpuprobe.probes import BY_NAME, PROBES


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, list[dict[str, object]]]:
    command.main(["--json", "--backend", "numpy", "--seed", "5", *arguments])
    said: dict[str, list[dict[str, object]]] = json.loads(capsys.readouterr().out)
    return said


def names(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[object]:
    return [check["name"] for check in told(capsys, *arguments)["checks"]]


def test_the_parts_of_a_level_are_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    whole = names(capsys, "--only", "memory_hash", "--only", "pcie", "--only", "sram")
    parts = [
        name
        for part in ("1/2", "2/2")
        for name in names(
            capsys, "--only", "memory_hash", "--only", "pcie", "--only", "sram", "--part", part
        )
    ]
    assert sorted(map(str, whole)) == sorted(map(str, parts)) == ["memory_hash", "pcie", "sram"]


def test_a_check_in_a_child_is_the_same_check(capsys: pytest.CaptureFixture[str]) -> None:
    own = told(capsys, "--only", "memory_hash", "--inject", "memory_hash:flip,word=12,bit=3")
    childs = told(
        capsys,
        "--only",
        "memory_hash",
        "--inject",
        "memory_hash:flip,word=12,bit=3",
        "--deadline",
        "60",
    )
    for check in (own["checks"][0], childs["checks"][0]):
        evidence = check["evidence"]
        assert isinstance(evidence, dict)
        check["evidence"] = {name: evidence[name] for name in ("seed", "word", "mask", "words_wrong")}
        check["took_ms"] = 0
    assert own["checks"] == childs["checks"]
    assert own["checks"][0]["verdict"] == "fail"


def test_baselines_are_read_and_added_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "baselines.json"
    for _ in range(3):
        told(capsys, "--only", "bandwidth", "--history", str(file))
    assert len(json.loads(file.read_text())["host"]["quick/copy_gbps"]) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--part", "4/3"], "4/3 is not like 1/3"),
        (["--part", "half"], "half is not like 1/3"),
        (["--inject", "memory:flip,word=1,bit=1"], "there is no probe memory; there are bandwidth"),
        (["--inject", "memory_hash:flip,word=1"], "bit missing"),
        (["--inject", "memory_hash:flip,word=1,bit=64"], "bit=64 is not understood"),
        (["--only", "everything"], "invalid choice"),
        (["--history", "."], "--history"),
        (["--seed", "-1"], "--seed: -1 is below 0"),
        (["--inject", "row=1,col=1,bit=1,device=3"], "device 3 is not checked; add --device 3"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_reason(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_every_check_runs_at_the_level_deep_on_the_host_and_on_a_gpu() -> None:
    assert len(BY_NAME) == len(PROBES)
    for probe in PROBES:
        assert "deep" in probe.sizes
        assert set(probe.sizes) == set(probe.small)


def broken(_: int) -> CudaBackend:
    raise NoGpu("no GPU can be used: the driver is of another version")


def test_a_gpu_whose_driver_is_broken_is_not_well_because_numpy_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CudaBackend, "open", broken)
    monkeypatch.setattr(backend, "nvidia", lambda: "NVIDIA's driver is loaded")
    status = command.main(["--json", "--only", "sram", "--seed", "1"])
    said = json.loads(capsys.readouterr().out)
    assert (status, said["verdict"]) == (3, "inconclusive")
    assert "driver is loaded, but no GPU can be used" in said["checks"][0]["detail"]
    assert command.main(["--json", "--only", "sram", "--seed", "1", "--backend", "numpy"]) == 0


def test_where_there_is_nothing_of_nvidias_the_references_run_and_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CudaBackend, "open", broken)
    monkeypatch.setattr(backend, "nvidia", lambda: None)
    assert command.main(["--json", "--only", "sram", "--seed", "1"]) == 0
    assert "no GPU is" in json.loads(capsys.readouterr().out)["checks"][0]["detail"]


def on_bus(root: Path, vendor: str, kind: str) -> None:
    device = root / "sys/bus/pci/devices/0000:05:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    (device / "class").write_text(kind + "\n")


def test_a_device_or_a_driver_is_known_by_what_the_kernel_says_of_it(tmp_path: Path) -> None:
    assert nvidia(tmp_path / "nothing") is None
    on_bus(tmp_path / "gpu", "0x10de", "0x030200")
    assert "0000:05:00.0" in str(nvidia(tmp_path / "gpu"))
    on_bus(tmp_path / "network", "0x10de", "0x020000")
    on_bus(tmp_path / "other", "0x1002", "0x030000")
    assert nvidia(tmp_path / "network") is nvidia(tmp_path / "other") is None
    (tmp_path / "loaded/proc/driver/nvidia").mkdir(parents=True)
    assert "driver" in str(nvidia(tmp_path / "loaded"))
    (tmp_path / "node/dev").mkdir(parents=True)
    (tmp_path / "node/dev/nvidia0").touch()
    assert "/dev" in str(nvidia(tmp_path / "node"))


def test_an_option_cut_short_is_refused_as_the_child_of_a_deadline_could_not_be_told() -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(["--dead", "5", "--backend", "numpy"])
    assert refused.value.code == 2
