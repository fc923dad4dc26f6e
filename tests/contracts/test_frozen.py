"""What is checked in is what the types say, and what was ever told still decodes."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh_contracts import wire
from mesh_contracts.examples import example_of
from mesh_contracts.schemas import messages
from mesh_tools import freeze

CORPUS = freeze.ROOT / "frozen" / "corpus"
KINDS = {f"{m.file.removesuffix('.json')}.{part}": kind for m in messages() for part, kind in m.parts}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(freeze.ROOT / "frozen", tmp_path / "frozen")
    shutil.copy(freeze.ROOT / "asyncapi.json", tmp_path / "asyncapi.json")
    return tmp_path


def test_nothing_that_was_frozen_is_broken_and_all_of_it_is_in_step() -> None:
    assert freeze.main(["--check"]) == 0


def test_a_message_that_was_frozen_and_is_gone_is_a_fault() -> None:
    gone = next(message for message in messages() if message.road == "fact")
    kept = [message for message in messages() if message is not gone and message.file != gone.file]
    [fault] = freeze.breaking(freeze.ROOT, kept)
    assert fault.startswith(f"{gone.name}: removed")


def test_a_frozen_field_that_today_lacks_fails_the_check_and_is_not_written_over(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "frozen" / "fact.agent.node.joined.1.json"
    frozen = json.loads(path.read_bytes())
    frozen["parts"]["fact"]["$defs"]["NodeJoined"]["properties"]["colour"] = {"type": "string"}
    path.write_bytes(freeze.pretty(frozen))
    before = path.read_bytes()
    assert freeze.main(["--contracts", str(copy)]) == 1
    assert "agent.node.joined/1: fact.colour: removed" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_schema_out_of_step_fails_the_check_until_it_is_frozen(copy: Path) -> None:
    (copy / "asyncapi.json").write_text("{}\n")
    assert freeze.main(["--contracts", str(copy), "--check"]) == 1
    assert freeze.main(["--contracts", str(copy)]) == 0
    assert freeze.main(["--contracts", str(copy), "--check"]) == 0


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_every_message_ever_frozen_decodes_and_loses_nothing(path: Path) -> None:
    kind = KINDS[path.name.rsplit(".", 2)[0]]
    raw = path.read_bytes()
    assert lost(json.loads(raw), wire.decode(raw, kind)) == []


def lost(told: Any, heard: Any, path: str = "") -> list[str]:
    """Return what ``told`` (JSON) says that ``heard`` (decoded) does not."""
    if isinstance(told, dict) and isinstance(heard, msgspec.Struct):
        fields = {field.encode_name: field.name for field in msgspec.structs.fields(heard)}
        tag_field = heard.__struct_config__.tag_field
        return [
            fault
            for key, value in told.items()
            if key != tag_field
            for fault in (
                lost(value, getattr(heard, fields[key]), f"{path}.{key}")
                if key in fields
                else [f"{path}.{key} is unknown"]
            )
        ]
    if isinstance(told, list) and isinstance(heard, list | tuple) and len(told) == len(heard):
        return [
            fault
            for place, value in enumerate(told)
            for fault in lost(value, heard[place], f"{path}[{place}]")
        ]
    again = json.loads(wire.encode(heard))
    return [] if told == again else [f"{path}: {told!r} became {again!r}"]


def test_a_value_that_does_not_come_back_is_noticed() -> None:
    kind = KINDS["sample.agent.heartbeat.sample"]
    example = example_of(kind, whole=True)
    heard = wire.decode(msgspec.json.encode(example), kind)
    assert lost(example, heard) == []
    assert lost({**example, "forgotten": 1}, heard) == [".forgotten is unknown"]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_message_from_tomorrow_with_one_more_field_is_understood(name: str) -> None:
    kind = KINDS[name]
    example = example_of(kind, whole=True)
    if (
        getattr(kind, "__struct_config__", None) is not None
        and not kind.__struct_config__.forbid_unknown_fields
    ):
        example["a_field_of_tomorrow"] = {"nested": [1]}
    assert isinstance(wire.decode(msgspec.json.encode(example), kind), kind)
