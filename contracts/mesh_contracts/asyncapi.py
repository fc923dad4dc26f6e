"""The AsyncAPI 3 document of the bus, from the same table and types as the bus itself."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from mesh_contracts.ask import Ask, Problem, subject_of_ask
from mesh_contracts.fact import owner_of, tag_of
from mesh_contracts.rights import ASKER, answers_asks
from mesh_contracts.schemas import ANY_ASKS, components_of
from mesh_contracts.streams import (
    ASKS,
    BUCKETS,
    FACTS,
    HEARS,
    OWNERS,
    READS,
    SAMPLES,
    USERS,
    BucketSpec,
)

Document = dict[str, Any]

TEMPLATE = "#/components/schemas/{name}"

PARAMETERS = {
    "site": "One dotless token that names a site, as `fr-idf-1`.",
    "partition": "Two digits: a stable hash of the key.",
    "key": "An id; never a person's text.",
    "node": "A node's id, or `_beat`.",
    "owner": "A service's wire name.",
}


def document(version: str = "1") -> Document:
    """Return the whole document: each subject, what stands on it, who sends and who receives."""
    kinds: list[Any] = [*FACTS, *ASKS, *ANY_ASKS, *(kind.reply for kind in (*ASKS, *ANY_ASKS)), Problem]
    for bucket in BUCKETS:
        kinds += _values(bucket)
    kinds += SAMPLES.values()
    kinds = list({repr(kind): kind for kind in kinds}.values())
    references, schemas = components_of(kinds, TEMPLATE)
    by_type = {repr(kind): reference for kind, reference in zip(kinds, references, strict=True)}
    built = _Builder(by_type)
    built.facts()
    built.asks()
    built.buckets()
    built.samples()
    built.doorbells()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Compute Mesh: the bus",
            "version": version,
            "license": {"name": "Apache-2.0"},
            "description": (
                "Facts are kept by JetStream and told once; asks are answered before their deadline;"
                " samples may be lost; buckets are state with one writer. Subjects that begin with `$JS.`,"
                " `$SRV.`, `$SYS.`, `_INBOX` or `_R_` are the bus's own protocols and do not stand here."
            ),
        },
        "defaultContentType": "application/json",
        "channels": built.channels,
        "operations": built.operations,
        "components": {"messages": built.messages, "schemas": _as_draft_7(schemas)},
    }


def covers(described: Document, subject: str) -> bool:
    """Tell whether a subject seen on the wire stands in the document, or is the bus's own."""
    if subject.startswith(("$JS.", "$SRV.", "$SYS.", "_INBOX", "_R_.")):
        return True
    return any(pattern.fullmatch(subject) for pattern in _patterns(described))


def _patterns(described: Document) -> Iterator[re.Pattern[str]]:
    for channel in described["channels"].values():
        if channel["address"] is None:
            continue
        tokens = channel["address"].split(".")
        yield re.compile(
            r"\.".join(r"[^.\s]+" if token[0] == "{" else re.escape(token) for token in tokens)
        )


