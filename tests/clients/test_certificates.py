"""Certificates of Certificate Manager, and listeners that show them to real TLS clients."""

import http.client
import socket
import ssl
import subprocess

import pytest

from conftest import free_port, wait_for
from services import only, refused
from test_load_balancers import Balancers

FIXED = {"Type": "fixed-response", "FixedResponseConfig": {
    "StatusCode": "200", "ContentType": "text/plain", "MessageBody": "secret"}}


@pytest.fixture
def acm(region):
    client, made = region.client("acm"), []
    yield client, made
    for arn in made:
        client.delete_certificate(CertificateArn=arn)


@pytest.fixture
def balancers(region, acm):
    """They go before the certificates that they show."""
    made = Balancers(region)
    yield made
    made.clean_up()


def authority(region):
    return region.data_dir / "tls" / "ca.pem"


def shake(region, port, name, **settings):
    """A connection whose certificate was verified for the name by the region's authority."""
    context = ssl.create_default_context(cafile=authority(region))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for key, value in settings.items():
        setattr(context, key, value)
    context.set_alpn_protocols(["h2", "http/1.1"])
    stream = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(stream, server_hostname=name)


def is_shown(region, port, name):
    try:
        with shake(region, port, name):
            return True
    except OSError:
        return False


def self_signed(folder, name):
    key, certificate = folder / "own.key", folder / "own.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7", "-keyout", str(key), "-out",
                    str(certificate), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"],
                   check=True, capture_output=True, timeout=60)
    return {"Certificate": certificate.read_bytes(), "PrivateKey": key.read_bytes()}


def test_a_certificate_is_issued_shown_in_use_and_deleted_after_its_listener(region, balancers, acm):
    acm, _ = acm
    arn = acm.request_certificate(DomainName="shop.example.com", ValidationMethod="DNS",
                                  SubjectAlternativeNames=["*.shop.example.com"])["CertificateArn"]
    acm.get_waiter("certificate_validated").wait(CertificateArn=arn)
    shown = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert (shown["Status"], shown["Type"], shown["InUseBy"]) == ("ISSUED", "AMAZON_ISSUED", [])
    assert {each["ResourceRecord"]["Type"] for each in shown["DomainValidationOptions"]} == {"CNAME"}
    balancer, port = balancers.balancer()["LoadBalancerArn"], free_port()
    made = balancers.elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTPS", Port=port,
                                         Certificates=[{"CertificateArn": arn}], DefaultActions=[FIXED])
    listener = only(made["Listeners"])
    assert listener["Certificates"] == [{"CertificateArn": arn}]
    assert listener["SslPolicy"] == "ELBSecurityPolicy-2016-08"
    wait_for("the listener", lambda: is_shown(region, port, "shop.example.com"))
    with shake(region, port, "a.shop.example.com") as tls:
        assert tls.selected_alpn_protocol() == "h2"
        assert tls.version() == "TLSv1.2", "the policy has no newer one"
    assert acm.describe_certificate(CertificateArn=arn)["Certificate"]["InUseBy"] == [balancer]
    refused(acm.delete_certificate, "ResourceInUseException", "is in use", CertificateArn=arn)
    balancers.elb.delete_listener(ListenerArn=listener["ListenerArn"])
    acm.delete_certificate(CertificateArn=arn)
    refused(acm.describe_certificate, "ResourceNotFoundException", CertificateArn=arn)


