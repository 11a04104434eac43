"""Pulls and pushes by who may: plain HTTP as any OCI client speaks it, and docker itself."""

import base64
import hashlib
import json
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

import images
from conftest import unique, wait_for
from services import refused
from test_iam import Home, policy

LOGIN = {"Action": "ecr:GetAuthorizationToken"}
KIND = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def home(start_region):
    return Home(start_region(name="rights"))


def pull_only(repository):
    return policy(LOGIN, {"Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                          "Resource": f"arn:aws:ecr:eu-north-1:000000000000:repository/{repository}"})


class Registry:
    """The registry for one login."""

    def __init__(self, region, client):
        self.region = region
        self.token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]

    def ask(self, method, path, data=None, kind="application/octet-stream"):
        request = urllib.request.Request(self.region.endpoint + path, data=data, method=method,
                                         headers={"Authorization": "Basic " + self.token, "Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def push(self, repository, tag):
        layer, config = b"layer of " + tag.encode(), b'{"architecture":"amd64","os":"linux"}'
        described = []
        for what, blob in [("config.v1+json", config), ("layer.v1.tar", layer)]:
            digest = "sha256:" + hashlib.sha256(blob).hexdigest()
            status, text = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", blob)
            assert status == 201, text
            described.append({"mediaType": f"application/vnd.oci.image.{what}", "digest": digest, "size": len(blob)})
        manifest = {"schemaVersion": 2, "mediaType": KIND, "config": described[0], "layers": described[1:]}
        status, text = self.ask("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(), KIND)
        assert status == 201, text
        return described[1]["digest"]


def test_who_may_only_pull_pulls_and_is_denied_the_rest_in_ecrs_words(home):
    ecr = home.region.client("ecr")
    name, other = unique("web"), unique("other")
    for repository in [name, other]:
        ecr.create_repository(repositoryName=repository)
    layer = Registry(home.region, ecr).push(name, "1")
    user, key = home.user(pull_only(name))
    registry = Registry(home.region, home.client("ecr", key))
    assert registry.ask("GET", "/v2/")[0] == 200
    assert registry.ask("GET", f"/v2/{name}/manifests/1")[0] == 200
    assert registry.ask("GET", f"/v2/{name}/blobs/{layer}") == (200, b"layer of 1")
    for method, path, action in [
        ("POST", f"/v2/{name}/blobs/uploads/", "ecr:InitiateLayerUpload"),
        ("PUT", f"/v2/{name}/manifests/2", "ecr:PutImage"),
        ("GET", f"/v2/{other}/manifests/1", "ecr:BatchGetImage"),
        ("GET", f"/v2/{name}/tags/list", "ecr:ListImages"),
    ]:
        status, text = registry.ask(method, path, b"{}" if method != "GET" else None, KIND)
        error, = json.loads(text)["errors"]
        assert (status, error["code"]) == (403, "DENIED"), text
        repository = path.split("/")[2]
        assert error["message"] == (
            f"User: arn:aws:iam::000000000000:user/{user} is not authorized to perform: {action} on resource: "
            f"arn:aws:ecr:eu-north-1:000000000000:repository/{repository} because no identity-based policy "
            f"allows the {action} action")
    refused(home.client("ecr", key).describe_repositories, "AccessDeniedException", "ecr:DescribeRepositories")


def test_a_login_is_asked_for_by_who_may_and_ends_with_its_key(home):
    ecr = home.region.client("ecr")
    name = unique("web")
    ecr.create_repository(repositoryName=name)
    _, nobody = home.user(policy({"Action": "ecr:BatchGetImage"}))
    refused(home.client("ecr", nobody).get_authorization_token, "AccessDeniedException", "ecr:GetAuthorizationToken")
    user, key = home.user(pull_only(name))
    registry = Registry(home.region, home.client("ecr", key))
    assert registry.ask("GET", "/v2/")[0] == 200
    home.iam.update_access_key(UserName=user, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert registry.ask("GET", "/v2/")[0] == 401
    home.iam.update_access_key(UserName=user, AccessKeyId=key["AccessKeyId"], Status="Active")
    assert registry.ask("GET", "/v2/")[0] == 200
    home.iam.put_user_policy(UserName=user, PolicyName="no", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ecr:BatchGetImage", "Resource": "*"}]}))
    status, text = registry.ask("GET", f"/v2/{name}/manifests/1")
    assert status == 403 and b"with an explicit deny in an identity-based policy" in text


@pytest.mark.skipif(not shutil.which("dockerd"), reason="dockerd is not installed")
def test_docker_logs_in_pulls_and_cannot_push_for_who_may_only_pull(home, docker, tmp_path):
    region, host = home.region, f"127.0.0.1:{home.region.port}"
    name = unique("hello")
    ecr = region.client("ecr")
    ecr.create_repository(repositoryName=name)

    def login(client):
        token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        docker("login", "-u", "AWS", "--password-stdin", host,
               input=base64.b64decode(token).decode().removeprefix("AWS:"))
    login(ecr)
    docker("load", "-i", str(images.docker_save(tmp_path / "hello.tar", "hello:1")))
    docker("tag", "hello:1", f"{host}/{name}:1")
    docker("push", f"{host}/{name}:1")
    _, key = home.user(pull_only(name))
    login(home.client("ecr", key))
    docker("rmi", f"{host}/{name}:1")
    docker("pull", f"{host}/{name}:1")
    docker("tag", f"{host}/{name}:1", f"{host}/{name}:2")
    done = docker("push", f"{host}/{name}:2", check=False)
    assert done.returncode != 0
    assert "denied: User: arn:aws:iam::000000000000:user/" in done.stderr, done.stderr
    assert [image["imageTag"] for image in ecr.list_images(repositoryName=name)["imageIds"]] == ["1"]


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    """A Docker Engine of this module's own, which touches neither bridges nor rules of the host."""
    folder = tmp_path_factory.mktemp("docker")
    socket = f"unix://{folder}/sock"
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
             "--pidfile", str(folder / "pid"), "-H", socket, "--iptables=false", "--ip6tables=false",
             "--bridge=none"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def run(*words, check=True, **more):
        done = subprocess.run(["docker", "-H", socket, "--config", str(folder), *words], capture_output=True,
                              text=True, timeout=120, **more)
        assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done

    wait_for("dockerd", lambda: run("version", check=False).returncode == 0, 60, 0.5)
    yield run
    daemon.terminate()
    daemon.wait(30)
