"""An image from another registry: over HTTPS, with a login."""

import base64
import gzip
import http.server
import json
import socket
import ssl
import subprocess
import threading

import pytest

import images
from conftest import Cluster


@pytest.fixture
def registry(tmp_path):
    """A registry with one image, behind TLS of an own authority and a password; what it was asked."""
    # On loopback by its number, a registry is spoken to without TLS, as Docker does it.
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        pytest.skip(f"this machine's name, {name}, has no address")

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=tmp_path)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests",
            "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", f"/CN={name}")
    (tmp_path / "names").write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "cert.pem")
    layer = images.busybox_layer()
    config, blob = images.image_config([layer]), gzip.compress(layer, 1, mtime=0)
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": kind,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": images.digest(config), "size": len(config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": images.digest(blob), "size": len(blob)}],
    }).encode()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            found = {f"/v2/team/box/blobs/{images.digest(config)}": config, f"/v2/team/box/blobs/{images.digest(blob)}": blob,
                     "/v2/team/box/manifests/1": manifest, f"/v2/team/box/manifests/{images.digest(manifest)}": manifest,
                     "/v2/": b"{}"}.get(self.path)
            status = 200 if found is not None else 404
            if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"me:secret").decode():
                status, found = 401, b'{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}'
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="team"')
            if "manifests" in self.path and status == 200:
                self.send_header("Content-Type", kind)
                self.send_header("Docker-Content-Digest", images.digest(manifest))
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(found or b"")

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{name}:{server.server_port}", tmp_path / "ca.pem", asked
    server.shutdown()


def test_a_private_image_is_pulled_over_https_with_what_docker_login_wrote(registry, start_region, monkeypatch):
    host, authority, asked = registry
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    region = start_region("--allow-registry", host, name="other")
    cluster = Cluster(region, f"{host}/team/box:1")
    definition = cluster.define(cluster.container("echo", "from elsewhere"))

    arn, = cluster.run(definition)
    task = cluster.until(arn, "STOPPED")
    reason = task["containers"][0]["reason"]
    assert task["stopCode"] == "TaskFailedToStart"
    assert reason.startswith("CannotPullContainerError") and "team/box" in reason, reason

    login = {"auths": {host: {"auth": base64.b64encode(b"me:secret").decode()}}}
    (region.data_dir / "registry-auth.json").write_text(json.dumps(login))
    arn, = cluster.run(definition)
    task = cluster.until(arn, "STOPPED")
    assert cluster.lines(arn) == ["from elsewhere"], (task["containers"][0].get("reason"), asked)
    assert any("blobs" in path for path, _ in asked)
    region.down()
