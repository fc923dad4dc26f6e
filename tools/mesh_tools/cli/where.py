"""Which mesh is meant: ``MESH_URL`` and ``MESH_API_KEY``, else the one that runs in the data folder."""

import json
import os
from pathlib import Path
from typing import Any

DATA = ".mesh"


class NotFound(Exception):
    """No mesh is known; the message says what to do."""


def data_folder(given: str | None) -> Path:
    """Return the data folder: the one given, ``MESH_DATA``, or ``.mesh`` here or in a folder above."""
    named = given or os.environ.get("MESH_DATA")
    if named:
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / DATA / "state.json").exists():
            return folder / DATA
    return Path(DATA)


def state(given: str | None) -> dict[str, Any]:
    """Return what a running ``mesh up`` says of itself. Raises ``NotFound``."""
    path = data_folder(given) / "state.json"
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as fault:
        raise NotFound(
            f"no mesh runs in {path.parent}: start one with `./mesh up`, name its folder with --data,"
            " or set MESH_URL and MESH_API_KEY"
        ) from fault
    except (OSError, ValueError) as fault:
        raise NotFound(f"{path} cannot be read: {fault}") from fault
    return told


def door(given: str | None) -> tuple[str, str]:
    """Return the gateway's URL and the key to use. Raises ``NotFound``.

    A folder that is named means the mesh in it, whatever the environment says of another; the key of a
    mesh on this machine goes to no other address.
    """
    url = os.environ.get("MESH_URL")
    key = os.environ.get("MESH_ADMIN_KEY") or os.environ.get("MESH_API_KEY")
    if url and not given:
        if not key:
            raise NotFound(f"MESH_URL is {url}, but no key goes with it: set MESH_API_KEY")
        return url, key
    told = state(given)
    return str(told["gateway"]), (not given and key) or str(told["admin_key"])
