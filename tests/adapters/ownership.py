"""Who may do what on the bus, written down by hand: what the generated lists are tried against.

Nothing here is computed from the contracts' table, on purpose: a slip there must not be repeated here.
"""

SITE = "fr-idf-1"
NODE = "node_019ab000-0000-7000-8000-000000000001"
OTHER_NODE = "node_019ab000-0000-7000-8000-000000000002"

STREAMS = ("IDENTITY", "PLACEMENT", "AGENT", "GATEWAY", "METERING", "CARBON", "EVENTS")
BUCKETS = ("access", "intents", "routes", "limits", "signals")
SERVICES = ("identity", "placement", "inference-gateway", "metering", "carbon-accounting")

OWNER_OF = {
    "identity": "identity",
    "placement": "placement",
    "inference-gateway": "gateway",
    "metering": "metering",
    "carbon-accounting": "carbon",
}
READS = {
    "placement": ("IDENTITY", "AGENT"),
    "metering": ("IDENTITY", "GATEWAY"),
    "carbon-accounting": ("IDENTITY", "AGENT", "METERING"),
}
WRITES = {
    "identity": ("access",),
    "placement": ("intents", "routes"),
    "metering": ("limits",),
    "carbon-accounting": ("signals",),
}
WATCHES = {"inference-gateway": ("access", "routes", "limits"), "placement": ("signals",)}
HEARS = {"placement": ("heartbeat", "power"), "carbon-accounting": ("power",)}
ANSWERERS = ("identity", "placement", "metering", "carbon-accounting")
AGENT_FACTS = (
    "agent.node.joined",
    "agent.health.changed",
    "agent.workload.started",
    "agent.workload.ready",
    "agent.workload.stopped",
    "agent.workload.failed",
    "agent.energy.measured",
)
CONSUMERS = tuple(
    (stream, f"{OWNER_OF[user]}_{stream}_00") for user, streams in READS.items() for stream in streams
)

TRIMS = {
    who: {
        f"$JS.API.STREAM.INFO.{OWNER_OF[who].upper()}",
        f"$JS.API.STREAM.PURGE.{OWNER_OF[who].upper()}",
        "$JS.API.STREAM.INFO.EVENTS",
    }
    | {
        f"$JS.API.CONSUMER.INFO.{stream}.{consumer}"
        for stream, consumer in CONSUMERS
        if stream == OWNER_OF[who].upper()
    }
    for who in ANSWERERS
}


def may_publish(who: str) -> set[str]:
    """Return every subject of the universe that ``who`` may publish on."""
    if who in {"node", "other node"}:
        me = NODE if who == "node" else OTHER_NODE
        mine = {f"{kind}.{SITE}.00.{me}" for kind in AGENT_FACTS}
        mine |= {f"sample.agent.{noun}.{SITE}.{me}" for noun in ("heartbeat", "power")}
        mine |= {f"$JS.API.DIRECT.GET.KV_intents.$KV.intents.{key}" for key in (me, "_beat")}
        return mine | {f"ask.identity.node.enrol.{SITE}"}
    if who == "joining node":
        return {f"ask.identity.node.enrol.{SITE}"}
    if who == "observer":
        return set()
    owner = OWNER_OF[who]
    mine = {f"{owner}.thing.happened.{SITE}.00.key", f"doorbell.{owner}"}
    for stream in READS.get(who, ()):
        consumer = f"{owner}_{stream}_00"
        mine |= {
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
            f"$JS.ACK.{stream}.{consumer}.1.1.1.1.0",
        }
    for bucket in WRITES.get(who, ()):
        mine |= {
            f"$KV.{bucket}.key",
            f"$KV.{bucket}._beat",
            f"$KV.{bucket}.{NODE}",
            f"$KV.{bucket}.{OTHER_NODE}",
        }
        mine |= {
            f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}"
            for key in ("key", "_beat", NODE, OTHER_NODE)
        }
    for bucket in (*WRITES.get(who, ()), *WATCHES.get(who, ())):
        mine |= {
            f"$JS.API.CONSUMER.CREATE.KV_{bucket}.mine.$KV.{bucket}.>",
            f"$JS.FC.KV_{bucket}.mine.1",
        }
    if who in ANSWERERS:
        mine.add("_INBOX_inference-gateway.reply")
        mine |= TRIMS[who]
    if who == "identity":
        mine |= {"_R_.reply", "$SYS._INBOX.server.reply"}
    if who == "inference-gateway":
        mine |= {
            f"ask.{asked}.thing.do.{SITE}" for asked in ("identity", "placement", "metering", "carbon")
        }
        mine |= {f"ask.identity.node.enrol.{SITE}"}
        mine |= {"$SRV.PING", "$SRV.INFO.placement", "$SRV.STATS.metering.instance"}
        mine |= {"$JS.API.DIRECT.GET.EVENTS", "$JS.API.STREAM.INFO.EVENTS"}
    return mine


def may_hear(who: str) -> set[str]:
    """Return every subject of the universe that ``who`` may subscribe to."""
    if who in {"node", "other node"}:
        me = NODE if who == "node" else OTHER_NODE
        return {f"intent.{me}", "intent._beat", f"_INBOX of {who}"}
    if who == "joining node":
        return {f"_INBOX of {who}"}
    if who == "observer":
        owners = ("identity", "placement", "agent", "gateway", "metering", "carbon")
        return {f"{owner}.>" for owner in owners} | {
            f"{owner}.thing.happened.{SITE}.00.key" for owner in owners
        }
    owner = OWNER_OF[who]
    mine = {f"_INBOX_{who}.>", f"_INBOX_{who}.reply", f"doorbell.{owner}"}
    mine |= {f"sample.agent.{noun}.{SITE}.*" for noun in HEARS.get(who, ())}
    if who in ANSWERERS:
        mine |= {f"ask.{owner}.>", f"ask.{owner}.thing.do.{SITE}"}
        mine |= {"$SRV.PING", f"$SRV.INFO.{owner}", f"$SRV.STATS.{owner}.instance"}
        mine |= {f"$SRV.INFO.{who}", f"$SRV.STATS.{who}.instance"}
    if who == "identity":
        mine |= {"$SYS.REQ.USER.AUTH", f"ask.identity.node.enrol.{SITE}"}
    if who == "inference-gateway":
        told = ("identity", "placement", "agent", "gateway", "metering", "carbon")
        mine |= {"event.>"} | {f"event.{owner}.thing.happened.{SITE}.00.key" for owner in told}
    return mine
