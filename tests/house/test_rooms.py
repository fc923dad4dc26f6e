"""The rooms are where the README says, each with a caption, and no file is too long to be read."""

import ast
import json
import re

import pytest

from tests.house.tree import ROOT, folders, python_files

SERVICES = {"identity", "placement", "node-agent", "inference-gateway", "metering", "carbon-accounting"}
LINES_MAX = 300
MAIN_LINES_MAX = 40
LENGTHS = ROOT / "tests" / "house" / "lengths.json"


def test_the_readme_maps_every_room_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## The rooms")[2].partition("\n## ")[0]
    mapped = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    rooms = {f"{name}/" for name in folders(ROOT) - {"libs", "services"}}
    rooms |= {f"{wing}/{name}/" for wing in ("libs", "services") for name in folders(ROOT / wing)}
    assert sorted(mapped) == sorted(rooms | {"Tiltfile"})


def test_the_six_services_stand_and_no_seventh() -> None:
    assert folders(ROOT / "services") == SERVICES


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_has_a_domain_a_place_where_it_is_assembled_and_a_tiny_main(service: str) -> None:
    package = ROOT / "services" / service / service.replace("-", "_")
    for part in ("__init__.py", "__main__.py", "app.py", "domain/__init__.py"):
        assert (package / part).is_file(), f"{package.relative_to(ROOT)}/{part} is missing"
    assert len((package / "__main__.py").read_text().splitlines()) <= MAIN_LINES_MAX


def test_every_package_and_module_of_ours_has_a_caption() -> None:
    bare = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if path.relative_to(ROOT).parts[0] != "tests"
        if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
    ]
    assert bare == []


def test_a_file_stays_under_300_lines_and_one_that_is_longer_does_not_grow() -> None:
    recorded: dict[str, int] = json.loads(LENGTHS.read_text())
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files()
    }
    too_long = {
        name: length
        for name, length in lengths.items()
        if length >= LINES_MAX and length > recorded.get(name, 0)
    }
    assert too_long == {}, "split these; a recorded length may only shrink"


def test_a_recorded_length_is_the_file_s_own_so_that_the_ratchet_turns() -> None:
    recorded: dict[str, int] = json.loads(LENGTHS.read_text())
    now = {
        name: len((ROOT / name).read_text().splitlines()) if (ROOT / name).exists() else 0
        for name in recorded
    }
    shrunk = {name: length for name, length in now.items() if length < recorded[name]}
    assert shrunk == {}, "write the new, smaller lengths into tests/house/lengths.json"
    assert all(length >= LINES_MAX for length in now.values())


def test_the_name_of_a_test_is_a_sentence() -> None:
    terse = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
        if node.name.count("_") < 3
    ]
    assert terse == []
