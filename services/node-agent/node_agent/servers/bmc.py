"""A BMC through ``sushy``: each method blocks, is one short exchange, and raises what ``sushy`` raises."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import sushy
from sushy import exceptions
from sushy.auth import SessionOrBasicAuth
from sushy.connector import Connector

from node_agent.domain.proof import Drive
from node_agent.servers.keys import PASSWORD_CHARS, PASSWORD_CHARS_MIN, Login

SYSTEM = "/Systems/"
ROOT = "/redfish/v1/"
CONNECT_WITHIN_S = 5.0
WAYS = ("BlockErase", "CryptographicErase", "Overwrite")
"""Kinds of a sanitize, best first: NIST SP 800-88 counts the first two as a purge of flash."""
_DISCS = {"CD", "DVD"}
_STOPPED = {"Completed", "Exception", "Killed", "Cancelled", "Interrupted"}


# What goes wrong is told in our own words, and without passwords that a BMC repeats.
logging.getLogger("sushy").setLevel(logging.CRITICAL)


class Refused(Exception):
    """The BMC does not do what was asked; the message says what."""


class Bmc:
    """The BMC at ``url``, and the one server behind it.

    ``url`` may name the system (``https://bmc/redfish/v1/Systems/1``) where the BMC has several.
    Opening it asks for the system, so that a login that the BMC refuses is known at once.
    """

    def __init__(self, url: str, login: Login, *, verify: bool | str, request_s: float) -> None:
        parts = urlsplit(url)
        self._conn = Connector(
            urlunsplit((parts.scheme, parts.netloc, "", "", "")),
            verify=verify,
            server_side_retries=1,
            server_side_retries_delay=0,
            default_request_timeout=request_s,
            connect_timeout=min(CONNECT_WITHIN_S, request_s),
        )
        # Neither a proxy nor a .netrc of the agent's user has a say between it and its BMC.
        self._conn._session.trust_env = False  # noqa: SLF001 - sushy has no setting for it
        self._auth = SessionOrBasicAuth(login.user, login.password.reveal())
        self._root = sushy.Sushy(parts.netloc, auth=self._auth, connector=self._conn)
        self._system = self._root.get_system(parts.path if SYSTEM in parts.path else None)
        self.login = login
        self.uuid = str(self._system.uuid or "").lower()

    def close(self) -> None:
        """End the session, where there is one."""
        # Else sushy would log in once more to end it, with a password that may be the last one.
        self._conn.set_auth(None)
        try:
            self._auth.close()
        except exceptions.SushyError:
            self._auth.reset_session_attrs()
        self._conn.close()

    def power(self) -> str:
        """Return ``On``, ``Off``, or what lies between."""
        self._system.refresh(force=True)
        state = self._system.power_state
        return "unknown" if state is None else str(state.value)

    def reset(self, *kinds: str) -> bool:
        """Ask for the first of the kinds of reset that the server offers; false where it offers none."""
        offered = {kind.value: kind for kind in self._system.get_allowed_reset_system_values()}
        for kind in kinds:
            if kind in offered:
                self._system.reset_system(offered[kind])
                return True
        return False

    def boot_once(self, *, disc: bool) -> None:
        """Have the next start boot from the virtual disc, or from the network."""
        self._system.refresh(force=True)
        target = sushy.BootSource.CD if disc else sushy.BootSource.PXE
        self._system.set_system_boot_options(target, enabled=sushy.BootSourceOverrideEnabled.ONCE)

    def insert(self, image: str) -> None:
        """Have an image put into the first virtual drive that takes discs. Raises ``Refused``."""
        drives = self._media()
        drive = next((one for one in drives if _DISCS & {k.name for k in one.media_types}), None)
        if drive is None:
            raise Refused("the BMC has no virtual drive that takes discs")
        if not (drive.inserted and drive.image == image):
            drive.insert_media(image)

    def inserted(self) -> bool:
        """Tell whether an image is in a virtual drive; a BMC may take a while to fetch one."""
        return any(drive.inserted for drive in self._media())

    def eject(self) -> None:
        """Empty every virtual drive. Raises ``Refused``."""
        for drive in self._media():
            if drive.inserted or drive.image:
                drive.eject_media()
                drive.refresh(force=True)
            if drive.inserted:
                raise Refused(f"the BMC did not eject {drive.identity}")

    def firmware(self) -> dict[str, str]:
        """Return versions by component: ``Manager``, ``BIOS``, and all that the inventory lists."""
        found = {"Manager": self._manager().firmware_version, "BIOS": self._system.bios_version}
        try:
            for item in self._root.get_update_service().firmware_inventory.get_members():
                found[item.identity] = item.version
        except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
            pass
        return {name: str(version) for name, version in found.items() if version}

    def secure_boot(self) -> bool | None:
        """Return whether the last start was a secure one; nothing where the BMC does not say."""
        try:
            self._system.secure_boot.refresh(force=True)
            state = self._system.secure_boot.current_boot
        except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
            return None
        return None if state is None else bool(state.value == "Enabled")

    def drives(self) -> list[Drive]:
        """Return the drives that the BMC knows; none where it knows of no storage."""
        if "Storage" not in self._system.json:
            return []
        self._system.storage.refresh(force=True)
        units = self._system.storage.get_members()
        listed = [one["@odata.id"] for unit in units for one in unit.json.get("Drives") or ()]
        return [_drive(self._get(path)) for path in listed]

    def erase(self, drive: Drive) -> tuple[str, str | None]:
        """Begin a secure erase; return its kind and the task that tells of its end, if any."""
        way = next((one for one in WAYS if one in drive.ways), None)
        answer = self._conn.post(drive.erase, data={} if way is None else {"SanitizationType": way})
        return way or "SecureErase", answer.headers.get("Location")

    def task(self, path: str) -> tuple[str | None, str]:
        """Return a task's end (``OK``, or what went wrong; nothing while it runs) and its id."""
        answer = self._conn.get(path)
        body = answer.json() if answer.content else {}
        state = body.get("TaskState")
        name = str(body.get("Id") or path.rstrip("/").rpartition("/")[2])
        if answer.status_code == 202 or (state is not None and state not in _STOPPED):
            return None, name
        if state == "Completed" and body.get("TaskStatus", "OK") == "OK":
            return "OK", name
        return f"{state or 'no state'}, {body.get('TaskStatus') or 'no status'}", name

    def reset_manager(self) -> bool:
        """Ask the BMC to start anew; false where it does not offer that. Whether it did is to be looked at.

        One that starts at once may not answer any more: it is not asked again for that.
        """
        manager = self._manager()
        if "#Manager.Reset" not in (manager.json.get("Actions") or {}):
            return False
        offered = {kind.value: kind for kind in manager.get_allowed_reset_manager_values()}
        kind = offered.get("GracefulRestart") or offered.get("ForceRestart")
        if kind is not None:
            with contextlib.suppress(exceptions.ConnectionError):
                manager.reset_manager(kind)
        return kind is not None

    def manager_reset_at(self) -> str | None:
        """Return when the BMC last started, as it tells it, if it does."""
        manager = self._manager()
        manager.refresh(force=True)
        at: str | None = manager.json.get("LastResetTime")
        return at

    def password_chars(self) -> int:
        """Return how long a password may be that the BMC takes, up to our own length. Raises ``Refused``."""
        rules = self._accounts()
        longest = int(rules.get("MaxPasswordLength") or PASSWORD_CHARS)
        if longest < PASSWORD_CHARS_MIN:
            raise Refused(f"the BMC takes passwords of {longest} characters at most")
        return max(min(PASSWORD_CHARS, longest), int(rules.get("MinPasswordLength") or 0))

    def change_password(self, fresh: Login) -> None:
        """Give the account its next password. Raises ``Refused`` where the BMC has no such account."""
        for path, account in self._members():
            if account.get("UserName") == fresh.user:
                self._conn.patch(path, data={"Password": fresh.password.reveal()})
                return
        raise Refused(f"the BMC lists no account {fresh.user}")

    def accounts(self) -> list[str]:
        """Return who may log in; nobody where the BMC has no account service."""
        if "AccountService" not in self._root.json:
            return []
        told = [account for _, account in self._members() if account.get("Enabled", True)]
        return sorted(str(account["UserName"]) for account in told if account.get("UserName"))

    def console(self) -> str | None:
        """Return where the server's console is, if the BMC says so."""
        host = urlsplit(self._conn._url).hostname  # noqa: SLF001 - its own address, given above
        for holder in (self._system.json, self._manager().json):
            line: Mapping[str, Any] = holder.get("SerialConsole") or {}
            shell: Mapping[str, Any] = line.get("SSH") or {}
            if shell.get("ServiceEnabled"):
                return f"ssh://{host}:{shell.get('Port', 22)}"
            kinds: Sequence[str] = line.get("ConnectTypesSupported") or ()
            if line.get("ServiceEnabled") and "SSH" in kinds:
                return f"ssh://{host}:22"
        return None

    def _manager(self) -> Any:
        found = self._system.managers
        if not found:
            raise Refused("the BMC lists no manager of its server")
        return found[0]

    def _media(self) -> Sequence[Any]:
        try:
            units = self._system.virtual_media
        except exceptions.MissingAttributeError:
            units = self._manager().virtual_media
        units.refresh(force=True)
        return list(_fresh(units.get_members()))

    def _accounts(self) -> dict[str, Any]:
        path = self._root.json.get("AccountService", {}).get("@odata.id")
        if path is None:
            raise Refused(
                "the BMC has no account service: set AGENT_BMC_ACCOUNT=fixed where somebody else changes its password"
            )
        return self._get(path)

    def _members(self) -> Iterator[tuple[str, dict[str, Any]]]:
        listed = self._get(self._accounts().get("Accounts", {}).get("@odata.id", ""))
        for member in listed.get("Members", []):
            yield member["@odata.id"], self._get(member["@odata.id"])

    def _get(self, path: str) -> dict[str, Any]:
        body: dict[str, Any] = self._conn.get(path).json()
        return body


def _fresh(found: Sequence[Any]) -> Iterator[Any]:
    for one in found:
        one.refresh(force=True)
        yield one


def _drive(told: Mapping[str, Any]) -> Drive:
    action = (told.get("Actions") or {}).get("#Drive.SecureErase") or {}
    return Drive(
        name=str(told.get("Name") or told.get("Id")),
        serial=str(told.get("SerialNumber") or "").strip(),
        model=str(told.get("Model") or ""),
        erase=action.get("target"),
        ways=tuple(action.get("SanitizationType@Redfish.AllowableValues") or ()),
    )
