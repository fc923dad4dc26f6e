"""What an engine says of its own load, read from its metrics page (Prometheus text)."""

import msgspec

RUNNING = ("vllm:num_requests_running", "llamacpp:requests_processing")
WAITING = ("vllm:num_requests_waiting", "llamacpp:requests_deferred")
KV_USE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "llamacpp:kv_cache_usage_ratio")
LINES_MAX = 20_000
COUNT_MAX = 1e9


class Signals(msgspec.Struct, frozen=True):
    """Requests an engine computes and holds back, and how full its KV cache is (0 to 1), where it says so."""

    running: int
    waiting: int
    kv_use: float | None = None


def parse(text: str) -> Signals | None:
    """Return the signals on a metrics page, or nothing where it counts no requests.

    An engine with several cores has a line for each: requests are summed, and the fullest cache counts.
    """
    counts = {"running": 0.0, "waiting": 0.0}
    use: float | None = None
    found = False
    for line in text.split("\n", LINES_MAX)[:LINES_MAX]:
        if not line.startswith(("vllm:", "llamacpp:")):
            continue
        name, value = _sample(line)
        if value is None:
            continue
        if name in RUNNING:
            counts["running"] += value
            found = True
        elif name in WAITING:
            counts["waiting"] += value
        elif name in KV_USE:
            use = max(use or 0.0, min(value, 1.0))
    if not found:
        return None
    return Signals(round(counts["running"]), round(counts["waiting"]), use)


def _sample(line: str) -> tuple[str, float | None]:
    """Return a line's name and value; the labels, which may hold spaces and braces, say nothing here."""
    name, braced, rest = line.partition("{")
    if braced:
        after = rest.rpartition("}")[2].split()
    else:
        name, *after = line.split()
    try:
        value = float(after[0])
    except (IndexError, ValueError):
        return name, None
    return name, value if 0 <= value <= COUNT_MAX else None
