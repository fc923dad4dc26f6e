"""Who may publish and hear what on the bus: the table of ``streams``, turned into allow lists.

Closed by default: a user has what stands here and nothing else. No list holds a deny, none uses
``allow_responses`` (it would let an answerer publish on any subject that a caller names).
"""

import msgspec

from mesh_contracts import identity
from mesh_contracts.ask import subject_of_ask
from mesh_contracts.fact import owner_of
from mesh_contracts.streams import (
    BUCKETS,
    EVENTS,
    FACTS,
    HEARS,
    OWNERS,
    SAMPLES,
    STREAMS,
    TRIMMED,
    USERS,
    BucketSpec,
    consumers,
)

SERVICES_ACCOUNT = "MESH"
NODES_ACCOUNT = "NODES"
SYSTEM_ACCOUNT = "SYS"

ADMIN = "admin"
"""Declares streams, buckets and consumers; a deploy step, never a service."""

OBSERVER = "observer"
"""Hears every fact as it is told, and may publish nothing: ``mesh tail``."""

ASKER = "gateway"
"""The owner that turns people's requests into asks; nobody else in the services' account asks."""

STATIC_USERS = (*sorted(USERS.values()), ADMIN, OBSERVER)
"""Every user that the server's configuration names; nodes are let in by the callout."""

BEAT = "_beat"
CALLOUT_SUBJECT = "$SYS.REQ.USER.AUTH"
"""Where the server asks identity who a stranger is."""

CALLOUT_REPLY = "$SYS._INBOX.>"
"""Where it waits for the answer."""

IMPORTED_REPLY = "_R_.>"
"""Where an answer to an ask goes that came through an import from another account."""


SRV_VERBS = ("PING", "INFO", "STATS")
"""The questions of NATS' services framework. Named one by one: the server takes ``$SRV.*`` in an
allow list for leave to hear ``$SRV.>``, so no list lets anybody hear a subject that ends in ``*``.
"""


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What one user may publish and what it may subscribe to; each list sorted, without repeats."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def service_rights(owner: str) -> Rights:
    """Return the rights of a service, by its wire name. Raises ``KeyError`` for an unknown one."""
    user = USERS[owner]
    publish = [f"{owner}.>", f"doorbell.{owner}"]
    hear = [inbox_of(user) + ".>", f"doorbell.{owner}"]
    for spec in consumers():
        if spec.reader == owner:
            publish += [
                f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}",
                f"$JS.ACK.{spec.stream}.{spec.name}.>",
            ]
    publish += _trim(owner)
    for bucket in BUCKETS:
        if bucket.writer == owner:
            publish += [
                f"$KV.{bucket.name}.>",
                f"$JS.API.DIRECT.GET.KV_{bucket.name}.$KV.{bucket.name}.>",
            ]
        if owner == bucket.writer or owner in bucket.readers:
            publish += _watch(bucket)
    if answers_asks(owner):
        hear.append(f"ask.{owner}.>")
        hear += [f"$SRV.{verb}{name}" for verb in SRV_VERBS for name in ("", *_srv_names(owner, user))]
        publish.append(inbox_of(USERS[ASKER]) + ".>")
    if owner == owner_of(identity.EnrolNode):
        publish += [IMPORTED_REPLY, CALLOUT_REPLY]
        hear.append(CALLOUT_SUBJECT)
    if owner == ASKER:
        publish += [f"ask.{asked}.>" for asked in OWNERS if answers_asks(asked)]
        publish += ["$SRV.>", f"$JS.API.DIRECT.GET.{EVENTS.name}", f"$JS.API.STREAM.INFO.{EVENTS.name}"]
        hear.append("event.>")
    hear += [f"sample.{noun}.>" for noun in HEARS.get(owner, ())]
    return _rights(publish, hear)


def _trim(owner: str) -> list[str]:
    """Return what makes room in an owner's stream: its state, its readers', and its purge."""
    own = [spec.name for spec in TRIMMED if spec.owner == owner]
    calls = [f"STREAM.{verb}.{name}" for name in own for verb in ("INFO", "PURGE")]
    calls += [f"STREAM.INFO.{EVENTS.name}" for _ in own]
    calls += [f"CONSUMER.INFO.{one.stream}.{one.name}" for one in consumers() if one.stream in own]
    return [f"$JS.API.{call}" for call in calls]


def admin_rights() -> Rights:
    """Return the rights of the deploy step: JetStream's API, and no subject of any owner."""
    return _rights(["$JS.API.>"], [inbox_of(ADMIN) + ".>"])


def observer_rights() -> Rights:
    """Return the rights of whoever looks on: every fact as it is told; nothing to publish.

    It hears the publish itself, not the stream: a fact that a full stream refused is heard too,
    and heard again when the relay sends it again.
    """
    return _rights([], [f"{spec.owner}.>" for spec in STREAMS])


def node_rights(site: str, node_id: str, public_key: str) -> Rights:
    """Return the rights of one enrolled node, for its account: its facts, samples and intent."""
    nouns = sorted({noun.partition(".")[2] for noun in SAMPLES if noun.startswith("agent.")})
    kinds = sorted(
        tag.partition("/")[0]
        for tag in (str(kind.__struct_config__.tag) for kind in FACTS)
        if tag.startswith("agent.")
    )
    publish = [f"{kind}.{site}.*.{node_id}" for kind in kinds]
    publish += [f"sample.agent.{noun}.{site}.{node_id}" for noun in nouns]
    publish += [f"$JS.API.DIRECT.GET.KV_intents.$KV.intents.{key}" for key in (node_id, BEAT)]
    publish.append(subject_of_ask(identity.EnrolNode, site))
    hear = [f"intent.{node_id}", f"intent.{BEAT}", node_inbox_of(public_key) + ".>"]
    return _rights(publish, hear)


