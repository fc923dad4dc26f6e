"""Commands and headers as NATS writes them: bytes in, bytes out, nothing that waits."""

import re
from collections.abc import Mapping

HEADER_LINE = b"NATS/1.0"
CRLF = b"\r\n"
PING = b"PING\r\n"

_UNFIT_SUBJECT = re.compile(r"[\s\x00]")
_UNFIT_HEADER = re.compile(r"[\r\n]")


def pub(subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> bytes:
    """Return one publish. Raises ``ValueError`` where a subject or header would break the protocol."""
    if not subject or _UNFIT_SUBJECT.search(subject) or (reply and _UNFIT_SUBJECT.search(reply)):
        message = f"a subject may not be empty or hold white space: {subject!r}"
        raise ValueError(message)
    target = f"{subject} {reply}" if reply else subject
    if not headers:
        return f"PUB {target} {len(data)}\r\n".encode() + data + CRLF
    block = header_block(headers)
    return f"HPUB {target} {len(block)} {len(block) + len(data)}\r\n".encode() + block + data + CRLF


def header_block(headers: Mapping[str, str]) -> bytes:
    """Return headers encoded. Raises ``ValueError`` where one holds a line break."""
    lines = "\r\n".join([f"{name}: {value}" for name, value in headers.items()])
    if _UNFIT_HEADER.search(lines.replace("\r\n", "", len(headers) - 1)):
        message = "a header may not hold a line break"
        raise ValueError(message)
    return b"NATS/1.0\r\n" + lines.encode() + b"\r\n\r\n"


def sub(subject: str, queue: str, sid: int) -> bytes:
    """Return one subscribe."""
    return f"SUB {subject} {queue} {sid}\r\n".encode() if queue else f"SUB {subject} {sid}\r\n".encode()


def unsub(sid: int) -> bytes:
    """Return one unsubscribe."""
    return f"UNSUB {sid}\r\n".encode()


def status_of(block: bytes | None) -> int:
    """Return the status that stands in a header block's first line, 0 where there is none."""
    if block is None or len(block) < 12 or block[8] != 0x20:
        return 0
    digits = block[9:12]
    return int(digits) if digits.isdigit() else 0


def description_of(block: bytes) -> str:
    """Return the text behind a status."""
    return block[12 : block.find(CRLF)].strip().decode("utf-8", "replace")


def parse_headers(block: bytes | None) -> dict[str, str]:
    """Return a header block as a dict; the last of a repeated name stands."""
    if block is None:
        return {}
    found = {}
    for line in block.split(CRLF)[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.decode("ascii", "replace")] = value.strip().decode("utf-8", "replace")
    return found
