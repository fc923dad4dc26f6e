"""The Tiltfile, evaluated by a Starlark interpreter with checked stubs: this is not Tilt itself."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import starlark as sl

ROOT = Path(__file__).resolve().parents[2]
SERVICES = {
    "identity",
    "placement",
    "metering",
    "carbon-accounting",
    "inference-gateway",
    "node-agent",
}


class Tilt:
    """What a Tiltfile may call, with Tilt's own argument names; it keeps what was declared."""

    def __init__(self, mode: str | None) -> None:
        self.mode = mode
        self.resources: dict[str, dict[str, Any]] = {}

    def local_resource(
        self,
        name: str,
        *,
        cmd: list[str] | None = None,
        serve_cmd: list[str] | None = None,
        deps: list[str] | None = None,
        ignore: list[str] | None = None,
        readiness_probe: dict[str, Any] | None = None,
        resource_deps: list[str] | None = None,
        labels: list[str] | None = None,
        links: list[Any] | None = None,
        auto_init: bool = True,
        trigger_mode: str = "auto",
    ) -> None:
        assert name not in self.resources, f"{name} is declared twice"
        declared = dict(locals())
        declared.pop("self")
        self.resources[name] = declared

    def probe(
        self,
        *,
        period_secs: int = 10,
        timeout_secs: int = 1,
        failure_threshold: int = 3,
        exec: dict[str, Any] | None = None,  # noqa: A002 Tilt's own name
        http_get: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        assert (exec is None) != (http_get is None), "a probe has exactly one action"
        return {"exec": exec, "http_get": http_get, "period_secs": period_secs}

    def exec_action(self, command: list[str]) -> dict[str, Any]:
        return {"command": command}

    def http_get_action(self, *, port: int, path: str) -> dict[str, Any]:
        return {"port": port, "path": path}

    def link(self, url: str, name: str) -> list[str]:
        assert url.startswith("http://127.0.0.1:")
        return [url, name]

    def stop(self, message: str) -> None:
        raise RuntimeError(message)


def checked(stub: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``stub`` behind a check of its arguments' names."""
    signature = inspect.signature(stub)

    def call(*args: Any, **kwargs: Any) -> Any:
        signature.bind(*args, **kwargs)
        return stub(*args, **kwargs)

    return call


def evaluate(mode: str | None = None, source: str | None = None) -> Tilt:
    tilt = Tilt(mode)
    module = sl.Module()
    for name in ("local_resource", "probe", "exec_action", "http_get_action", "link"):
        module.add_callable(name, checked(getattr(tilt, name)))
    module.add_callable("fail", tilt.stop)
    module.add_callable("config_define_string", lambda name, **_: None)
    module.add_callable("config_parse", lambda: {"mode": tilt.mode} if tilt.mode else {})
    module["TRIGGER_MODE_MANUAL"] = "manual"
    text = (ROOT / "Tiltfile").read_text() if source is None else source
    prelude = "config = struct(define_string=config_define_string, parse=config_parse)\n"
    dialect = sl.Dialect.extended()
    dialect.enable_top_level_stmt = True
    globals_ = sl.Globals.extended_by([sl.LibraryExtension.StructType])
    sl.eval(module, sl.parse("Tiltfile", prelude + text, dialect=dialect), globals_)
    return tilt


def test_every_service_is_a_local_process_with_a_probe_labels_and_links_under_starlark_not_tilt() -> (
    None
):
    resources = evaluate().resources
    assert set(resources) >= SERVICES
    for name in SERVICES:
        resource = resources[name]
        assert resource["serve_cmd"][:3] == ["./mesh", "run", name]
        assert resource["readiness_probe"]["http_get"]["path"] == "/readyz"
        assert str(resource["readiness_probe"]["http_get"]["port"]) in resource["serve_cmd"]
        assert resource["labels"] == ["services"]
        assert resource["links"]
        assert all((ROOT / watched).is_dir() for watched in resource["deps"]), resource["deps"]


def test_the_graph_of_resources_is_closed_and_has_no_circle_under_starlark_not_tilt() -> None:
    resources = evaluate().resources
    placed: set[str] = set()
    waiting = {name: set(one["resource_deps"] or []) for name, one in resources.items()}
    assert all(needs <= set(resources) for needs in waiting.values())
    while waiting:
        free = {name for name, needs in waiting.items() if needs <= placed}
        assert free, f"a circle among {sorted(waiting)}"
        placed |= free
        waiting = {name: needs for name, needs in waiting.items() if name not in free}


def test_what_serves_has_a_probe_and_the_demo_waits_for_a_hand_under_starlark_not_tilt() -> None:
    resources = evaluate().resources
    assert all(one["readiness_probe"] for one in resources.values() if one["serve_cmd"])
    assert resources["demo"]["auto_init"] is False
    assert resources["demo"]["trigger_mode"] == "manual"


@pytest.mark.parametrize(("mode", "said"), [("kubernetes", "not there yet"), ("moon", "must be local")])
def test_another_mode_fails_with_what_to_do_under_starlark_not_tilt(mode: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        evaluate(mode)


def test_a_misspelt_argument_is_noticed_under_starlark_not_tilt() -> None:
    with pytest.raises(Exception, match="serve_command"):
        evaluate(source="local_resource('x', serve_command=['y'])")
