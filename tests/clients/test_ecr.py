"""ECR's API, and the registry as any OCI client speaks to it."""

import base64
import hashlib
import json
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

import images
from conftest import unique


@pytest.fixture
def repository(ecr):
    name = unique("repo")
    ecr.create_repository(repositoryName=name)
    return name


@pytest.fixture
def http(region, ecr):
    data = ecr.get_authorization_token()["authorizationData"][0]
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")
    assert str(region.port) in data["proxyEndpoint"]

    def call(method, path, data=None, auth=True, headers=None):
        url = path if path.startswith("http") else region.endpoint + path
        headers = dict(headers or {})
        if auth:
            headers["Authorization"] = "Basic " + data_token
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()
    data_token = data["authorizationToken"]
    return call


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


def push(http, repository, tag, blobs=(b"layer",), **more):
    config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    for blob in (*blobs, config):
        status, headers, _ = http("POST", f"/v2/{repository}/blobs/uploads/?digest={digest(blob)}", blob,
                                  headers={"Content-Type": "application/octet-stream"})
        if status == 202:
            place = lower(headers)["location"]
            joint = "&" if "?" in place else "?"
            status, _, text = http("PUT", f"{place}{joint}digest={digest(blob)}", blob,
                                   headers={"Content-Type": "application/octet-stream"})
        assert status == 201
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind,
                           "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": len(config)},
                           "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(b), "size": len(b)} for b in blobs],
                           **more}).encode()
    status, headers, text = http("PUT", f"/v2/{repository}/manifests/{tag}", manifest, headers={"Content-Type": kind})
    assert status == 201, text
    return manifest


def test_the_registry_asks_for_credentials(http):
    status, headers, _ = http("GET", "/v2/", auth=False)
    assert status == 401 and "Basic" in lower(headers)["www-authenticate"]
    assert http("GET", "/v2/")[0] == 200
    assert http("GET", "/v2/", auth=False, headers={"Authorization": "Basic " + base64.b64encode(b"AWS:forged").decode()})[0] in (401, 403)


def test_push_then_pull_by_tag_digest_and_range(http, repository, ecr):
    layer = bytes(range(256)) * 40
    manifest = push(http, repository, "v1", (layer,))
    for reference in ("v1", digest(manifest)):
        status, headers, body = http("GET", f"/v2/{repository}/manifests/{reference}")
        assert (status, body, lower(headers)["docker-content-digest"]) == (200, manifest, digest(manifest))
    status, _, body = http("GET", f"/v2/{repository}/blobs/{digest(layer)}", headers={"Range": "bytes=10-19"})
    assert (status, body) == (206, layer[10:20])
    assert http("HEAD", f"/v2/{repository}/blobs/{digest(b'no')}")[0] == 404
    assert json.loads(http("GET", f"/v2/{repository}/tags/list")[2]) == {"name": repository, "tags": ["v1"]}
    image, = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert image["imageDigest"] == digest(manifest) and image["imageTags"] == ["v1"]
    got = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}, {"imageTag": "v2"}])
    assert got["images"][0]["imageManifest"] == manifest.decode()
    assert got["failures"][0]["failureCode"] == "ImageNotFound"


def test_a_chunked_upload_resumes_where_it_stopped(http, repository):
    data = b"0123456789" * 1000
    status, headers, _ = http("POST", f"/v2/{repository}/blobs/uploads/", b"")
    assert status == 202
    place = lower(headers)["location"]
    status, headers, _ = http("PATCH", place, data[:4000], headers={"Content-Range": "0-3999", "Content-Type": "application/octet-stream"})
    assert status == 202 and lower(headers)["range"] == "0-3999"
    place = lower(headers)["location"]
    assert http("PATCH", place, data[5000:], headers={"Content-Range": "5000-9999"})[0] == 416
    status, headers, _ = http("GET", place)
    assert status == 204 and lower(headers)["range"] == "0-3999"
    status, headers, _ = http("PATCH", place, data[4000:], headers={"Content-Range": "4000-9999"})
    place = lower(headers)["location"]
    joint = "&" if "?" in place else "?"
    assert http("PUT", f"{place}{joint}digest={digest(data)}", b"")[0] == 201
    assert http("GET", f"/v2/{repository}/blobs/{digest(data)}")[2] == data


def test_wrong_digests_and_missing_layers_are_refused(http, repository):
    status, headers, _ = http("POST", f"/v2/{repository}/blobs/uploads/", b"")
    place = lower(headers)["location"]
    joint = "&" if "?" in place else "?"
    status, _, body = http("PUT", f"{place}{joint}digest={digest(b'other')}", b"this", headers={"Content-Type": "application/octet-stream"})
    assert status == 400 and json.loads(body)["errors"][0]["code"] == "DIGEST_INVALID"
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "layers": [],
                           "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(b"gone"), "size": 4}}).encode()
    status, _, body = http("PUT", f"/v2/{repository}/manifests/x", manifest, headers={"Content-Type": kind})
    assert status in (400, 404) and json.loads(body)["errors"][0]["code"] in ("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")
    assert http("GET", f"/v2/{repository}/manifests/x")[0] == 404
    assert http("PUT", f"/v2/{repository}/manifests/y", b"{", headers={"Content-Type": kind})[0] == 400
    assert http("GET", "/v2/no-such-repository/tags/list")[0] == 404


