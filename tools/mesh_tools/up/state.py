"""What others are told about a running mesh: the ready file, and ``state.json`` for the commands."""

import json
import os
from pathlib import Path
from typing import Any

from mesh_tools.up.layout import UpFailed, write_private


class State:
    """A running mesh's addresses, keys and processes; files follow once it is ready."""

    def __init__(
        self, files: list[Path], *, gateway: str, admin_key: str, project_key: str, nats_url: str
    ) -> None:
        self.files = files
        self.gateway = gateway
        self.admin_key = admin_key
        self.project_key = project_key
        self.nats_url = nats_url
        self.postgres_dsn = ""
        self.pids: dict[str, list[int]] = {}
        self._written = False

    def told(self) -> dict[str, Any]:
        """Return the content of the files."""
        return {
            "gateway": self.gateway,
            "admin_key": self.admin_key,
            "project_key": self.project_key,
            "nats_url": self.nats_url,
            "postgres_dsn": self.postgres_dsn,
            "pids": self.pids,
            "up": os.getpid(),
        }

    def write(self) -> None:
        """Say that the mesh is ready. Raises ``UpFailed`` as ``refresh`` does."""
        self._written = True
        self.refresh()

    def refresh(self) -> None:
        """Say what changed, if anything has been said yet. Raises ``UpFailed`` where it cannot be written."""
        if self._written:
            for path in self.files:
                try:
                    write_private(path, json.dumps(self.told(), indent=1) + "\n")
                except OSError as fault:
                    raise UpFailed(
                        f"{path} cannot be written ({fault.strerror}): it does not say what runs now"
                    ) from fault

    def remove(self) -> None:
        """Say that it is ready no more."""
        self._written = False
        for path in self.files:
            path.unlink(missing_ok=True)
