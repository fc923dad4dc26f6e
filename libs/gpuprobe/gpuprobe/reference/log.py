"""How the references write into the log of what is wrong."""

from typing import Any

import numpy as np

from gpuprobe.wrongs import LOG_HEAD, LOG_MAX, LOG_WIDE


def note(log: Any, where: Any, expected: Any, found: Any, tag: int, sm: int = 0) -> None:
    """Add the words that differ: ``where`` uint64[n], ``expected`` and ``found`` uint32[n]."""
    at = np.flatnonzero(expected != found)
    if not at.size:
        return
    log[0] += np.uint64(at.size)
    log[1] = min(log[1], np.uint64(where[at].min()))
    log[2] |= np.bitwise_or.reduce(expected[at] ^ found[at]).astype(np.uint64)
    for i in at[:LOG_MAX]:
        slot = int(log[3])
        log[3] += np.uint64(1)
        if slot < LOG_MAX:
            entry = LOG_HEAD + slot * LOG_WIDE
            log[entry] = where[i]
            log[entry + 1] = int(expected[i]) << 32 | int(found[i])
            log[entry + 2] = tag << 32 | sm
