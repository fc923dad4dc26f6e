"""Whether an endpoint may be wished for at all: what no free capacity would ever make possible."""

from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec
from mesh_contracts.ask import Problem
from mesh_contracts.placement import CreateEndpoint, Engine, Model, Replicas, Resources, Routing

from placement.domain.engine.mig import PROFILES, weight_of
from placement.domain.fleet import MILLI_PER_GPU

VLLM_SOURCES = ("path", "huggingface")
LORAS_MAX = 16
BUILTIN_MODELS = {"tiny": False, "all-minilm-l6-v2": True}
"""Models that ship with the mesh, and whether each makes embeddings."""
REPLICAS_MAX = 64
WINDOW_MS_MAX = 24 * 3_600_000
"""The longest window over which demand is looked at: what is older is forgotten."""
TEXT_CHARS_MAX = 1_024
JURISDICTIONS_MAX = 250
"""As many as there are countries."""
ENDPOINTS_PER_PROJECT_MAX = 100


def invalid(param: str, detail: str, code: str = "invalid_value") -> Problem:
    """Return a 422 that names the field at fault and what to write instead."""
    return Problem(
        title="The request cannot be met as it is", status=422, code=code, detail=detail, param=param
    )


def admit(ask: CreateEndpoint) -> Engine | Problem:
    """Return the engine to run (``embedding`` filled in for builtin models), or what is wrong."""
    fault = (
        bad_texts(ask)
        or bad_replicas(ask.replicas)
        or bad_routing(ask.routing, ask.name)
        or bad_resources(ask.resources)
        or _vllm_without_gpus(ask)
        or bad_jurisdictions(ask.residency.jurisdictions)
        or (
            bad_url(ask.engine.url)
            if ask.engine.kind == "external"
            else bad_model(ask.engine, ask.model)
        )
    )
    if fault is not None:
        return fault
    makes_embeddings = ask.engine.kind == "llama" and BUILTIN_MODELS[ask.model.id]
    return msgspec.structs.replace(ask.engine, embedding=ask.engine.embedding or makes_embeddings)


def bad_texts(ask: CreateEndpoint) -> Problem | None:
    """Return which text is too long, if any: each stands in a route or an intent, for ever."""
    texts = {
        "model.id": ask.model.id,
        "model.source": ask.model.source,
        "engine.url": ask.engine.url or "",
        "resources.gpu_model": ask.resources.gpu_model or "",
    }
    for param, text in texts.items():
        if len(text) > TEXT_CHARS_MAX:
            return invalid(param, f"{param} may have at most {TEXT_CHARS_MAX} characters")
    return None


def bad_model(engine: Engine, model: Model) -> Problem | None:
    """Return what is wrong with what a node should start, if anything."""
    if engine.url is not None:
        return invalid(
            "engine.url", 'url belongs to {"kind": "external"}: leave it out, or change the kind'
        )
    if engine.kind == "vllm":
        return _bad_vllm(engine, model)
    if engine.loras:
        return invalid(
            "engine.loras", 'adapters belong to {"kind": "vllm"}: leave them out, or change the kind'
        )
    if model.source != "builtin":
        detail = 'only {"source": "builtin"} can be started by this version'
        return invalid("model.source", detail, "model_source_unavailable")
    if model.id not in BUILTIN_MODELS:
        detail = f"no builtin model {model.id}: there are {', '.join(sorted(BUILTIN_MODELS))}"
        return invalid("model.id", detail, "model_unknown")
    return None


def _bad_vllm(engine: Engine, model: Model) -> Problem | None:
    if model.source not in VLLM_SOURCES:
        known = " or ".join(f'"{source}"' for source in VLLM_SOURCES)
        detail = f"vllm takes its weights from {known}: a folder on the server, or a repository that it fetches"
        return invalid("model.source", detail, "model_source_unavailable")
    if model.source == "path" and not model.id.startswith("/"):
        return invalid("model.id", "with the source path it is a folder on the server, from / on")
    if len(engine.loras) > LORAS_MAX:
        return invalid("engine.loras", f"at most {LORAS_MAX} adapters")
    too_long = [name for name, source in engine.loras.items() if len(source) > TEXT_CHARS_MAX]
    if too_long or any(text.startswith("-") for text in (model.id, *engine.loras.values())):
        param = "engine.loras" if too_long or not model.id.startswith("-") else "model.id"
        return invalid(
            param,
            f"a folder or a repository, at most {TEXT_CHARS_MAX} characters, not beginning with -",
        )
    return None


