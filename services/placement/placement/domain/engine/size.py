"""What a workload takes, and on which terms: the two halves of a request that decide where it fits."""

from typing import Literal

import msgspec

MILLI_PER_GPU = 1_000

Level = Literal["node", "nvlink", "rack", "leaf", "rail", "pdu", "row", "hall", "site"]
"""Parts of a site, by name: power runs rack, PDU, row, hall, site; the fabric NVLink domain, leaf, rail."""


class Size(msgspec.Struct, frozen=True, order=True, kw_only=True, omit_defaults=True):
    """What one member takes of one node. Equal sizes share one vector of scores.

    At most one of ``gpus`` (whole ones), ``gpu_milli`` (thousandths of one) and ``mig`` (one
    instance of that profile) is asked for; none of them is a member that needs no GPU.
    ``models`` are the GPU models that will do; none named is any.
    """

    gpus: int = 0
    gpu_milli: int = 0
    mig: str = ""
    cpu_milli: int = 0
    memory_mib: int = 0
    models: tuple[str, ...] = ()

    @property
    def cards(self) -> int:
        """On how many GPUs of its node a member sits."""
        return self.gpus or int(bool(self.gpu_milli or self.mig))

    @property
    def milli_each(self) -> int:
        """How many thousandths of each of its GPUs a member takes (a MIG instance takes slices)."""
        return MILLI_PER_GPU if self.gpus else self.gpu_milli

    @property
    def milli(self) -> int:
        """How many thousandths of GPUs a member takes in all."""
        return self.cards * self.milli_each


class Terms(msgspec.Struct, frozen=True, order=True, kw_only=True, omit_defaults=True):
    """On which terms: where the data may be, what the place must be certified for, who else may be near.

    No jurisdiction named is anywhere. ``isolation`` is the part of the site that nobody but
    ``tenant`` may share while the workload is there.
    """

    jurisdictions: tuple[str, ...] = ()
    assurances: tuple[str, ...] = ()
    tenant: str = ""
    isolation: Literal["", "node", "nvlink", "rack"] = ""
