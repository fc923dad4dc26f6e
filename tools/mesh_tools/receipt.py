"""Verify a receipt offline: nothing of the mesh is imported, nobody is asked.

A receipt is a JSON object. Signed (Ed25519) is the RFC 8785 canonical JSON of all of it but
``signature`` and ``key_fingerprint``. Rules that are checked beside the signature:

- carbon_ug = energy_uj x factor.carbon_mg_per_kwh / 3.6e9, rounded down with a carried remainder,
  so that it is the quotient's floor or one more;
- the factor was valid by the time of settlement; the times stand in order.
"""

import argparse
import io
import json
import re
import sys
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

UNSIGNED = ("signature", "key_fingerprint")
UJ_MG_PER_UG = 3_600_000_000
SAFE_MAX = 2**53
RECEIPT_BYTES_MAX = 65_536
_KEY = re.compile(r"^[0-9a-fA-F]{64}$")


class RefusedError(Exception):
    """The receipt does not prove what it says; the text names the check that failed."""


def canonical(value: Any) -> bytes:
    """Return RFC 8785 canonical JSON of objects, lists, strings, null, booleans and integers.

    With ASCII names and integers up to 2^53 these are Python's own sorted, unspaced form.
    """
    _only_plain(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _only_plain(value: Any) -> None:
    if isinstance(value, dict):
        if not all(name.isascii() for name in value):
            raise RefusedError("form: a field's name is not ASCII")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _only_plain(item)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) > SAFE_MAX):
        raise RefusedError("form: a number is no integer up to 2^53 (larger: decimal strings)")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise RefusedError("form: a field stands there twice")
    return dict(pairs)


def _whole(body: dict[str, Any], name: str) -> int:
    text = str(body[name])
    if not (text.isascii() and text.isdigit()):
        raise RefusedError(f"form: {name} is not a whole number")
    return int(text)


def verify(receipt: dict[str, Any], public_key: bytes) -> list[str]:
    """Return what is proved, a line a check. Raises ``RefusedError`` at the first that fails."""
    body = {name: value for name, value in receipt.items() if name not in UNSIGNED}
    try:
        if receipt["key_fingerprint"] != sha256(public_key).hexdigest():
            raise RefusedError("key: the receipt was signed by another key than the one given")
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            bytes.fromhex(receipt["signature"]), canonical(body)
        )
        energy, carbon = _whole(body, "energy_uj"), _whole(body, "carbon_ug")
        factor = body["factor"]
        exact = energy * _whole(factor, "carbon_mg_per_kwh")
        if carbon - exact // UJ_MG_PER_UG not in {0, 1}:
            raise RefusedError("carbon: carbon_ug is not energy_uj times the factor, within one µg")
        times = [
            datetime.fromisoformat(body[name]) for name in ("started_at", "ended_at", "settled_at")
        ]
        if times != sorted(times) or factor["valid_from"] > body["settled_at"][:10]:
            raise RefusedError("times: not in order (start, end, settlement; factor before)")
    except InvalidSignature:
        raise RefusedError("signature: it does not fit; something was changed after signing") from None
    except (KeyError, TypeError, ValueError) as fault:
        raise RefusedError(
            f"form: this is no whole receipt ({type(fault).__name__}: {fault})"
        ) from fault
    where = body.get("node_id") or "no node"
    return [
        f"signature  fits: nothing was changed since key {receipt['key_fingerprint'][:16]}… signed it",
        f"request    {body['request_id']}: {body['state']} at {body['site']} ({body['jurisdiction']}), {where}",
        f"tokens     {body['prompt_tokens']} + {body['completion_tokens']} (from {body['tokens_from']})",
        f"cost       {body['cost_microeur']} micro-euros by price {body['price_id']}",
        f"energy     {energy} µJ, {body['quality']} ({body['energy_source']})",
        f"carbon     {carbon} µg CO2e = energy x {factor['carbon_mg_per_kwh']} mg/kWh, recomputed",
        f"factor     {factor['factor_id']}: {factor['source']}",
    ]


def read_key(text: str | None) -> bytes:
    """Return the public key from 64 hex digits, or from a file that holds them or a ``public_key``."""
    if text is None:
        raise RefusedError(
            "key: nothing is proved without --key: what GET /api/v1/carbon/signing-key answers"
        )
    if not _KEY.match(text):
        text = Path(text).read_text().strip()
        text = str(json.loads(text).get("public_key")) if text.startswith("{") else text
    if not _KEY.match(text):
        raise RefusedError("key: an Ed25519 public key is 64 hex digits")
    return bytes.fromhex(text)


def read_receipt(name: str) -> dict[str, Any]:
    """Return the receipt in a file, or from standard input for ``-``."""
    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    receipt = json.loads(raw, object_pairs_hook=_once) if len(raw) <= RECEIPT_BYTES_MAX else None
    if not isinstance(receipt, dict):
        raise RefusedError(f"form: {name} holds no receipt, which is one JSON object")
    return receipt


def main(argv: list[str]) -> int:
    """Print what a receipt proves and return 0, or which check failed and return 1."""
    parser = argparse.ArgumentParser(prog="mesh receipt", description="Verify a receipt offline.")
    command = parser.add_subparsers(required=True).add_parser("verify", help="signature and arithmetic")
    command.add_argument("file", help="the receipt as JSON; - reads it from standard input")
    command.add_argument("--key", help="the public key: 64 hex digits, or a file that holds them")
    asked = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that cannot write µ is no forgery
        sys.stdout.reconfigure(errors="replace")
    try:
        lines = verify(read_receipt(asked.file), read_key(asked.key))
    except (RefusedError, OSError, ValueError, RecursionError) as refused:
        print(f"REFUSED  {refused}")
        return 1
    print("\n".join([*lines, "VERIFIED"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
