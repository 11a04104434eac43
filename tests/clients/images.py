"""Container images for the tests, made here from Debian's static busybox: no network, no Docker."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
APPLETS = ["sh", "echo", "sleep", "cat", "ls", "env", "id", "httpd", "wget", "nslookup", "ps", "kill",
           "dd", "yes", "head", "tail", "mount", "hostname", "ip", "touch", "true", "false", "mkdir",
           "printf", "nc", "date", "seq", "test", "stat", "grep", "awk", "df", "chmod", "rm", "pwd",
           "sysctl", "ulimit", "ping", "trap", "udhcpc", "telnet", "tr", "cut", "sort", "wc", "whoami"]


def _add(archive, name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o755):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.linkname = kind, len(data), mode, link
    archive.addfile(info, io.BytesIO(data) if data else None)


def busybox_layer(extra=None):
    """A root file system with busybox, a user `app` (1000), and `extra` files by path."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ["bin", "etc", "tmp", "root", "www", "home"]:
            _add(archive, folder, kind=tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        _add(archive, "bin/busybox", BUSYBOX.read_bytes())
        for applet in APPLETS:
            _add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox", mode=0o777)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home:/bin/sh\n", mode=0o644)
        _add(archive, "etc/group", b"root:x:0:\napp:x:1000:\n", mode=0o644)
        _add(archive, "www/index.html", b"it works\n", mode=0o644)
        for path, data in (extra or {}).items():
            _add(archive, path, data)
    return buffer.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def image_config(layers, **config):
    return json.dumps({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"], **config},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }).encode()


def docker_save(path, tag, layers=None, **config):
    """Writes what `docker save` writes, so that `docker load` and `longshore image load` read it."""
    layers = layers or [busybox_layer()]
    body = image_config(layers, **config)
    names = [f"{digest(layer)[7:]}/layer.tar" for layer in layers]
    manifest = [{"Config": digest(body)[7:] + ".json", "RepoTags": [tag], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        _add(archive, manifest[0]["Config"], body, mode=0o644)
        for name, layer in zip(names, layers):
            _add(archive, name, layer, mode=0o644)
        _add(archive, "manifest.json", json.dumps(manifest).encode(), mode=0o644)
    return path


def oci_layout(path, tag, layers=None, compress=True, **config):
    """Writes an OCI image layout as a tar."""
    layers = layers or [busybox_layer()]
    body = image_config(layers, **config)
    blobs = {digest(body): body}
    described = []
    for layer in layers:
        blob = gzip.compress(layer, 1, mtime=0) if compress else layer
        blobs[digest(blob)] = blob
        kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if compress else "")
        described.append({"mediaType": kind, "digest": digest(blob), "size": len(blob)})
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": digest(body), "size": len(body)},
        "layers": described,
    }).encode()
    blobs[digest(manifest)] = manifest
    index = {"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(manifest),
        "size": len(manifest), "annotations": {"org.opencontainers.image.ref.name": tag}}]}
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', mode=0o644)
        _add(archive, "index.json", json.dumps(index).encode(), mode=0o644)
        for name, blob in blobs.items():
            _add(archive, "blobs/" + name.replace(":", "/"), blob, mode=0o644)
    return path
