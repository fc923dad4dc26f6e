"""Which heads of requests are refused, and what is said then: there is no request yet that could be answered."""

from inference_gateway.domain.faults import Fault

HEAD_BYTES_MAX = 64 * 1024
"""A request's first line and headers; a longer head is answered 431."""

HEAD_WAIT_S = 15.0
"""How long a head may take to arrive, from the moment its connection or its first byte is here."""

UNREADABLE = Fault(
    status=400,
    code="invalid_http",
    message="This is not HTTP/1.1. Send a well-formed request; TLS and HTTP/2 end in front of this door.",
)
TOO_LONG = Fault(
    status=431,
    code="head_too_large",
    message=f"The request's headers are larger than {HEAD_BYTES_MAX // 1024} KiB; send less in them.",
)
TOO_LATE = Fault(
    status=408,
    code="head_timeout",
    message=f"The request's headers did not arrive within {HEAD_WAIT_S:.0f} s; send the request again.",
)
_LINES = {
    400: b"HTTP/1.1 400 Bad Request\r\n",
    408: b"HTTP/1.1 408 Request Timeout\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
}


def refusal(fault: Fault) -> bytes:
    """Return a whole answer, after which the connection is closed."""
    body = fault.body()
    lines = [
        _LINES[fault.status],
        b"content-type: application/json\r\n",
        b"content-length: %d\r\n" % len(body),
        b"connection: close\r\n\r\n",
    ]
    return b"".join([*lines, body])
