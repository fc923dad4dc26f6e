"""What the gateway is told, and its bounds."""

from pathlib import Path

from meshkit.config import Settings
from meshkit.journal import JOURNAL_BYTES_MAX


class GatewaySettings(Settings, frozen=True, kw_only=True):
    """Where the door is (``gateway_port`` 0 picks a free one), where its journal is kept, how large it may be.

    With ``gateway_reuse_port`` several gateways share one port, one a core, each with its own ``gateway_data_dir``.
    """

    gateway_data_dir: Path
    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8080
    gateway_reuse_port: bool = False
    gateway_journal_bytes_max: int = JOURNAL_BYTES_MAX


ACCESS_AGE_MAX_S = 24 * 3600.0
"""How old what is known of keys may be; past it every request is refused, and told why."""

ACTIVE_MAX = 8_192
"""Requests under ``/v1`` at once; further ones are answered 503."""

BODY_BYTES_MAX = 8 * 1024**2
"""A request's body; a larger one is answered 413."""

BODY_WAIT_S = 30.0
"""How long a body may take to arrive."""

ANSWER_BYTES_MAX = 64 * 1024**2
"""An engine's plain answer; a larger one is a fault of the engine."""

ATTEMPTS_MAX = 4
"""Replicas that may see one request, all before its first byte: a request that kills engines kills no more."""

TRIED_MAX = 16
"""Replicas tried for one request, those included that could not be reached."""

CONNECT_WAIT_S = 5.0
"""How long an engine may take to accept a connection: a short accept queue that is full for a moment
costs a second or three, since the kernel asks again only then."""

FIRST_BYTE_WAIT_S = 120.0
"""How long an engine may take to begin its answer (a long prompt, a queue)."""

IDLE_GAP_S = 60.0
"""How long an engine may fall silent in the middle of an answer."""

CALL_MAX_S = 3_600.0
"""How long one request may take in all, whatever its engine goes on sending."""

CLIENT_STUCK_S = 60.0
"""How long a client may leave what it is sent unread."""

ENGINE_KEEPALIVE_S = 3.0
"""How long an idle connection to an engine is kept; engines close theirs after five seconds."""

BATCH_WAIT_S = 0.05
"""How long an ended request's row waits for others to travel with."""

MARK_WAIT_S = 10.0
"""How long the ledger may stay behind a whole bus before batches are told again."""

SUBSCRIBERS_MAX = 512
"""Readers of ``/api/v1/events`` at once; further ones are answered 503."""

RING_EVENTS = 4_096
"""Events kept in memory for all readers together."""

HEARTBEAT_S = 10.0
"""How often a quiet event stream shows that it lives."""

TRACES_PER_S_MAX = 20.0
"""Requests a second whose trace is kept: all of them at a person's pace, a sample of them under load."""

SIGN_OF_LIFE_S = 5.0
"""How often a streaming client that waits in line is shown that it is not forgotten."""
