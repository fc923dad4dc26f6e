"""What deploy/ asks for exists: metrics, labels, span attributes, data sources, pipeline parts.

``deploy/signals.json`` lists what the services emit; ``tests/mesh/test_exported.py`` holds it to what a
running mesh exports. Nothing is loaded into Grafana, Tempo, Prometheus or a collector here.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.house.tree import ROOT

DEPLOY = ROOT / "deploy"
PANEL_COLUMNS = 24
OWN_VARIABLES = {"__rate_interval"}
HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")

WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
NO_METRIC = {"and", "or", "unless", "by", "without", "on", "ignoring", "bool", "offset"}
ATTRIBUTE = re.compile(r"\b(span|resource)\.([a-z0-9_]+(?:\.[a-z0-9_]+)*)")


def signals() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "signals.json").read_text())
    return found


def dashboards() -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    return [json.loads(file.read_text()) for file in files]


def targets(dashboard: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target


def metrics_in(expression: str) -> set[str]:
    """Every name in a PromQL expression that is neither a function nor a label."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = GROUPING.sub("", bare)
    return {
        match[0]
        for match in WORD.finditer(bare)
        if match[0] not in NO_METRIC
        and not bare[match.end() :].lstrip().startswith("(")
        # A number's exponent is not a name.
        and not bare[: match.start()].endswith(tuple("0123456789"))
    }


def faults_of(expression: str, legend: str, known: dict[str, Any]) -> list[str]:
    """What a PromQL expression and its legend ask for that nobody emits, in words."""
    faults: list[str] = []
    labels = {name.replace(".", "_") for name in known["resource"]}
    for name in sorted(metrics_in(expression)):
        base = name
        for part in HISTOGRAM_PARTS:
            whole = name.removesuffix(part)
            if known["metrics"].get(whole, {}).get("kind") == "histogram" and whole != name:
                base = whole
        metric = known["metrics"].get(base)
        if metric is None:
            faults.append(f"nobody emits {name}")
            continue
        if (metric["kind"] == "histogram") is (base == name):
            faults.append(f"{name}: a histogram is asked for by its parts")
        if metric["kind"] == "gauge" and re.search(rf"\brate\({name}\b", expression):
            faults.append(f"{name} is a gauge: it has no rate")
        labels |= {*metric["labels"]} | ({"le"} if metric["kind"] == "histogram" else set())
    asked = {name.strip() for group in GROUPING.findall(expression) for name in group.split(",")}
    for _, matchers in SELECTOR.findall(expression):
        asked |= set(re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*"', matchers))
    asked |= {name.strip() for name in re.findall(r"\{\{([^}]*)\}\}", legend)}
    faults += [f"no metric of {expression} has the label {name}" for name in sorted(asked - labels)]
    return faults


def attribute_faults_of(query: str, known: dict[str, Any]) -> list[str]:
    """What a TraceQL query asks for that no span carries, in words."""
    carried = {name for names in known["spans"].values() for name in names}
    bare = re.sub(r'"[^"]*"', '""', query)
    faults = [
        f"no {scope} carries {name}"
        for scope, name in ATTRIBUTE.findall(bare)
        if name not in (carried if scope == "span" else known["resource"])
    ]
    services = re.findall(r'resource\.service\.name\s*=\s*"([^"]*)"', query)
    return faults + [f"no service is called {name}" for name in services if name not in known["spans"]]


def test_there_is_a_dashboard_for_the_road_of_a_request() -> None:
    assert "mesh-road-of-a-request" in {dashboard["uid"] for dashboard in dashboards()}


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: str(dashboard["uid"]))
def test_every_panel_asks_only_for_what_the_services_emit(dashboard: dict[str, Any]) -> None:
    known, faults, queries = signals(), [], Counter[str]()
    for title, target in targets(dashboard):
        kind = target["datasource"]["type"]
        queries[kind] += 1
        found = (
            faults_of(target["expr"], target["legendFormat"], known)
            if kind == "prometheus"
            else attribute_faults_of(target["query"], known)
        )
        faults += [f"{title}: {fault}" for fault in found]
    assert faults == []
    assert queries["prometheus"] >= 30
    assert queries["tempo"] >= 3


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: str(dashboard["uid"]))
def test_panels_use_provisioned_sources_and_variables_that_are_there(dashboard: dict[str, Any]) -> None:
    listed = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/mesh.yaml").read_text())
    provisioned = {(one["type"], one["uid"]) for one in listed["datasources"]}
    variables = {one["name"] for one in dashboard["templating"]["list"]} | OWN_VARIABLES
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            used = [panel["datasource"], *(one["datasource"] for one in panel["targets"])]
            assert {(one["type"], one["uid"]) for one in used} <= provisioned, panel["title"]
            assert panel["description"], f"{panel['title']} says nothing about what it shows"
    asked = set(re.findall(r"\$\{?(\w+)", json.dumps([one for _, one in targets(dashboard)])))
    assert asked <= variables


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: str(dashboard["uid"]))
def test_panels_stand_side_by_side(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: Counter[tuple[int, int]] = Counter()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= PANEL_COLUMNS
        for x in range(place["x"], place["x"] + place["w"]):
            taken.update((x, y) for y in range(place["y"], place["y"] + place["h"]))
    assert [cell for cell, panels in taken.items() if panels > 1] == []


@pytest.mark.parametrize(
    ("expression", "legend", "fault"),
    [
        ("sum(rate(mesh_gone_total[5m]))", "", "nobody emits mesh_gone_total"),
        ("up", "", "nobody emits up"),
        ("mesh_outbox_rows + on (owner) mesh_gone", "", "nobody emits mesh_gone"),
        ("mesh_outbox_rows_bucket", "", "nobody emits mesh_outbox_rows_bucket"),
        ("mesh_ask_seconds", "", "mesh_ask_seconds: a histogram is asked for by its parts"),
        ("rate(mesh_outbox_rows[5m])", "", "mesh_outbox_rows is a gauge: it has no rate"),
        ("sum by (color) (mesh_outbox_rows)", "", "the label color"),
        ('mesh_outbox_rows{color=~"a|b"}', "", "the label color"),
        ("mesh_outbox_rows", "{{color}}", "the label color"),
        ("sum by (le, tag) (rate(mesh_ask_seconds_bucket[5m])) * 1e3", "{{tag}}", None),
        ('1 - (sum(mesh_outbox_rows{owner!="x"}) or vector(0))', "{{service_name}}", None),
    ],
)
def test_a_panel_that_asks_for_what_nobody_emits_is_found(
    expression: str, legend: str, fault: str | None
) -> None:
    found = faults_of(expression, legend, signals())
    assert (len(found) == 1 and fault in found[0]) if fault else found == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ('{ span.mesh.colour = "red" }', "no span carries mesh.colour"),
        ('{ resource.host.name = "a" }', "no resource carries host.name"),
        ('{ resource.service.name = "gateway" }', "no service is called gateway"),
        ('{ span.mesh.request_id = "span.of.text" && duration > 2s }', None),
    ],
)
def test_a_query_for_an_attribute_that_no_span_carries_is_found(query: str, fault: str | None) -> None:
    assert attribute_faults_of(query, signals()) == ([fault] if fault else [])


