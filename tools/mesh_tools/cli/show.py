"""Tables for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

UJ_PER_WH = 3_600_000_000

Column = tuple[str, Callable[[dict[str, Any]], Any]]


def out(value: Any) -> None:
    """Print JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(items: Sequence[dict[str, Any]], columns: Sequence[Column], empty: str) -> None:
    """Print one line an item, columns aligned; numbers to the right."""
    if not items:
        print(empty)
        return
    cells = [[text(read(item)) for _, read in columns] for item in items]
    right = [all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    heads = [name.upper() for name, _ in columns]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(columns))]
    for row in [heads, *cells]:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        print("  ".join(padded).rstrip())


def facts(value: dict[str, Any], under: str = "") -> None:
    """Print one object as lines of ``name  value``; nested names joined by dots."""
    for name, one in value.items():
        label = f"{under}{name}"
        if isinstance(one, dict) and one:
            facts(one, f"{label}.")
        elif isinstance(one, list) and one and isinstance(one[0], dict):
            for number, item in enumerate(one):
                facts(item, f"{label}[{number}].")
        else:
            print(f"{label:32} {text(one)}")


def text(value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(text(one) for one in value)
    return str(value)


def field(*names: str) -> Callable[[dict[str, Any]], Any]:
    """Return a reader of a nested field."""

    def read(item: dict[str, Any]) -> Any:
        found: Any = item
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    return read


def age(name: str) -> Callable[[dict[str, Any]], str]:
    """Return a reader of how long ago a time was."""

    def read(item: dict[str, Any]) -> str:
        if not item.get(name):
            return "-"
        then = datetime.fromisoformat(str(item[name]))
        seconds = int((datetime.now(UTC) - then).total_seconds())
        for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
            if seconds >= size:
                return f"{seconds // size} {unit}"
        return f"{max(seconds, 0)} s"

    return read


def reasons(item: dict[str, Any]) -> str:
    """Return why an object is as it is, in one line."""
    return "; ".join(
        one["detail"] + (f" → {one['unblock']}" if one.get("unblock") else "")
        for one in item.get("reasons") or []
    )


def euros(name: str) -> Callable[[dict[str, Any]], str]:
    """Return a reader of micro-euros as euros, to the last digit."""

    def read(item: dict[str, Any]) -> str:
        micro = int(item.get(name) or 0)
        return f"{micro // 1_000_000}.{micro % 1_000_000:06d}"

    return read


def watt_hours(energy_uj: str | int) -> str:
    """Return microjoules as watt-hours."""
    return f"{int(energy_uj) / UJ_PER_WH:.6f}"


def milligrams(carbon_ug: str | int) -> str:
    """Return micrograms as milligrams."""
    return f"{int(carbon_ug) / 1_000:.3f}"


def complain(words: str) -> None:
    """Print a line where errors go."""
    print(words, file=sys.stderr)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "", 1).replace("-", "", 1).isdigit()
