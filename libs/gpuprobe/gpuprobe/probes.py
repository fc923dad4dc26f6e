"""Every kind of check there is, in the order in which a level runs them.

What takes much memory comes last, on one piece that is held: the driver clears what is given back
beside whatever runs next, which is slower for it.
"""

from gpuprobe import (
    bandwidth,
    gemm_check,
    launches,
    memory,
    pcie,
    peers_check,
    pulse_check,
    soak_check,
    sram,
    sweep_check,
)
from gpuprobe.probe import Probe

PROBES: tuple[Probe, ...] = (
    bandwidth.PROBE,
    pcie.PROBE,
    gemm_check.PROBE,
    sweep_check.PROBE,
    sram.PROBE,
    peers_check.PROBE,
    pulse_check.PROBE,
    soak_check.PROBE,
    launches.PROBE,
    memory.HASH,
    memory.MARCH,
    memory.PATTERNS,
    memory.RETENTION,
)
BY_NAME = {probe.name: probe for probe in PROBES}
