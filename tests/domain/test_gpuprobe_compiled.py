"""Every kernel compiles for the GPUs we promise, without spilling registers."""

import pytest
from gpuprobe import build, source


@pytest.fixture(scope="module")
def compiler() -> None:
    try:
        build.nvrtc()
    except (build.NoCompiler, OSError) as fault:
        pytest.skip(f"{fault} (dependency group gpu-check)")


QUICK = "sm_90"
"""The architecture that is compiled for in the quick gate; the others take as long again."""

ARCHES = [a if a == QUICK else pytest.param(a, marks=pytest.mark.slow) for a in build.ARCHES]


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("file", source.names())
def test_a_kernel_file_compiles_and_spills_nothing(compiler: None, file: str, arch: str) -> None:
    code, reports = build.compile_kernels(file, arch)
    assert code[:4] == b"\x7fELF"
    expected = {name for name, kernel in source.kernels().items() if kernel.file == file}
    assert {report.kernel for report in reports} == expected
    assert [report for report in reports if report.spill_bytes or report.stack_bytes] == []


def test_a_spill_in_the_compilers_log_is_read() -> None:
    log = (
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'k' for 'sm_90'\n"
        "ptxas info    : Function properties for k\n"
        "    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size\n"
    )
    assert build.reports(log) == [build.Report("k", 255, 16, 12)]
