"""Settings, read once from the environment; everything missing is named in one error."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from mesh_contracts.units import DEFAULT_SITE

from meshkit.errors import ConfigError


class Secret:
    """A text that prints, logs and encodes as ``***``; ``reveal`` gives it away on purpose."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service is told. A field ``nats_url`` is read from ``NATS_URL``.

    ``nats_credentials`` is a file with an nkey seed; ``mesh_secret_file`` holds what principals
    are sealed with. ``mesh_ops_port`` 0 picks a free port. Spans go to
    ``otel_exporter_otlp_endpoint`` where it is set, else to bounded files in ``mesh_trace_dir``.
    """

    nats_url: str
    nats_credentials: Path
    mesh_secret_file: Path
    mesh_site: str = DEFAULT_SITE
    mesh_ops_port: int = 0
    mesh_trace_dir: Path | None = None
    mesh_trace_ratio: float = 1.0
    otel_exporter_otlp_endpoint: str | None = None


class StoreSettings(Settings, frozen=True, kw_only=True):
    """The settings of a service with a database."""

    postgres_dsn: Secret


T = TypeVar("T", bound=Settings)


def load(kind: type[T], environ: Mapping[str, str] | None = None) -> T:
    """Return the settings of ``kind`` from the environment.

    A type of its own reads itself with a class method ``of_text`` that raises ``ValueError``.
    Raises ``ConfigError``, which names every variable that is missing or unusable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    faults = []
    for field in msgspec.structs.fields(kind):
        name = field.name.upper()
        text = environ.get(name)
        if text is None or text == "":
            if field.required:
                faults.append(f"{name} is not set")
            continue
        try:
            values[field.name] = _read(text, field.type)
        except (msgspec.ValidationError, ValueError) as fault:
            faults.append(f"{name} is unusable: {fault}")
    if faults:
        raise ConfigError("; ".join(faults))
    return kind(**values)


def _read(text: str, kind: Any) -> Any:
    return msgspec.convert(text, kind, strict=False, dec_hook=_dec_hook)


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is Secret:
        return Secret(str(value))
    if issubclass(kind, Path):
        return Path(str(value))
    read = getattr(kind, "of_text", None)
    if read is not None:
        return read(str(value))
    message = f"no setting of type {kind.__name__}"
    raise TypeError(message)


def read_secret(path: Path) -> Secret:
    """Return a file's first line as a secret. Raises ``ConfigError`` where it cannot be read."""
    try:
        text = path.read_text().strip()
    except OSError as fault:
        raise ConfigError(f"{path}: {fault.strerror}; it should hold a secret") from fault
    if not text:
        raise ConfigError(f"{path} is empty; it should hold a secret")
    return Secret(text)
