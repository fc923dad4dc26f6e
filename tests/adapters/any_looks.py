"""What must hold of placement's tables at every moment, read in one snapshot."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec
from meshkit.store import Row, Store, Transaction

from tests.adapters.standby import SITE

CARD_MILLI = 1_000
HOLDERS = """
SELECT w.workload_id AS id, e.endpoint_id AS owner, 'endpoint' AS kind, w.node_id, w.devices, w.memory_mib,
    0::bigint AS cpu_milli, e.organization, e.project, e.organization AS tenant, 0 AS number,
    jsonb_build_object('residency', e.residency::jsonb) AS wished, w.state <> 'stopping' AS goes
FROM workload w JOIN endpoint e USING (endpoint_id) WHERE w.state NOT IN ('stopped', 'failed')
UNION ALL SELECT m.workload_id, j.job_id, 'job', m.node_id, m.devices, m.memory_mib, m.cpu_milli,
    j.organization, j.project, j.organization, m.number, j.wished::jsonb, true
FROM member m JOIN job j USING (job_id) WHERE m.holds
UNION ALL SELECT m.workload_id, l.lease_id, 'lease', m.node_id, m.devices, m.memory_mib, m.cpu_milli,
    l.organization, l.project, l.lease_id, m.number, l.wished::jsonb, true
FROM member m JOIN lease l USING (lease_id) WHERE m.holds
"""
GANGS = """
SELECT j.job_id AS id, j.state, j.place, (j.wished::jsonb ->> 'members')::integer AS size,
    array_agg(m.number ORDER BY m.number) FILTER (WHERE m.attempt = j.attempt AND m.replaced_by IS NULL) AS numbers,
    count(*) FILTER (WHERE m.holds) AS holding,
    count(*) FILTER (WHERE m.holds AND m.attempt <> j.attempt) AS stale
FROM job j LEFT JOIN member m USING (job_id) WHERE j.job_id IN (
    SELECT job_id FROM job WHERE place <> 'none' OR ended_at IS NULL UNION SELECT job_id FROM member WHERE holds)
GROUP BY j.job_id
"""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """So many milli of one device, as a row says it."""

    device_id: str
    milli: int


_held = msgspec.json.Decoder(list[Held])


class Looks:
    """Looks at one database again and again; ``faults`` are what must not be, each with when it was seen."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.count = self.seq = self._epoch = 0
        self.above_cap = self.above_limit = 0
        """Looks in which a cap was below what leases and endpoints draw, a limit below what was held already."""
        self.faults: list[str] = []
        self._used: dict[str, tuple[int, int]] = {}

    async def look(self) -> None:
        """Read everything in one snapshot, and hold it against the rules."""
        async with self._store.transaction() as tx:
            await tx.rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            nodes = {row["node_id"]: row for row in await tx.rows("SELECT * FROM node")}
            devices = await tx.rows("SELECT node_id, device_id, taken_milli FROM device")
            holders = await tx.rows(HOLDERS)
            gangs = await tx.rows(GANGS)
            caps = await tx.rows("SELECT level, domain, watts FROM cap WHERE watts IS NOT NULL")
            quotas = await tx.rows("SELECT scope_id, gpus_max, generation FROM quota")
            await self._log(tx)
        for holder in holders:
            holder["devices"] = _held.decode(holder["devices"])
        for node in nodes.values():
            node["place"] = {
                **msgspec.json.decode(node["place"]),
                "node": node["node_id"],
                "site": SITE,
            }
        self.count += 1
        found = [
            *_sums(nodes, devices, holders),
            *_terms(nodes, holders),
            *_alone(nodes, holders),
            *_whole(gangs),
            *self._caps(nodes, holders, caps),
            *self._limits(holders, quotas),
        ]
        self.faults += [f"look {self.count}, decision {self.seq}: {one}" for one in found]

    async def _log(self, tx: Transaction) -> None:
        """Look that the log goes on without a hole, and in epochs that never fall."""
        rows = await tx.rows(
            "SELECT seq, epoch FROM decision WHERE site = $1 AND seq > $2 ORDER BY seq", SITE, self.seq
        )
        for row in rows:
            if row["seq"] != self.seq + 1:
                self.faults.append(f"decision {row['seq']} follows {self.seq}")
            if row["epoch"] < self._epoch:
                self.faults.append(
                    f"decision {row['seq']} is of epoch {row['epoch']} after {self._epoch}"
                )
            self.seq, self._epoch = row["seq"], row["epoch"]

    def _caps(self, nodes: dict[str, Row], holders: list[Row], caps: list[Row]) -> Iterator[str]:
        """No cap is broken by what could be ended: jobs, once the replicas that are told to stop have."""
        kinds: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        going: set[tuple[str, str]] = set()
        for holder in holders:
            for one in holder["devices"]:
                kinds[holder["node_id"], one.device_id].add(holder["kind"])
                if holder["goes"]:
                    going.add((holder["node_id"], one.device_id))
        for cap in caps:
            inside = {
                name for name, node in nodes.items() if node["place"].get(cap["level"]) == cap["domain"]
            }
            cards = [place for place in kinds if place[0] in inside]
            watts = sum(nodes[name]["idle_w"] for name in inside)
            watts += sum(nodes[name]["gpu_w"] for name, _ in cards)
            if watts <= cap["watts"]:
                continue
            self.above_cap += 1
            stopping = sum(nodes[place[0]]["gpu_w"] for place in cards if place not in going)
            if watts - stopping <= cap["watts"]:
                continue
            of_jobs = [place for place in cards if kinds[place] == {"job"} and nodes[place[0]]["gpu_w"]]
            if of_jobs:
                yield f"{cap} draws {watts} W, and jobs hold {of_jobs}"

    def _limits(self, holders: list[Row], quotas: list[Row]) -> Iterator[str]:
        """Nobody has more than its limit, or gets more where the limit came below what it had."""
        used: Counter[str] = Counter()
        for holder in holders:
            milli = sum(one.milli for one in holder["devices"])
            used[holder["project"]] += milli
            used[holder["organization"]] += milli
        for row in quotas:
            scope, limit = row["scope_id"], row["gpus_max"]
            before = self._used.get(scope)
            self._used[scope] = (row["generation"], used[scope])
            if limit is None or used[scope] <= limit * CARD_MILLI:
                continue
            self.above_limit += 1
            if before and before[0] == row["generation"] and before[1] < used[scope]:
                yield f"{scope} holds {used[scope]} milli, {before[1]} before, of at most {limit} GPUs"


