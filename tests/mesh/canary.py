"""A text that must be found nowhere, in every dress it might wear, and everywhere that it might be."""

import base64
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from tests.mesh.harness import Mesh
from tests.mesh.insides import bus_as

T = TypeVar("T")

OVERLAP = 4_096
PIECE = 16 * 1024**2


def dresses(text: str) -> dict[str, bytes]:
    """Return every form in which ``text`` could have been written down; each is found within others' text.

    Base64 has three, by where the text begins; only what does not depend on its neighbours is looked for.
    """
    raw = text.encode()
    found = {
        "plain": raw,
        "escaped": "".join(f"\\u{ord(char):04x}" for char in text).encode(),
        "percent": "".join(f"%{byte:02x}" for byte in raw).encode(),
        "hex": raw.hex().encode(),
        "utf-16-le": text.encode("utf-16-le"),
        "utf-16-be": text.encode("utf-16-be"),
    }
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw)
        begins, ends = -(-shift * 4 // 3), (shift + len(raw)) * 4 // 3
        found[f"base64+{shift}"] = coded[begins:ends].rstrip(b"=")
    return found


def worn(dressed: Mapping[T, bytes], data: bytes) -> list[T]:
    """Return the names of the forms that are in ``data``, in whatever case."""
    lower = data.lower()
    return [name for name, form in dressed.items() if form.lower() in lower]


def in_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each regular file under ``folder`` in pieces that overlap: logs, spans, journals, stores."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                held = b""
                while piece := file.read(PIECE):
                    yield f"file {path.relative_to(folder)}", held + piece
                    held = piece[-OVERLAP:]
        except FileNotFoundError:
            continue  # a store may tidy up while it is looked through


async def in_streams(mesh: Mesh) -> AsyncIterator[tuple[str, bytes]]:
    """Yield each message of each stream and bucket: its subject, headers and data."""
    async with bus_as(mesh, "admin") as bus:
        names: list[str] = []
        while True:
            asked = json.dumps({"offset": len(names)}).encode()
            answer = await bus.request("$JS.API.STREAM.NAMES", asked, within_s=5)
            page = json.loads(answer.data)
            names += page["streams"] or []
            if len(names) >= page["total"]:
                break
        for name in names:
            sequence = 0
            while (stored := await bus.at(name, sequence + 1)) is not None:
                sequence = stored.sequence
                yield f"stream {name}", f"{stored.subject} {stored.headers}".encode() + stored.data


async def in_tables(mesh: Mesh) -> AsyncIterator[tuple[str, bytes]]:
    """Yield each value of each row of each table of each database, as text and as bytes."""
    dsn = mesh.ready["postgres_dsn"]
    first = await asyncpg.connect(dsn)
    try:
        databases = await first.fetch("SELECT datname FROM pg_database WHERE datallowconn")
    finally:
        await first.close()
    for database in [row["datname"] for row in databases]:
        connection = await asyncpg.connect(dsn, database=database)
        try:
            tables = await connection.fetch(
                "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            )
            for table in [row["name"] for row in tables]:
                for row in await connection.fetch(f"SELECT * FROM {table}"):
                    for column, value in row.items():
                        raw = value if isinstance(value, bytes) else str(value).encode()
                        yield f"table {database}.{table}.{column}", raw
        finally:
            await connection.close()


async def found(mesh: Mesh, dressed: Mapping[T, bytes]) -> set[tuple[str, T]]:
    """Return where in a running mesh the text is, and in which form."""
    places: set[tuple[str, T]] = set()
    for where, data in in_files(mesh.folder):
        places |= {(where, form) for form in worn(dressed, data)}
    async for where, data in in_streams(mesh):
        places |= {(where, form) for form in worn(dressed, data)}
    async for where, data in in_tables(mesh):
        places |= {(where, form) for form in worn(dressed, data)}
    return places


async def plant(mesh: Mesh, text: str) -> set[str]:
    """Put ``text`` into a log, a stream, a bucket and a table, each in another form; return where."""
    coded = base64.b64encode(f"x{text}".encode()).decode()
    with (mesh.folder / "run" / "metering.log").open("a") as log:
        log.write(json.dumps({"message": text.encode("utf-16-le").hex(), "body": coded}) + "\n")
    async with bus_as(mesh, "carbon-accounting") as bus:
        await bus.store("$KV.signals.planted", text.encode("utf-16-be"), msg_id=os.urandom(8).hex())
        escaped = "".join(f"\\u{ord(char):04X}" for char in text)
        subject = "carbon.footprint.settled.fr-idf-1.00.planted"
        await bus.store(subject, escaped.encode(), msg_id=os.urandom(8).hex())
    connection = await asyncpg.connect(mesh.ready["postgres_dsn"], database="mesh_identity")
    try:
        await connection.execute("CREATE TABLE planted (a bytea, b jsonb)")
        await connection.execute(
            "INSERT INTO planted VALUES ($1, $2)", text.encode(), json.dumps({"deep": [coded]})
        )
    finally:
        await connection.close()
    return {
        "file run/metering.log",
        "stream KV_signals",
        "stream CARBON",
        "table mesh_identity.public.planted.a",
        "table mesh_identity.public.planted.b",
    }


def bodies(text: str) -> list[dict[str, Any]]:
    """Return chat bodies that carry ``text`` wherever a client may put its own words."""
    coded = base64.b64encode(text.encode()).decode()
    say = {"role": "user", "content": f"please repeat {text}"}
    tool = {
        "type": "function",
        "function": {"name": "look", "description": text, "parameters": {"type": "object"}},
    }
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "look", "arguments": json.dumps({"q": text})},
    }
    parts = [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{coded}"}},
        {"type": "input_audio", "input_audio": {"data": coded, "format": "wav"}},
        {"type": "file", "file": {"filename": f"{text}.pdf", "file_data": coded}},
    ]
    return [
        {"messages": [say], "user": text, "metadata": {"case": text}, "stop": [text]},
        {
            "messages": [
                {"role": "system", "content": text},
                say,
                {"role": "assistant", "content": coded},
            ]
        },
        {"messages": [say], "tools": [tool], "tool_choice": "auto"},
        {
            "messages": [
                say,
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": text},
            ]
        },
        {"messages": [{"role": "user", "content": parts}]},
        {"messages": [say], "response_format": {"type": "json_object"}, "prompt_cache_key": text},
    ]
