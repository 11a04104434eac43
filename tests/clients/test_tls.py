"""TLS on the region's one port, and the address that others are told."""

import hashlib
import socket
import ssl
import subprocess

import boto3
import botocore.config
import botocore.exceptions
import pytest

from conftest import free_port, unique, wait_for


@pytest.fixture(scope="module")
def told(start_region):
    """A region that others are told to come to by TLS, under another name than its address."""
    port = free_port()
    return start_region("--advertise", f"https://localhost:{port}", name="tls", port=port)


def client(region, service, verify):
    config = botocore.config.Config(retries={"max_attempts": 0})
    return boto3.client(service, endpoint_url=region.variables["AWS_ENDPOINT_URL"], region_name="eu-north-1",
                        aws_access_key_id=region.variables["AWS_ACCESS_KEY_ID"],
                        aws_secret_access_key=region.variables["AWS_SECRET_ACCESS_KEY"], verify=verify, config=config)


def certificate(port, cafile, name="localhost"):
    context = ssl.create_default_context(cafile=cafile)
    # What Python checks by itself since 3.13.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        with context.wrap_socket(stream, server_hostname=name) as tls:
            return tls.getpeercert(binary_form=True), tls.version()


def test_the_shells_variables_are_all_that_clients_need(told):
    assert told.variables["AWS_ENDPOINT_URL"] == f"https://localhost:{told.port}"
    authority = told.variables["AWS_CA_BUNDLE"]
    assert told.variables["NODE_EXTRA_CA_CERTS"] == authority
    assert told.aws("sts", "get-caller-identity")["Account"] == "000000000000"
    with pytest.raises(botocore.exceptions.SSLError):
        client(told, "ecs", True).list_clusters()
    assert client(told, "ecs", authority).list_clusters()["clusterArns"] is not None
    _, version = certificate(told.port, authority)
    assert version == "TLSv1.3"


def test_answers_name_the_advertised_address(told):
    authority = told.variables["AWS_CA_BUNDLE"]
    host = f"localhost:{told.port}"
    ecr = client(told, "ecr", authority)
    repository = ecr.create_repository(repositoryName=unique("tls"))["repository"]
    assert repository["repositoryUri"].startswith(host + "/")
    data = ecr.get_authorization_token()["authorizationData"][0]
    assert data["proxyEndpoint"] == f"https://{host}"
    endpoints = client(told, "ecs", authority).discover_poll_endpoint()
    assert endpoints["endpoint"] == f"https://{host}/acs/"
    assert endpoints["telemetryEndpoint"] == f"https://{host}/tcs/"


def test_the_agent_beside_the_region_runs_images_by_either_name(told, tmp_path):
    import images
    archive = images.docker_save(tmp_path / "box.tar", "box:1")
    told.run("image", "load", str(archive))
    ecs = client(told, "ecs", told.variables["AWS_CA_BUNDLE"])
    for host in ["127.0.0.1", "localhost"]:
        family = unique("tls")
        ecs.register_task_definition(family=family, containerDefinitions=[
            {"name": "main", "image": f"{host}:{told.port}/box:1", "command": ["true"], "memory": 32}])
        task = ecs.run_task(taskDefinition=family)["tasks"][0]["taskArn"]

        def stopped():
            found = ecs.describe_tasks(tasks=[task])["tasks"][0]
            return found["lastStatus"] == "STOPPED" and found

        done = wait_for("the task's end", stopped, 60)
        assert done["containers"][0].get("exitCode") == 0, done


def pair(folder, name):
    """A certificate that is its own authority, and its key, as files."""
    certificate_file, key = folder / "server.pem", folder / "server.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", certificate_file, "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return certificate_file, key


def test_a_certificate_of_ones_own_is_shown_and_read_again_when_it_changes(start_region, tmp_path):
    certificate_file, key = pair(tmp_path, "first")
    port = free_port()
    region = start_region("--tls-cert", str(certificate_file), "--tls-key", str(key), "--tls-ca", str(certificate_file),
                          "--advertise", f"https://localhost:{port}", name="given", port=port)
    assert region.variables["AWS_CA_BUNDLE"] == str(certificate_file)

    def shown():
        return hashlib.sha256(certificate(port, certificate_file)[0]).hexdigest()

    first = shown()
    key.write_text("no key\n")
    wait_for("the broken pair to be reported", lambda: "server.key holds no private key" in region.tail(), 20)
    assert shown() == first, "the pair before is gone on with"
    pair(tmp_path, "second")

    def is_new():
        try:
            return shown() != first
        except ssl.SSLError:
            return False  # The authority's file is the new one, what is shown still the old one.

    wait_for("the new certificate", is_new, 20)
