"""Whom the agent trusts on its way to a BMC and to an erase report, from its settings to the wire."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from meshkit.config import load
from node_agent.devices.rehearsal import Rehearsal
from node_agent.doubles.redfish import Double
from node_agent.doubles.redfish_pages import State
from node_agent.servers import Server, ServerFault
from node_agent.servers.opened import open_server
from node_agent.servers.report import REPORT_BYTES_MAX, read_report
from node_agent.settings import AgentSettings

from tests.adapters.bare_metal import ADDRESS, PASSWORD, USER, image_ran

pytestmark = pytest.mark.slow

LONG_S = timedelta(days=1)


def certificate(folder: Path) -> Path:
    """Write a certificate that signs itself, with its key, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a bmc")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LONG_S)
        .not_valid_after(now + LONG_S)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "bmc.pem"
    unencrypted = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    pem.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, form, unencrypted)
    )
    return pem


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return certificate(tmp_path)


@pytest.fixture
def bmc(pem: Path) -> Iterator[Double]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    made = Double(State(system="one", users={USER: PASSWORD}), tls=tls)
    yield made
    made.close()


def held(folder: Path, bmc: Double, **told: str) -> Server:
    login = folder / "login"
    login.write_text(f"{USER}\n{PASSWORD}")
    login.chmod(0o600)
    surroundings = {
        "NATS_URL": "nats://127.0.0.1:1",
        "AGENT_NAME": "n1",
        "AGENT_DATA_DIR": str(folder),
        "AGENT_BMC_URL": bmc.url,
        "AGENT_BMC_CREDENTIALS_FILE": str(login),
        "AGENT_LEASE_ADDRESS": ADDRESS,
        **told,
    }
    return open_server(load(AgentSettings, surroundings), Rehearsal("n1", 1, folder))


async def test_a_bmc_with_a_certificate_of_a_ca_that_is_named_is_trusted(
    tmp_path: Path, bmc: Double, pem: Path
) -> None:
    assert (await held(tmp_path, bmc, AGENT_BMC_CA_FILE=str(pem)).hand_over()).address == ADDRESS
    assert bmc.state.power == "On"


async def test_one_whose_ca_is_not_named_is_told_nothing(tmp_path: Path, bmc: Double) -> None:
    with pytest.raises(ServerFault, match="not trusted: name its CA in AGENT_BMC_CA_FILE"):
        await held(tmp_path, bmc).hand_over()
    assert bmc.state.asked == []


async def test_who_says_so_trusts_any(tmp_path: Path, bmc: Double) -> None:
    assert (await held(tmp_path, bmc, AGENT_BMC_INSECURE="true").hand_over()).address == ADDRESS


async def test_neither_a_proxy_nor_a_netrc_comes_between_the_agent_and_its_bmc(
    tmp_path: Path, bmc: Double, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password wrong\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert (await held(tmp_path, bmc, AGENT_BMC_CA_FILE=str(pem)).hand_over()).address == ADDRESS


@pytest.fixture
def kept(tmp_path: Path, pem: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A place of reports over https, and what it says: a status and content."""
    says: dict[str, Any] = {"status": 200, "content": b""}

    class Reports(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(says["status"])
            self.end_headers()
            self.wfile.write(says["content"])

        def log_message(self, *_said: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Reports)
    server.handle_error = lambda *_said: None  # type: ignore[method-assign]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/{{system}}.json", says
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_report_is_read_over_https_and_one_that_is_not_there_is_none(
    tmp_path: Path, pem: Path, kept: tuple[str, dict[str, Any]]
) -> None:
    url, says = kept
    image_ran(tmp_path, "one", ["A"], 1)
    says["content"] = (tmp_path / "one.json").read_bytes()
    report = read_report(url, "one", pem, 2.0)
    assert report is not None
    assert (report.report_id, [one.serial for one in report.drives]) == ("run-1", ["A"])
    says["content"] += b" " * REPORT_BYTES_MAX + b"more"
    assert read_report(url, "one", pem, 2.0) == report
    says["status"] = 404
    assert read_report(url, "one", pem, 2.0) is None


@pytest.mark.parametrize("fault", ["status 503", "certificate verify failed", "refused"])
def test_a_place_of_reports_that_does_not_serve_is_named(
    pem: Path, kept: tuple[str, dict[str, Any]], fault: str
) -> None:
    url, says = kept
    says["status"] = 503
    trusted = None if "certificate" in fault else pem
    place = "https://127.0.0.1:9/{system}" if fault == "refused" else url
    with pytest.raises(ServerFault, match=f"the erase report at https.*{fault}"):
        read_report(place, "one", trusted, 2.0)
