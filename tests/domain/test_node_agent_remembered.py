"""What a device measured before helps its check, and never spoils it."""

from pathlib import Path

import pytest
from gpuprobe.history import FILE_BYTES_MAX, History
from node_agent.probing import remembered


def test_what_was_measured_before_is_told_to_the_check(tmp_path: Path) -> None:
    file = tmp_path / "gpu-history.GPU-1.json"
    assert remembered(file) == ["--history", str(file)]
    History({"GPU-1": {"copy_gbps": [1.0]}}).write(file)
    assert remembered(file) == ["--history", str(file)]


@pytest.mark.parametrize(
    "held", [b"", b'{"GPU-1": {"copy', b"[]", b"\xff\xfe", b" " * (FILE_BYTES_MAX + 1)]
)
def test_a_file_that_holds_no_history_is_left_out_and_left_as_it_is(
    held: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "gpu-history.GPU-1.json"
    file.write_bytes(held)
    assert remembered(file) == []
    assert "move it away to begin anew" in caplog.text
    assert file.read_bytes() == held
