"""Every kind of check there is, in the order in which a level runs them."""

from gpuprobe import gemm_check
from gpuprobe.probe import Probe

PROBES: tuple[Probe, ...] = (gemm_check.PROBE,)
BY_NAME = {probe.name: probe for probe in PROBES}