def test_http_is_sent_to_https_which_finds_the_certificate_by_the_name(region, balancers, acm):
    acm, made = acm
    ask = lambda name: acm.request_certificate(DomainName=name)["CertificateArn"]
    first, second = ask("one.example.com"), ask("*.two.example.com")
    made += [first, second]
    balancer, port, plain = balancers.balancer()["LoadBalancerArn"], free_port(), free_port()
    elb = balancers.elb
    https = only(elb.create_listener(
        LoadBalancerArn=balancer, Protocol="HTTPS", Port=port, Certificates=[{"CertificateArn": first}],
        SslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06", DefaultActions=[FIXED])["Listeners"])["ListenerArn"]
    redirect = {"Type": "redirect", "RedirectConfig": {
        "Protocol": "HTTPS", "Port": str(port), "StatusCode": "HTTP_301"}}
    elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=plain, DefaultActions=[redirect])
    wait_for("the listener", lambda: is_shown(region, port, "one.example.com"))
    elb.add_listener_certificates(ListenerArn=https, Certificates=[{"CertificateArn": second}])
    wait_for("the second", lambda: is_shown(region, port, "a.two.example.com"))
    shown = elb.describe_listener_certificates(ListenerArn=https)["Certificates"]
    assert shown == [{"CertificateArn": first, "IsDefault": True}, {"CertificateArn": second, "IsDefault": False}]
    connection = http.client.HTTPConnection("127.0.0.1", plain, timeout=10)
    connection.request("GET", "/a?b=c", headers={"host": f"one.example.com:{plain}"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("location")) == (301, f"https://one.example.com:{port}/a?b=c")
    with shake(region, port, "one.example.com") as tls:
        assert tls.version() == "TLSv1.3"
    elb.remove_listener_certificates(ListenerArn=https, Certificates=[{"CertificateArn": second}])
    wait_for("its end", lambda: not is_shown(region, port, "a.two.example.com"))
    policies = elb.describe_ssl_policies(Names=["ELBSecurityPolicy-TLS13-1-3-2021-06"])["SslPolicies"]
    assert only(policies)["SslProtocols"] == ["TLSv1.3"]
    elb.modify_listener(ListenerArn=https, SslPolicy="ELBSecurityPolicy-TLS13-1-3-2021-06")

    def is_refused():
        try:
            with shake(region, port, "one.example.com", maximum_version=ssl.TLSVersion.TLSv1_2):
                return False
        except ssl.SSLError:
            return True
    wait_for("the policy", is_refused)


def test_an_imported_certificate_is_changed_under_connections_that_go_on(region, balancers, acm, tmp_path):
    acm, made = acm
    first = self_signed(tmp_path, "mine.example.com")
    arn = acm.import_certificate(**first, Tags=[{"Key": "a", "Value": "b"}])["CertificateArn"]
    made.append(arn)
    assert acm.list_tags_for_certificate(CertificateArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    shown = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert (shown["Type"], shown["KeyAlgorithm"]) == ("IMPORTED", "RSA_2048")
    assert acm.get_certificate(CertificateArn=arn)["Certificate"].encode().strip() == first["Certificate"].strip()
    other = self_signed(tmp_path, "mine.example.com")
    refused(acm.import_certificate, "ValidationException", "does not match", Certificate=first["Certificate"],
            PrivateKey=other["PrivateKey"])
    balancer, port = balancers.balancer()["LoadBalancerArn"], free_port()
    balancers.elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTPS", Port=port,
                                  Certificates=[{"CertificateArn": arn}], DefaultActions=[FIXED])

    def connect(name="mine.example.com"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        stream = socket.create_connection(("127.0.0.1", port), timeout=10)
        return context.wrap_socket(stream, server_hostname=name)

    def der(text):
        return ssl.PEM_cert_to_DER_cert(text.decode())

    def is_current(text):
        try:
            with connect() as tls:
                return tls.getpeercert(binary_form=True) == der(text)
        except OSError:
            return False

    def ask(tls):
        tls.sendall(b"GET / HTTP/1.1\r\nHost: mine.example.com\r\n\r\n")
        answer = http.client.HTTPResponse(tls)
        answer.begin()
        return answer.status, answer.read()

    wait_for("the listener", lambda: is_current(first["Certificate"]))
    with connect() as kept:
        assert ask(kept) == (200, b"secret")
        assert acm.import_certificate(CertificateArn=arn, **other)["CertificateArn"] == arn
        wait_for("the other", lambda: is_current(other["Certificate"]))
        assert ask(kept) == (200, b"secret")


def test_a_service_is_served_by_https(services, region, balancers, acm):
    acm, made = acm
    arn = acm.request_certificate(DomainName="web.example.com")["CertificateArn"]
    made.append(arn)
    balancer, group, port = balancers.balancer()["LoadBalancerArn"], balancers.group(), free_port()
    balancers.elb.create_listener(
        LoadBalancerArn=balancer, Protocol="HTTPS", Port=port, Certificates=[{"CertificateArn": arn}],
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
    definition = services.define(services.web("behind tls", portMappings=[{"containerPort": 80}]))
    tied = [{"targetGroupArn": group, "containerName": "main", "containerPort": 80}]
    name = services.create(definition, 1, loadBalancers=tied)
    services.steady(name, 1)
    done = subprocess.run(["curl", "-sS", "--cacert", str(authority(region)), "--resolve",
                           f"web.example.com:{port}:127.0.0.1", "--max-time", "20", f"https://web.example.com:{port}/"],
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "behind tls", done.stderr