def _sums(nodes: dict[str, Row], devices: list[Row], holders: list[Row]) -> Iterator[str]:
    """What is taken of a device and of a node is what those who hold it sum to, and never more than there is."""
    milli: Counter[tuple[str, str]] = Counter()
    memory: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    for holder in holders:
        memory[holder["node_id"]] += holder["memory_mib"]
        cpu[holder["node_id"]] += holder["cpu_milli"]
        for one in holder["devices"]:
            milli[holder["node_id"], one.device_id] += one.milli
    for row in devices:
        taken = milli.pop((row["node_id"], row["device_id"]), 0)
        if taken != row["taken_milli"] or taken > CARD_MILLI:
            yield f"{taken} milli of {row} are held"
    if milli:
        yield f"nobody has {milli}"
    for name, node in nodes.items():
        kept = (node["memory_taken_mib"], node["cpu_taken_milli"])
        if kept != (memory[name], cpu[name]) or memory[name] > node["memory_mib"]:
            yield f"{node['name']} has given {kept}, and {memory[name]} MiB, {cpu[name]} milli are held"


def _terms(nodes: dict[str, Row], holders: list[Row]) -> Iterator[str]:
    """Everybody sits where its data may be, on what is certified for it."""
    for holder in holders:
        node, wished = nodes[holder["node_id"]], holder["wished"]
        if node["jurisdiction"] not in wished["residency"]["jurisdictions"]:
            yield f"{holder} sits in {node['jurisdiction']}"
        if not set(wished.get("assurances", [])) <= set(msgspec.json.decode(node["assurances"])):
            yield f"{holder} sits where {node['assurances']} is assured"


def _alone(nodes: dict[str, Row], holders: list[Row]) -> Iterator[str]:
    """Who must be alone in a part of the site is."""
    tenants: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for holder in holders:
        for part in nodes[holder["node_id"]]["place"].items():
            tenants[part].add(holder["tenant"])
    for holder in holders:
        level = holder["wished"].get("isolation", "none")
        if holder["kind"] == "lease":
            level = "nvlink" if holder["wished"].get("domains") else "node"
        if level == "none":
            continue
        part = (level, nodes[holder["node_id"]]["place"][level])
        if tenants[part] != {holder["tenant"]}:
            yield f"{holder} is to be alone in {part}: {tenants[part]}"


def _whole(gangs: list[Row]) -> Iterator[str]:
    """A job has seats for all its members, or for none."""
    for gang in gangs:
        seats = gang["numbers"] or []
        if gang["stale"] or (gang["holding"] and gang["place"] != "sits"):
            yield f"{gang} holds what it has no right to"
        if gang["place"] == "sits" and seats != list(range(gang["size"])):
            yield f"{gang} is seated in part"
