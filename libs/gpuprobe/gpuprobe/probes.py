"""Every kind of check there is, in the order in which a level runs them."""

from gpuprobe import bandwidth, gemm_check, launches, memory, pcie, sram
from gpuprobe.probe import Probe

PROBES: tuple[Probe, ...] = (
    gemm_check.PROBE,
    launches.PROBE,
    memory.HASH,
    bandwidth.PROBE,
    sram.PROBE,
    pcie.PROBE,
    memory.MARCH,
    memory.PATTERNS,
    memory.RETENTION,
)
BY_NAME = {probe.name: probe for probe in PROBES}
