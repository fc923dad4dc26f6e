"""Logs to stderr: a JSON line with the trace's id, or a readable line on a terminal."""

import logging
import re
import sys
from datetime import UTC, datetime

import msgspec

from meshkit.spans import trace_id

MESSAGE_CHARS_MAX = 4_000
"""A log line's message is cut here."""

_SECRETS = re.compile(
    r"(?P<key>\bmesh_[a-z]+_)[0-9A-Za-z]{20,}"  # an API key or join token keeps its role
    r"|(?P<seed>\bS[UACNOX])[A-Z2-7]{40,}"  # an nkey seed keeps its kind
    r"|(?P<user>://[^/\s:@]+:)[^/\s@]+(?=@)"  # a password within a URL
    r"|(?P<bearer>\b[Bb]earer )\S+"
)

_encode = msgspec.json.encode


def cleaned(text: str) -> str:
    """Return ``text`` without what looks like a key, a seed, or a password in a URL."""
    return _SECRETS.sub(lambda found: next(kept for kept in found.groups() if kept) + "***", text)


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, service, logger, message, trace_id, and where a fault came from."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, cleaned of secrets."""
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": cleaned(record.getMessage())[:MESSAGE_CHARS_MAX],
        }
        trace = trace_id()
        if trace is not None:
            fields["trace_id"] = trace
        if record.exc_info:
            fields["fault"] = cleaned(self.formatException(record.exc_info))[-MESSAGE_CHARS_MAX:]
        return _encode(fields).decode()


class Readable(logging.Formatter):
    """The same, for a person at a terminal."""

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s {service} %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, cleaned of secrets."""
        return cleaned(super().format(record))


def log_to_stderr(service: str) -> logging.Handler:
    """Send this process's logs to stderr, once however often it is called; return the handler."""
    root = logging.getLogger()
    for held in list(root.handlers):
        if getattr(held, "of_mesh", False):
            root.removeHandler(held)
    handler = logging.StreamHandler(sys.stderr)
    handler.of_mesh = True  # type: ignore[attr-defined]
    handler.setFormatter(Readable(service) if sys.stderr.isatty() else JsonLines(service))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for chatty in ("opentelemetry", "urllib3", "asyncio", "nats", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler
