"""The listener's certificate from an ACME server."""

import datetime
import json
import os
import socket
import ssl
import subprocess

import pytest
from cryptography import x509

from acme_server import AcmeServer, plain
from conftest import binary, free_port, wait_for

NAME = "region.example.test"


@pytest.fixture
def server(tmp_path):
    started = []

    def start(**options):
        started.append(AcmeServer(tmp_path, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def shown(port, cafile=None, name=NAME):
    """The certificate that the listener shows who comes by a name, if its authority is good."""
    context = ssl.create_default_context(cafile=cafile) if cafile else ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        with context.wrap_socket(stream, server_hostname=name) as tls:
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))


def serial_of_server(port, acme):
    def look():
        try:
            found = shown(port, acme.ca).serial_number
        except ssl.SSLError:
            return None
        return found if found in acme.issued else None

    return wait_for("a certificate of the ACME server", look, 60)


def options(acme):
    return ["--acme", acme.directory, "--acme-ca", str(acme.ca), "--acme-contact", "ops@example.test",
            "--acme-name", NAME]


def test_by_tls_at_the_listener_itself_and_other_names_keep_the_regions_own(start_region, server):
    port = free_port()
    acme = server(tls_port=port)
    region = start_region(*options(acme), name="acme-tls", port=port)
    serial = serial_of_server(port, acme)
    assert acme.seen == [(NAME, "tls-alpn-01", "valid")]
    assert [each["contact"] for each in acme.accounts.values()] == [["mailto:ops@example.test"]]
    # Whoever comes by another name, or by the address, is shown what the region's own authority signs.
    assert shown(port, region.data_dir / "tls" / "ca.pem", "localhost").serial_number not in acme.issued
    # The proof is shown no longer, and nothing else in its place.
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["acme-tls/1"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream, pytest.raises(ssl.SSLError):
        context.wrap_socket(stream, server_hostname=NAME)
    # Clients and hosts are told of the ACME server's authority.
    assert json.loads((region.data_dir / "region.json").read_text())["authority"] == str(acme.ca)
    for file in ["account.json", "listener.pem"]:
        assert os.stat(region.data_dir / "tls" / "acme" / file).st_mode & 0o777 == 0o600
    # What was issued is shown again after a restart, without another order.
    region.down()
    region.up()
    assert shown(port, acme.ca).serial_number == serial
    assert len(acme.orders) == 1 and len(acme.accounts) == 1


def test_by_http_at_a_port_of_its_own_and_with_an_account_that_one_has(start_region, server, tmp_path):
    port, proofs = free_port(), free_port()
    acme = server(http_port=proofs, bound_to=("key-1", b"k" * 32))
    binding = tmp_path / "binding"
    binding.write_text(f"key-1\n{plain(b'k' * 32)}\n")
    start_region(*options(acme), "--acme-listen", f"127.0.0.1:{proofs}", "--acme-binding", str(binding),
                 "--acme-name", "api." + NAME, name="acme-http", port=port)
    serial = serial_of_server(port, acme)
    assert sorted(acme.seen) == [("api." + NAME, "http-01", "valid"), (NAME, "http-01", "valid")]
    assert shown(port, acme.ca, "api." + NAME).serial_number == serial


def test_it_is_renewed_before_it_ends_and_open_connections_go_on(start_region, server):
    port = free_port()
    acme = server(tls_port=port)
    acme.lasts = datetime.timedelta(seconds=24)
    start_region(*options(acme), name="acme-renewal", port=port)
    first = serial_of_server(port, acme)
    context = ssl.create_default_context(cafile=acme.ca)
    stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30), server_hostname=NAME)

    def asked():
        stream.sendall(f"GET /health HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        return stream.recv(4096).startswith(b"HTTP/1.1 200")

    # Asked all the while: who asks nothing for ten seconds is hung up on.
    wait_for("another certificate", lambda: asked() and shown(port).serial_number != first, 60, step=1)
    assert serial_of_server(port, acme) != first
    assert asked(), "a connection of before goes on"
    stream.close()


def test_a_server_that_says_no_leaves_what_is_there_and_the_reason_is_told(start_region, server):
    port = free_port()
    acme = server(tls_port=port)
    acme.refuses = "too many certificates for example.test"
    region = start_region(*options(acme), name="acme-refused", port=port)
    wait_for("the reason", lambda: "too many certificates" in region.run("status").stdout, 60)
    told = region.run("status").stdout
    assert "acme-certificate failed" in told and "asks again in 1 min" in told, told
    own = shown(port, region.data_dir / "tls" / "ca.pem", "localhost")
    assert shown(port).serial_number == own.serial_number, "the region's own until then"


def test_a_name_that_leads_elsewhere_is_named_with_what_the_server_found(start_region, server):
    port = free_port()
    acme = server(tls_port=free_port())
    region = start_region(*options(acme), name="acme-elsewhere", port=port)
    wait_for("the reason", lambda: "did not find the proof" in region.run("status").stdout, 60)
    told = region.run("status").stdout
    assert f"did not find the proof for {NAME}" in told and "Connection refused" in told, told


@pytest.mark.parametrize("extra, why", [
    (["--acme", "http://acme.lan/directory"], "https://"),
    (["--acme", "https://acme.lan/directory"], "--acme-name"),
    (["--acme", "https://acme.lan/directory", "--acme-name", "10.0.0.1"], "--acme-name"),
    (["--acme-name", "region.lan"], "--acme"),
])
def test_what_cannot_be_asked_for_is_refused_at_start(tmp_path, extra, why):
    done = subprocess.run([binary(), "region", "--data-dir", tmp_path / "d", "--listen", "127.0.0.1:0", *extra],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and why in done.stderr, done.stderr
