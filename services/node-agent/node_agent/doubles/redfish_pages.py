"""What the double of a BMC knows, and what it says of it."""

import re
import time
from dataclasses import dataclass, field
from typing import Any, Literal

ROOT = "/redfish/v1"

Json = dict[str, Any]


@dataclass
class Fault:
    """What goes wrong with requests whose ``METHOD path`` holds ``at``: the next ``times`` ones, or all.

    ``ignored``: answered as if it were done; ``dropped``: done and not answered; ``hangs``: answered after ``seconds``.
    """

    kind: Literal["busy", "hangs", "refused", "denied", "ignored", "dropped"]
    at: str = ""
    times: int | None = None
    seconds: float = 0.0


@dataclass
class State:
    """All that one BMC knows, for tests to read and to set. ``drives``: how the erase of each ends."""

    system: str
    users: dict[str, str]
    drives: dict[str, str] = field(default_factory=lambda: {"NVME-1": "OK", "NVME-2": "OK"})
    firmware: dict[str, str] = field(default_factory=lambda: {"BIOS": "1.2.0", "NIC": "22.41"})
    power: str = "Off"
    media: str | None = None
    boot: str = "None"
    secure_boot: bool = True
    erasable: bool = True
    tells_reset: bool = True
    resets: int = 0
    away_until: float = 0.0
    away_s: float = 0.3
    task_s: float = 0.1
    tasks: dict[str, tuple[float, str]] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    wrong_logins: int = 0
    booted: list[str | None] = field(default_factory=list)
    """What each start booted: an image, or nothing (the network)."""


def link(below: str) -> Json:
    """Return a reference to what stands below the root."""
    return {"@odata.id": f"{ROOT}{below}"}


def members(*below: str) -> Json:
    """Return a collection of these."""
    return {"Members": [link(one) for one in below], "Members@odata.count": len(below)}


def action(below: str, **allowed: list[str]) -> Json:
    """Return an action at a path, with the values that its parameters take."""
    named = {f"{name}@Redfish.AllowableValues": values for name, values in allowed.items()}
    return {"target": f"{ROOT}{below}"} | named


def page(state: State, below: str) -> Json | None:
    """Return what stands at a path below the root, if anything of the double's own does."""
    here = f"/Systems/{state.system}"
    fixed: dict[str, Json] = {
        "": {
            "Id": "double",
            "RedfishVersion": "1.15.0",
            **{name: link(f"/{name}") for name in ("Systems", "Managers", "AccountService")},
            **{name: link(f"/{name}") for name in ("SessionService", "UpdateService")},
            "Links": {"Sessions": link("/SessionService/Sessions")},
        },
        "/Systems": members(here),
        "/SessionService": {"Id": "S", "Name": "S", "Sessions": link("/SessionService/Sessions")},
        "/AccountService": {"Accounts": link("/AccountService/Accounts"), "MaxPasswordLength": 20},
        "/AccountService/Accounts": members(
            *(f"/AccountService/Accounts/{number}" for number in range(1, len(state.users) + 1))
        ),
        **{
            f"/AccountService/Accounts/{number}": {"Id": str(number), "UserName": user, "Enabled": True}
            for number, user in enumerate(state.users, 1)
        },
        "/UpdateService": {
            "Id": "U",
            "Name": "U",
            "Actions": {},
            "FirmwareInventory": link("/UpdateService/FirmwareInventory"),
        },
        "/UpdateService/FirmwareInventory": members(
            *(f"/UpdateService/FirmwareInventory/{name}" for name in state.firmware)
        ),
        "/Managers/BMC": {
            "Id": "BMC",
            "FirmwareVersion": "7.10",
            **({"LastResetTime": f"start {state.resets}"} if state.tells_reset else {}),
            "SerialConsole": {"ServiceEnabled": True, "ConnectTypesSupported": ["SSH"]},
            "Actions": {
                "#Manager.Reset": action(
                    "/Managers/BMC/Actions/Manager.Reset", ResetType=["GracefulRestart"]
                )
            },
        },
        f"{here}/Storage": members(f"{here}/Storage/1"),
        f"{here}/Storage/1": {
            "Id": "1",
            "Drives": [link(f"{here}/Storage/1/Drives/{name}") for name in state.drives],
        },
        f"{here}/SecureBoot": {
            "Id": "SecureBoot",
            "Name": "SecureBoot",
            "SecureBootCurrentBoot": "Enabled" if state.secure_boot else "Disabled",
        },
    }
    return fixed.get(below) or _item(state, here, below)


def _item(state: State, here: str, below: str) -> Json | None:
    drive = below.removeprefix(f"{here}/Storage/1/Drives/")
    if drive in state.drives:
        erase = action(
            f"{below}/Actions/Drive.SecureErase", SanitizationType=["CryptographicErase", "BlockErase"]
        )
        actions = {"#Drive.SecureErase": erase} if state.erasable else {}
        return {"Id": drive, "Name": f"disk {drive}", "SerialNumber": f"{drive}  ", "Actions": actions}
    item = re.fullmatch(r"/UpdateService/FirmwareInventory/(.+)", below)
    if item and item[1] in state.firmware:
        return {"Id": item[1], "Name": item[1], "Version": state.firmware[item[1]]}
    task = re.fullmatch(r"/TaskService/Tasks/(.+)", below)
    if task and task[1] in state.tasks:
        done_at, end = state.tasks[task[1]]
        if time.monotonic() < done_at:
            return {"Id": task[1], "TaskState": "Running"}
        stopped = "Completed" if end == "OK" else "Exception"
        return {"Id": task[1], "TaskState": stopped, "TaskStatus": end}
    return None


def machine(state: State, below: str) -> Json | None:
    """Return what stands at a path of the server itself, which an emulator may stand in for."""
    here = f"/Systems/{state.system}"
    media = f"{here}/VirtualMedia/Cd"
    found: dict[str, Json] = {
        here: {
            "Id": state.system,
            "UUID": state.system,
            "PowerState": state.power,
            "Boot": {
                "BootSourceOverrideTarget": state.boot,
                "BootSourceOverrideTarget@Redfish.AllowableValues": ["Pxe", "Cd", "Hdd"],
            },
            "VirtualMedia": link(f"{here}/VirtualMedia"),
            "Actions": {
                "#ComputerSystem.Reset": action(
                    f"{here}/Actions/ComputerSystem.Reset",
                    ResetType=["On", "ForceOff", "GracefulShutdown"],
                )
            },
        },
        f"{here}/VirtualMedia": members(media),
        media: {
            "Id": "Cd",
            "Name": "Virtual CD",
            "MediaTypes": ["CD", "DVD"],
            "Image": state.media,
            "Inserted": state.media is not None,
            "Actions": {
                "#VirtualMedia.InsertMedia": action(f"{media}/Actions/VirtualMedia.InsertMedia"),
                "#VirtualMedia.EjectMedia": action(f"{media}/Actions/VirtualMedia.EjectMedia"),
            },
        },
    }
    return found.get(below)


def own_parts(state: State, told: Json) -> Json:
    """Return what a server says of itself, with what the double adds to it."""
    here = f"/Systems/{state.system}"
    added = {"Storage": link(f"{here}/Storage"), "SecureBoot": link(f"{here}/SecureBoot")}
    return told | added | {"Links": {"ManagedBy": [link("/Managers/BMC")]}}