def _vllm_without_gpus(ask: CreateEndpoint) -> Problem | None:
    if ask.engine.kind == "vllm" and not ask.resources.gpus:
        return invalid(
            "resources.gpus", "vllm takes whole GPUs, and splits the model over them: ask for 1 or more"
        )
    return None


def bad_replicas(replicas: Replicas) -> Problem | None:
    """Return what is wrong with the bounds of replicas, if anything."""
    if not 1 <= replicas.max <= REPLICAS_MAX:
        return invalid("replicas.max", f"replicas.max must be between 1 and {REPLICAS_MAX}")
    if replicas.min > replicas.max:
        return invalid("replicas.min", f"replicas.min must not pass replicas.max ({replicas.max})")
    for name in ("up_after_ms", "down_after_ms", "sleep_after_ms"):
        if getattr(replicas, name) > WINDOW_MS_MAX:
            return invalid(f"replicas.{name}", f"{name} may be at most {WINDOW_MS_MAX} (a day)")
    return None


def bad_routing(routing: Routing, name: str) -> Problem | None:
    """Return what is wrong with how requests are led, if anything.

    An alias may be the name of another endpoint: that endpoint keeps its own name.
    """
    lists = {
        "routing.aliases": [alias.name for alias in routing.aliases],
        "routing.fallbacks": routing.fallbacks,
        "routing.loras": routing.loras,
    }
    for param, names in lists.items():
        if name in names:
            return invalid(param, f"{param} names {name!r} itself: leave it out")
        twice = next((one for one in names if names.count(one) > 1), None)
        if twice is not None:
            return invalid(param, f"{param} names {twice!r} twice: leave one out")
    return None


def bad_resources(resources: Resources) -> Problem | None:
    """Return what is wrong with a replica's size, if anything."""
    if resources.mig is not None:
        fault = _bad_mig(resources)
        if fault is not None:
            return fault
    if resources.gpus and resources.gpu_milli:
        return invalid(
            "resources.gpu_milli", "ask for whole gpus or for gpu_milli of one, not for both"
        )
    if resources.gpu_milli > MILLI_PER_GPU:
        detail = f"gpu_milli is a share of one GPU, at most {MILLI_PER_GPU}: ask for gpus instead"
        return invalid("resources.gpu_milli", detail)
    if resources.memory_mib < 1:
        return invalid("resources.memory_mib", "memory_mib must be at least 1")
    return None


def _bad_mig(resources: Resources) -> Problem | None:
    if resources.gpus or resources.gpu_milli:
        return invalid(
            "resources.mig", "ask for a MIG instance, for gpus or for gpu_milli: for one of them"
        )
    if resources.mig not in PROFILES:
        known = ", ".join(sorted(PROFILES, key=weight_of))
        detail = f"no GPU is known that has a MIG profile {resources.mig!r}: there are {known}"
        return invalid("resources.mig", detail)
    return None


def bad_jurisdictions(jurisdictions: list[str]) -> Problem | None:
    """Return what is wrong with where the data may be, if anything."""
    if not 1 <= len(jurisdictions) <= JURISDICTIONS_MAX:
        detail = f'name 1 to {JURISDICTIONS_MAX} countries, for example ["FR"]'
        return invalid("residency.jurisdictions", detail)
    for country in jurisdictions:
        if not (len(country) == 2 and country.isascii() and country.isalpha() and country.isupper()):
            detail = f"{country!r} is not an ISO 3166-1 alpha-2 code such as FR"
            return invalid("residency.jurisdictions", detail)
    return None


def bad_url(url: str | None) -> Problem | None:
    """Return what is wrong with an external engine's URL, if anything."""
    fault = _fault_of(url or "")
    return None if fault is None else invalid("engine.url", fault)


def _fault_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "the url cannot be read: write http://host:port/v1"
    faults = {
        "the url must begin with http:// or https://": parts.scheme not in {"http", "https"},
        "the url must name a host, for example http://127.0.0.1:8000/v1": not host,
        "the url must hold no user or password": bool(parts.username or parts.password),
        "the url must hold no query or fragment": bool(parts.query or parts.fragment),
        "the url must be plain ASCII without spaces": not url.isascii() or any(map(str.isspace, url)),
        f"{host} is no address of a server that may be routed to": _unroutable(host or ""),
    }
    return next((said for said, wrong in faults.items() if wrong), None)


def _unroutable(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        # Resolvers take a name that ends in a number for an address, written as few would read it.
        last = host.rstrip(".").rpartition(".")[2]
        return last.isdigit() or last.startswith("0x")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_link_local or address.is_multicast or address.is_unspecified