def test_the_collectors_pipelines_use_what_is_defined_and_all_of_it() -> None:
    assert collector_faults(_collector()) == []
    signals_piped = {name.partition("/")[0] for name in _collector()["service"]["pipelines"]}
    assert signals_piped == {"traces", "metrics", "logs"}


def test_a_pipeline_with_an_undefined_part_is_found() -> None:
    for part in ("receivers", "processors", "exporters"):
        broken = _collector()
        broken["service"]["pipelines"]["traces"][part].append("nobody")
        assert collector_faults(broken) == [f"traces: {part} has no nobody"]
    unused = _collector()
    unused["exporters"]["debug"] = {}
    assert collector_faults(unused) == ["debug in exporters is in no pipeline"]


def test_prometheus_scrapes_what_the_collector_offers_under_the_names_that_panels_use() -> None:
    offered = _collector()["exporters"]["prometheus"]
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    assert [offered["endpoint"]] in [
        static["targets"] for job in scraped["scrape_configs"] for static in job["static_configs"]
    ]
    assert offered["add_metric_suffixes"] is False
    assert offered["resource_to_telemetry_conversion"] == {"enabled": True}


def test_links_between_data_sources_lead_to_data_sources() -> None:
    listed = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/mesh.yaml").read_text())
    uids = {one["uid"] for one in listed["datasources"]}
    linked = re.findall(r'"datasourceUid": "([^"]*)"', json.dumps(listed))
    assert linked
    assert set(linked) <= uids
    assert all(urlsplit(one["url"]).port for one in listed["datasources"])


def collector_faults(config: dict[str, Any]) -> list[str]:
    """Parts that pipelines name and nobody defines, and parts that no pipeline uses, in words."""
    faults = []
    used: dict[str, set[str]] = {part: set() for part in ("receivers", "processors", "exporters")}
    for name, pipeline in config["service"]["pipelines"].items():
        for part, names in used.items():
            names.update(pipeline[part])
            faults += [
                f"{name}: {part} has no {one}" for one in pipeline[part] if one not in config[part]
            ]
    for part, names in used.items():
        faults += [f"{one} in {part} is in no pipeline" for one in config[part] if one not in names]
    return faults


def _collector() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "otel" / "collector.yaml").read_text())
    return found
