"""One request as people read it: whose, where it went and why, what it took and cost."""

from collections.abc import Iterator
from typing import Any

from mesh_tools.cli import show

Line = tuple[str, str]

UNKNOWN = "unknown"
"""Nobody counted it, which differs from none."""

COUNTERS = {
    "requests_left": "requests",
    "tokens_left": "tokens",
    "parallel_left": "at once",
    "microeur_left": "micro-euros",
}
WHY = {
    "only": "it was the only one",
    "least_load": "it had least to do",
    "prefix": "it has seen the beginning of the prompt",
    "session": "it has served this session",
    "lora": "it holds the adapter",
    "canary": "by weight",
    "round_robin": "it was its turn",
    "probe": "it was tried again after failures",
    "retry": "another one had failed",
}
PASSED_OVER = {
    "tried": "it had failed this request",
    "circuit_open": "it had failed too often",
    "ejected": "it had answered too slowly",
    "full": "it took no more",
}


def lines(told: dict[str, Any]) -> Iterator[Line]:
    """Yield (name, value) of what is known of a request, in the order of its road."""
    usage = told["usage"]
    why = usage.get("explained") or {}
    yield "request", told["request_id"]
    yield "project", told["project"]
    yield "key", usage["key_id"]
    asked = why.get("asked_as")
    yield "model", usage["model"] + (f" (asked for as {asked})" if asked else "")
    yield "route", usage["route"] + (", streamed" if usage["streamed"] else "")
    yield "started", usage["started_at"]
    yield from _many("counted against", (_counted(one) for one in why.get("counted") or []))
    position = why.get("queue_position")
    waited = _ms(usage.get("queue_us"))
    yield "queued", waited if position is None else f"{waited}, at place {position}"
    yield from _road(usage, why)
    yield from _outcome(usage)
    yield "cost", f"{show.euros('cost_microeur')(told)} EUR by {told['price_id']}"
    yield from _footprint(told.get("footprint") or {})
    yield "trace", told.get("trace_id") or "not traced"


def text(told: dict[str, Any]) -> str:
    """Return all of it as lines of a name and a value."""
    return "\n".join(f"{name:24} {value}" for name, value in lines(told))


def _road(usage: dict[str, Any], why: dict[str, Any]) -> Iterator[Line]:
    chosen = usage.get("workload_id")
    by = why.get("chosen_by")
    said = chosen or "none"
    if usage.get("node_id"):
        said += f" on {usage['node_id']}"
    yield "replica", said + (f": {WHY.get(by, by)}" if chosen and by else "")
    yield from _many("considered", (_considered(one) for one in why.get("considered") or []))
    yield from _many(
        "tried", (f"{one['workload_id']}: {one['reason']}" for one in why.get("tried") or [])
    )
    yield "attempts", str(usage.get("attempts", 1))


def _outcome(usage: dict[str, Any]) -> Iterator[Line]:
    ends = [usage["state"], f"status {usage['status']}"]
    ends += [usage[name] for name in ("finish_reason", "reason") if usage.get(name)]
    yield "ended", ", ".join(ends)
    for name, label in (
        ("prompt_tokens", "prompt tokens"),
        ("cached_tokens", "of these cached"),
        ("completion_tokens", "completion tokens"),
    ):
        count = usage.get(name)
        yield label, UNKNOWN if count is None else str(count)
    origin = {"engine": "the engine's report", "counted": "the gateway's count", "none": "nobody"}
    yield "tokens by", origin[usage["tokens_from"]]
    yield "time to first token", _ms(usage.get("first_token_us"))
    yield "time per output token", _ms(usage.get("output_token_us"))


def _footprint(footprint: dict[str, Any]) -> Iterator[Line]:
    if footprint.get("state") == "settled":
        quality, factor = (footprint.get(name) or UNKNOWN for name in ("quality", "factor_id"))
        yield "energy", f"{show.watt_hours(footprint['energy_uj'])} Wh ({quality})"
        yield "carbon", f"{show.milligrams(footprint['carbon_ug'])} mg by {factor}"
        return
    said = footprint.get("state") or UNKNOWN
    if footprint.get("since"):
        said += f" since {footprint['since']}"
    why = [footprint[name] for name in ("reason", "why") if footprint.get(name)]
    yield "energy and carbon", ": ".join([said, *why])


def _many(name: str, values: Iterator[str]) -> Iterator[Line]:
    for number, value in enumerate(values):
        yield ("" if number else name), value


def _counted(one: dict[str, Any]) -> str:
    left = [f"{one[name]} {word} left" for name, word in COUNTERS.items() if one.get(name) is not None]
    return f"{one['scope']}: {', '.join(left) or 'nothing bounds it'}"


def _considered(one: dict[str, Any]) -> str:
    said = f"{one['workload_id']}: load {one.get('load', 0)}, {one.get('in_flight', 0)} in flight"
    over = one.get("passed_over")
    return f"{said}, passed over: {PASSED_OVER.get(over, over)}" if over else said


def _ms(microseconds: int | None) -> str:
    return UNKNOWN if microseconds is None else f"{microseconds / 1_000:.3f} ms"