class _Builder:
    def __init__(self, by_type: dict[str, Document]) -> None:
        self._by_type = by_type
        self.channels: Document = {}
        self.operations: Document = {}
        self.messages: Document = {}

    def facts(self) -> None:
        for kind in FACTS:
            tag = tag_of(kind)
            owner = owner_of(kind)
            name = _flat(tag)
            subject = tag.partition("/")[0]
            self._message(name, kind, kind.__doc__)
            self._channel(
                name, f"{subject}.{{site}}.{{partition}}.{{key}}", [name], owner, kind.__doc__
            )
            self._operation(f"{owner}.tells.{name}", "send", name)
            for reader, read in READS.items():
                if kind in read:
                    self._operation(f"{reader}.reads.{name}", "receive", name)
            if kind.per_tenant:
                heard = f"event.{name}"
                self._channel(
                    heard, f"event.{subject}.{{site}}.{{partition}}.{{key}}", [name], "events"
                )
                self._operation(f"{ASKER}.hears.{heard}", "receive", heard)

    def asks(self) -> None:
        self._message("problem", Problem, Problem.__doc__)
        for kind in (*ASKS, *ANY_ASKS):
            owners = (
                [owner_of(kind)] if kind not in ANY_ASKS else [o for o in OWNERS if answers_asks(o)]
            )
            for owner in owners:
                self._ask(kind, owner)

    def _ask(self, kind: type[Ask], owner: str) -> None:
        name = _flat(tag_of(kind))
        channel = name if owner == owner_of(kind) else f"{owner}.{name.partition('.')[2]}"
        self._message(name, kind, kind.__doc__)
        self._message(f"{name}.reply", kind.reply, getattr(kind.reply, "__doc__", None))
        address = subject_of_ask(kind, "{site}", owner)
        self._channel(f"ask.{channel}", address, [name], owner, kind.__doc__)
        replies = f"reply.{channel}"
        self.channels[replies] = {
            "address": None,
            "description": "The asker's own inbox, which the request names.",
            "messages": {
                part: {"$ref": f"#/components/messages/{part}"} for part in (f"{name}.reply", "problem")
            },
        }
        reply = {"channel": {"$ref": f"#/channels/{replies}"}}
        action: Document = {"x-permission": kind.permission, "x-changes": kind.changes, "reply": reply}
        self._operation(f"{owner}.answers.{channel}", "receive", f"ask.{channel}", **action)

    def buckets(self) -> None:
        for bucket in BUCKETS:
            name = f"bucket.{bucket.name}"
            parts = []
            for kind in _values(bucket):
                part = f"{name}.{kind.__name__}"
                self._message(part, kind, kind.__doc__, entry=True)
                parts.append(part)
            self._channel(name, f"$KV.{bucket.name}.{{key}}", parts, bucket.writer, two_tokens=True)
            self._operation(f"{bucket.writer}.writes.{bucket.name}", "send", name)
            for reader in bucket.readers:
                self._operation(f"{reader}.watches.{bucket.name}", "receive", name)
            if bucket.republish_to:
                self._channel(
                    f"{name}.republished", f"{bucket.republish_to}.{{node}}", parts, bucket.writer
                )
                self._operation(f"agent.watches.{bucket.name}", "receive", f"{name}.republished")

    def samples(self) -> None:
        for noun, kind in SAMPLES.items():
            name = f"sample.{noun}"
            self._message(name, kind, kind.__doc__)
            self._channel(
                name, f"{name}.{{site}}.{{key}}", [name], noun.partition(".")[0], kind.__doc__
            )
            self._operation(f"{noun.partition('.')[0]}.sends.{noun}", "send", name)
            for hearer, nouns in HEARS.items():
                if noun in nouns:
                    self._operation(f"{hearer}.hears.{noun}", "receive", name)

    def doorbells(self) -> None:
        self.messages["doorbell"] = {
            "name": "doorbell",
            "summary": "Something stands in the outbox; an empty body.",
            "payload": {"type": "string", "maxLength": 0},
        }
        self._channel("doorbell", "doorbell.{owner}", ["doorbell"], "every service with an outbox")
        for owner in USERS:
            self._operation(f"{owner}.rings", "send", "doorbell")

    def _message(self, name: str, kind: Any, doc: str | None, *, entry: bool = False) -> None:
        payload = self._by_type[repr(kind)]
        if entry:
            payload = {
                "type": "object",
                "required": ["epoch", "generation"],
                "properties": {
                    "epoch": {"type": "integer", "description": "The writer's start."},
                    "generation": {"type": "integer", "description": "The writer's change."},
                    "value": payload,
                },
            }
        self.messages[name] = {"name": name, **_words(doc), "payload": payload}

    def _channel(
        self,
        name: str,
        address: str,
        parts: Iterable[str],
        owner: str,
        doc: str | None = None,
        *,
        two_tokens: bool = False,
    ) -> None:
        self.channels[name] = {
            "address": address,
            **_words(doc),
            "x-owner": owner,
            "messages": {part: {"$ref": f"#/components/messages/{part}"} for part in parts},
            "parameters": {
                token: {"description": PARAMETERS[token]} for token in re.findall(r"\{(\w+)\}", address)
            },
        }
        if two_tokens:
            # A key may hold one dot (`key.<digest>`), and a parameter stands for one token.
            longer = address.replace("{key}", "{owner}.{key}")
            self.channels[f"{name}.of"] = {**self.channels[name], "address": longer}
            self.channels[f"{name}.of"]["parameters"] = {
                "owner": {"description": "What kind of key it is."},
                "key": {"description": PARAMETERS["key"]},
            }

    def _operation(self, name: str, action: str, channel: str, **more: Any) -> None:
        self.operations[name] = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, **more}


def _as_draft_7(schema: Any) -> Any:
    """Return a schema in the words that AsyncAPI knows: to draft 7, a tuple's places are its ``items``."""
    if isinstance(schema, list):
        return [_as_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    said = {word: _as_draft_7(part) for word, part in schema.items()}
    if "prefixItems" in said:
        said["additionalItems"] = said.pop("items", True)
        said["items"] = said.pop("prefixItems")
    return said


def _values(bucket: BucketSpec) -> list[Any]:
    return list(bucket.value.values()) if isinstance(bucket.value, dict) else [bucket.value]


def _words(doc: str | None) -> Document:
    lines = (doc or "").strip().splitlines()
    return {"summary": lines[0]} if lines else {}


def _flat(tag: str) -> str:
    return tag.replace("/", ".")
