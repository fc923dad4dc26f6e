"""``mesh freeze``: write the contracts down as they are, refusing what would break a reader.

``contracts/frozen/*.json`` holds each message's JSON Schema, ``contracts/frozen/corpus`` encoded
messages of every version that was ever frozen, ``contracts/asyncapi.json`` the bus as a document.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from mesh_contracts.asyncapi import document
from mesh_contracts.compat import faults_between
from mesh_contracts.examples import encoded
from mesh_contracts.schemas import Message, messages

ROOT = Path(__file__).resolve().parents[2] / "contracts"


def main(argv: list[str]) -> int:
    """Freeze, or with ``--check`` only look; return 1 where something broke or is out of step."""
    parser = argparse.ArgumentParser(prog="mesh freeze", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail where out of step")
    parser.add_argument("--contracts", default=ROOT, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    faults = breaking(asked.contracts, messages())
    for fault in faults:
        print(f"mesh freeze: {fault}", file=sys.stderr)
    if faults:
        print(
            "mesh freeze: a message changes by growing: give a new field a default, or tell a new version"
            " beside the old one. (Of a message that never shipped, delete the frozen file and its corpus.)",
            file=sys.stderr,
        )
        return 1
    stale = {path: body for path, body in wanted(asked.contracts).items() if _read(path) != body}
    if asked.check:
        for path in stale:
            print(f"mesh freeze: {path.name} is out of step: run `mesh freeze`", file=sys.stderr)
        return 1 if stale else 0
    for path, body in stale.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    print(f"{len(messages())} messages, {len(stale)} files written")
    return 0


def breaking(contracts: Path, today: list[Message]) -> list[str]:
    """Return what ``today`` would break of what is frozen, each in one line."""
    by_file = {message.file: message for message in today}
    faults = []
    for path in sorted((contracts / "frozen").glob("*.json")):
        frozen = json.loads(path.read_bytes())
        message = by_file.get(path.name)
        if message is None:
            faults.append(
                f"{frozen['name']}: removed; a stream may still hold it, and somebody may ask it"
            )
            continue
        faults += [f"{message.name}: {fault}" for fault in faults_between(frozen, message.frozen())]
    return faults


def wanted(contracts: Path) -> dict[Path, bytes]:
    """Return every file as it should be: schemas, today's examples, the AsyncAPI document."""
    files = {contracts / "asyncapi.json": pretty(document())}
    for message in messages():
        files[contracts / "frozen" / message.file] = pretty(message.frozen())
        for part, kind in message.parts:
            for whole in (False, True):
                body = encoded(kind, whole=whole)
                files[contracts / "frozen" / "corpus" / corpus_name(message, part, body)] = body
    return files


def corpus_name(message: Message, part: str, body: bytes) -> str:
    """Return the name of an example: one content, one file, so that a change adds and never replaces."""
    digest = hashlib.sha256(body).hexdigest()[:8]
    return f"{message.file.removesuffix('.json')}.{part}.{digest}.json"


def pretty(data: Any) -> bytes:
    """Return JSON as it is checked in: a line a field, so that a diff is a review."""
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