def test_a_blob_is_mounted_from_another_repository(http, repository, ecr):
    push(http, repository, "v1", (b"shared layer",))
    other = unique("other")
    ecr.create_repository(repositoryName=other)
    blob = digest(b"shared layer")
    assert http("POST", f"/v2/{other}/blobs/uploads/?mount={blob}&from={repository}", b"")[0] == 201
    assert http("GET", f"/v2/{other}/blobs/{blob}")[2] == b"shared layer"


def test_referrers_are_listed(http, repository):
    manifest = push(http, repository, "v1")
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(manifest), "size": len(manifest)}
    signature = push(http, repository, "sig", subject=subject, artifactType="application/x.signature")
    status, _, body = http("GET", f"/v2/{repository}/referrers/{digest(manifest)}?artifactType=application/x.signature")
    found = json.loads(body)["manifests"]
    assert [entry["digest"] for entry in found] == [digest(signature)]


def test_immutable_tags_stay(http, ecr):
    name = unique("fixed")
    ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
    first = push(http, name, "v1", (b"one",))
    with pytest.raises(AssertionError):
        push(http, name, "v1", (b"two",))
    assert http("GET", f"/v2/{name}/manifests/v1")[2] == first


def test_repositories(ecr):
    name = unique("team/app")
    made = ecr.create_repository(repositoryName=name, tags=[{"Key": "a", "Value": "b"}])["repository"]
    assert made["imageTagMutability"] == "MUTABLE" and made["repositoryUri"].endswith(name)
    with pytest.raises(ecr.exceptions.RepositoryAlreadyExistsException, match="already exists in the registry with id"):
        ecr.create_repository(repositoryName=name)
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_repositories(repositoryNames=["nope"])
    assert ecr.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"] == [{"Key": "a", "Value": "b"}]
    with pytest.raises(ClientError, match="InvalidParameterException"):
        ecr.create_repository(repositoryName="Upper")
    ecr.delete_repository(repositoryName=name)


def test_a_repository_with_images_needs_force(http, repository, ecr):
    push(http, repository, "v1")
    with pytest.raises(ecr.exceptions.RepositoryNotEmptyException):
        ecr.delete_repository(repositoryName=repository)
    deleted = ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "v1"}])
    assert deleted["failures"] == [] and deleted["imageIds"]
    assert http("GET", f"/v2/{repository}/manifests/v1")[0] == 404
    ecr.delete_repository(repositoryName=repository)


def test_layers_go_up_and_come_down_through_the_api(region, repository, ecr):
    data = b"z" * 1000
    upload = ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]
    ecr.upload_layer_part(repositoryName=repository, uploadId=upload, partFirstByte=0, partLastByte=999, layerPartBlob=data)
    ecr.complete_layer_upload(repositoryName=repository, uploadId=upload, layerDigests=[digest(data)])
    checked = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=[digest(data), digest(b"q")])
    assert [layer["layerAvailability"] for layer in checked["layers"]] == ["AVAILABLE", "UNAVAILABLE"]
    url = ecr.get_download_url_for_layer(repositoryName=repository, layerDigest=digest(data))["downloadUrl"]
    assert urllib.request.urlopen(url, timeout=10).read() == data


def test_an_oci_layout_is_loaded_and_a_climbing_layer_is_not(region, cluster, tmp_path):
    name = unique("layout")
    done = region.run("image", "load", str(images.oci_layout(tmp_path / "ok.tar", f"{name}:2")))
    assert f"{name}:2" in done.stdout
    assert f"{name}" in region.run("image", "ls").stdout
    container = cluster.container("echo", "from a layout")
    container["image"] = f"127.0.0.1:{region.port}/{name}:2"
    arn, = cluster.run(cluster.define(container))
    cluster.until(arn, "STOPPED")
    assert cluster.lines(arn) == ["from a layout"]

    evil = images.busybox_layer({"../../../../../../tmp/climbed-out": b"evil"})
    region.run("image", "load", str(images.docker_save(tmp_path / "evil.tar", "evil:1", [evil])), check=False)
    container["image"] = f"127.0.0.1:{region.port}/evil:1"
    arn, = cluster.run(cluster.define(container))
    task = cluster.until(arn, "STOPPED")
    import os
    assert not os.path.exists("/tmp/climbed-out")
    assert "CannotPullContainerError" in task["containers"][0].get("reason", "") or task["containers"][0].get("exitCode") == 0