def joining_rights(site: str, public_key: str) -> Rights:
    """Return the rights of a node that has shown a join token: to ask to be enrolled, once here."""
    return _rights([subject_of_ask(identity.EnrolNode, site)], [node_inbox_of(public_key) + ".>"])


def inbox_of(user: str) -> str:
    """Return the inbox prefix of a service's user: nobody else may listen under it."""
    return f"_INBOX_{user}"


def node_inbox_of(public_key: str) -> str:
    """Return the inbox prefix of a node, by its public nkey."""
    return f"_INBOX_node.{public_key}"


def answers_asks(owner: str) -> bool:
    """Tell whether a service answers asks (every one with a database lists its dead letters)."""
    return owner in USERS and owner != ASKER


def rights_of(user: str) -> Rights:
    """Return the rights of a static user, by its name. Raises ``KeyError`` for an unknown one."""
    if user == ADMIN:
        return admin_rights()
    if user == OBSERVER:
        return observer_rights()
    return service_rights({name: owner for owner, name in USERS.items()}[user])


def nats_conf(
    users: dict[str, str],
    *,
    port: int,
    store_dir: str,
    callout_issuer: str,
    host: str = "127.0.0.1",
    name: str = "mesh",
    pid_file: str | None = None,
    max_file_store: int = 16 * 1024**3,
) -> str:
    """Return a nats-server's whole configuration, closed by default.

    ``users`` gives the public nkey (``U…``) of each of ``STATIC_USERS``; ``callout_issuer`` is the
    public account nkey (``A…``) whose seed identity signs node users with. ``port`` -1 lets the
    server choose. Raises ``KeyError`` where a user's key is missing.
    """
    static = [(user, users[user]) for user in STATIC_USERS]
    lines = [
        f"server_name: {_quoted(name)}",
        f"listen: {_quoted(f'{host}:{port}')}",
        *([f"pid_file: {_quoted(pid_file)}"] if pid_file else []),
        *BOUNDS,
        "jetstream {",
        f"  store_dir: {_quoted(store_dir)}, max_memory_store: 64MB, max_file_store: {max_file_store}",
        "  sync_interval: 10s",
        "}",
        "accounts {",
        f"  {SERVICES_ACCOUNT} {{",
        "    jetstream: enabled",
        "    users: [",
        *(f"      {_user(key, rights_of(user))}" for user, key in static),
        "    ]",
        "    exports: [",
        *(f"      {{ service: {_quoted(s)}, accounts: [{NODES_ACCOUNT}] }}" for s in NODE_SERVICES),
        f"      {{ stream: {_quoted('intent.>')}, accounts: [{NODES_ACCOUNT}] }}",
        "    ]",
        f"    imports: [ {{ stream: {{ account: {NODES_ACCOUNT}, subject: {_quoted('sample.agent.>')} }} }} ]",
        "  }",
        f"  {NODES_ACCOUNT} {{",
        f"    exports: [ {{ stream: {_quoted('sample.agent.>')}, accounts: [{SERVICES_ACCOUNT}] }} ]",
        "    imports: [",
        *(
            f"      {{ service: {{ account: {SERVICES_ACCOUNT}, subject: {_quoted(s)} }} }}"
            for s in NODE_SERVICES
        ),
        f"      {{ stream: {{ account: {SERVICES_ACCOUNT}, subject: {_quoted('intent.>')} }} }}",
        "    ]",
        "  }",
        f"  {SYSTEM_ACCOUNT} {{ }}",
        "}",
        f"system_account: {SYSTEM_ACCOUNT}",
        "authorization {",
        "  auth_callout {",
        f"    issuer: {callout_issuer}",
        f"    account: {SERVICES_ACCOUNT}",
        f"    auth_users: [ {', '.join(key for _, key in static)} ]",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


BOUNDS = (
    "max_connections: 20000",
    "max_payload: 1MB",
    "max_pending: 64MB",
    "max_subscriptions: 10000",
    "write_deadline: 5s",
    "ping_interval: 10s",
    "ping_max: 3",
    "lame_duck_duration: 30s",
    "lame_duck_grace_period: 1s",
)
"""The server's own bounds."""

NODE_SERVICES = (
    "agent.>",
    "$JS.API.DIRECT.GET.KV_intents.>",
    subject_of_ask(identity.EnrolNode, ">"),
)
"""What the nodes' account may send into the services' account; each node's own list narrows it."""


def _srv_names(owner: str, user: str) -> list[str]:
    return [f".{name}{tail}" for name in sorted({owner, user}) for tail in ("", ".>")]


def _watch(bucket: BucketSpec) -> list[str]:
    # The filter stands in the subject, so the server refuses another one in the payload.
    return [
        f"$JS.API.CONSUMER.CREATE.KV_{bucket.name}.*.$KV.{bucket.name}.>",
        f"$JS.FC.KV_{bucket.name}.>",
    ]


def _rights(publish: list[str], subscribe: list[str]) -> Rights:
    return Rights(publish=tuple(sorted(set(publish))), subscribe=tuple(sorted(set(subscribe))))


def _user(key: str, rights: Rights) -> str:
    return (
        f"{{ nkey: {key}, permissions: {{ publish: {_allow(rights.publish)},"
        f" subscribe: {_allow(rights.subscribe)} }} }}"
    )


def _allow(subjects: tuple[str, ...]) -> str:
    # An empty allow list would allow everything: nothing is said by denying all.
    if not subjects:
        return '{ deny: [">"] }'
    return "{ allow: [" + ", ".join(_quoted(subject) for subject in subjects) + "] }"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
