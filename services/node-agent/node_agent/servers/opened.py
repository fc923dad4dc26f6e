"""Which hold the agent has of its server: its BMC's, a rehearsal's of one that is not there, or none."""

from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from meshkit.errors import ConfigError

from node_agent.devices import Devices
from node_agent.devices.declared import Declared
from node_agent.devices.rehearsal import Rehearsal
from node_agent.domain.proof import Expected
from node_agent.servers import Server, Unmanaged
from node_agent.servers.rehearsal import RehearsalServer
from node_agent.settings import AgentSettings

_SCHEMES = {
    "agent_bmc_url": {"https", "http"},
    "agent_lease_image_url": {"https", "http"},
    "agent_erase_image_url": {"https", "http"},
    "agent_erase_report_url": {"https", "http", "file"},
}


def open_server(settings: AgentSettings, devices: Devices) -> Server:
    """Return the server of these devices. Raises ``ConfigError``, which names all that is missing.

    What a BMC shows of a server with rehearsed devices is a rehearsal all the same.
    """
    if settings.agent_bmc_url is not None:
        return _redfish(settings, settings.agent_bmc_url, devices)
    if isinstance(devices, Rehearsal):
        return RehearsalServer(settings.agent_name, devices.lease_fault)
    return Unmanaged()


def _redfish(settings: AgentSettings, url: str, devices: Devices) -> Server:
    faults = _faults(settings, url)
    if faults:
        raise ConfigError("; ".join(faults))
    # Only where there is a BMC: sushy takes half a second to import.
    from node_agent.servers.bmc import Bmc  # noqa: PLC0415 - see above
    from node_agent.servers.image import Hold  # noqa: PLC0415 - same
    from node_agent.servers.keys import Keys, Login  # noqa: PLC0415 - same
    from node_agent.servers.line import Line, Pace  # noqa: PLC0415 - same
    from node_agent.servers.redfish import RedfishServer  # noqa: PLC0415 - same

    assert settings.agent_bmc_credentials_file is not None
    assert settings.agent_lease_address is not None
    ca_file, pace = settings.agent_bmc_ca_file, Pace()
    verify = not settings.agent_bmc_insecure if ca_file is None else str(ca_file)
    keys = Keys(
        settings.agent_bmc_credentials_file,
        settings.agent_data_dir,
        fixed=settings.agent_bmc_account == "fixed",
    )
    hold = Hold(
        address=settings.agent_lease_address,
        lease_image=settings.agent_lease_image_url,
        erase_image=settings.agent_erase_image_url,
        report_url=settings.agent_erase_report_url,
        ca_file=ca_file,
        expected=_expected(settings.agent_firmware_file),
    )

    def opened(login: Login) -> Bmc:
        return Bmc(url, login, verify=verify, request_s=pace.request_s)

    line = Line(opened, keys, pace)
    declared = devices if isinstance(devices, Declared) else None
    return RedfishServer(line, hold, "rehearsed" if devices.rehearsal else "measured", declared)


def _faults(settings: AgentSettings, url: str) -> list[str]:
    """Return what is missing or cannot be meant, each with what to write."""
    faults = [
        f"{name.upper()} is not set: AGENT_BMC_URL needs it"
        for name in ("agent_bmc_credentials_file", "agent_lease_address")
        if getattr(settings, name) is None
    ]
    for name, schemes in _SCHEMES.items():
        said = getattr(settings, name)
        parts = urlsplit(said or "")
        if said is not None and parts.scheme not in schemes:
            faults.append(f"{name.upper()} begins with none of {', '.join(sorted(schemes))}")
        if parts.password is not None or parts.username is not None:
            faults.append(f"{name.upper()} holds a login: what is logged must not")
    if urlsplit(url).scheme == "http" and not settings.agent_bmc_insecure:
        faults.append("AGENT_BMC_URL is not https: only AGENT_BMC_INSECURE=true has that")
    if settings.agent_bmc_insecure and settings.agent_bmc_ca_file is not None:
        faults.append("AGENT_BMC_INSECURE and AGENT_BMC_CA_FILE exclude each other")
    if settings.agent_erase_image_url is not None and settings.agent_erase_report_url is None:
        faults.append("AGENT_ERASE_REPORT_URL is not set: the erase image leaves its evidence there")
    return faults


def _expected(file: Path | None) -> Expected | None:
    if file is None:
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Expected)
    except OSError as fault:
        raise ConfigError(f"AGENT_FIRMWARE_FILE {file}: {fault.strerror}") from fault
    except msgspec.MsgspecError as fault:
        raise ConfigError(
            f'AGENT_FIRMWARE_FILE {file}: {fault}; write {{"components": {{"BIOS": "1.2"}}, "secure_boot": true}}'
        ) from fault
