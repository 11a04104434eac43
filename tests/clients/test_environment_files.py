"""Environment files and FireLens configurations from an S3-compatible store: whose policies are asked, what is read, and
what a store's bad days become. The store is a server of the test's own; real clients read through the region too."""

import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.exceptions
import pytest

from conftest import Cluster, unique, wait_for
from services import IDLE, environments_with, files_with
from test_execution_roles import LOG, PULL, failed
from test_task_roles import make_role, why

READ = ["s3:GetObject", "s3:GetBucketLocation"]
KEYS = "[default]\naws_access_key_id = STOREKEY\naws_secret_access_key = storesecret\n"


class Store:
    """Serves what it is given, and counts."""

    def __init__(self):
        self.objects, self.asked, self.keys = {}, [], []
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                store.asked.append(self.path)
                store.keys.append(self.headers.get("Authorization", ""))
                what = store.objects.get(self.path)
                if callable(what):
                    return what(self)
                self.answer(200 if what is not None else 404, what or b"<Error><Code>NoSuchKey</Code></Error>")

            def answer(self, status, body, length=None, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def put(self, text, bucket="conf", end=".env"):
        """A new object; answers its ARN and path."""
        key = f"dir/{unique('o')}{end}"
        self.objects[f"/{bucket}/{key}"] = text.encode() if isinstance(text, str) else text
        return f"arn:aws:s3:::{bucket}/{key}", f"/{bucket}/{key}"


@pytest.fixture(scope="module")
def store():
    store = Store()
    yield store
    store.server.shutdown()


@pytest.fixture(scope="module")
def host(start_region, tmp_path_factory, store):
    keys = tmp_path_factory.mktemp("keys") / "store"
    keys.write_text(KEYS)
    return start_region("--s3-endpoint", store.endpoint, "--s3-region", "garage", "--s3-credentials", str(keys),
                        "--s3-bucket", "theirs=111111111111", name="objects", image="box:1")


@pytest.fixture
def own(host):
    return Cluster(host, f"127.0.0.1:{host.port}/box:1")


def files(*arns):
    return [{"type": "s3", "value": arn} for arn in arns]


def test_files_are_read_as_ecs_does_and_the_definitions_own_variables_win(host, own, store):
    first, path = store.put("# a comment\nA=first\nB=one=two\nC=\"quoted\" $HOME\nOWN=file\r\nNONE\n=x\n")
    second, _ = store.put("A=second\nD=from the second\n")
    script = "for name in A B C D OWN GIVEN; do eval echo \\\"\\$$name\\\"; done"
    container = own.container("sh", "-c", script, environmentFiles=files(first, second),
                              environment=[{"name": "OWN", "value": "definition"}])
    role = make_role(host, *PULL, *LOG, *READ)
    definition = own.define(container, executionRoleArn=role)
    override = {"containerOverrides": [{"name": "main", "environment": [{"name": "GIVEN", "value": "at launch"}]}]}
    arn, = own.run(definition, overrides=override)
    task = own.until(arn, "STOPPED")
    assert own.lines(arn) == ["first", "one=two", '"quoted" $HOME', "from the second", "definition", "at launch"], why(task)
    assert "Credential=STOREKEY/" in store.keys[-1] and "/garage/s3/aws4_request" in store.keys[-1]
    # Each container is made with what is there then.
    store.objects[path] = b"A=changed\n"
    arn, = own.run(definition, overrides=override)
    own.until(arn, "STOPPED")
    assert own.lines(arn)[0] == "changed"
    # What a request names takes the place of the definition's.
    override["containerOverrides"][0]["environmentFiles"] = files(second)
    arn, = own.run(definition, overrides=override)
    task = own.until(arn, "STOPPED")
    assert own.lines(arn)[0] == "second", why(task)
    shown, = task["overrides"]["containerOverrides"]
    assert shown["environmentFiles"] == files(second)


@pytest.mark.parametrize("fargate", [True, False])
def test_a_files_values_are_in_the_containers_environment_and_nowhere_else(host, own, store, fargate):
    word = "geheim" + unique("w").replace("-", "")
    arn, _ = store.put(f"WORD={word}\n")
    container = own.container("sh", "-c", f"echo there; {IDLE}", stopTimeout=2, environmentFiles=files(arn))
    role = make_role(host, *PULL, *LOG, *READ)
    definition = own.define(container, fargate=fargate, executionRoleArn=role)
    where = None if fargate else "default"
    task, = own.run(definition, fargate=fargate, cluster=where)
    own.until(task, "RUNNING", cluster=where)
    assert files_with(host, word.encode()) == []
    assert word.encode() not in subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True).stdout
    assert word not in str([own.describe(task, where), own.ecs.describe_task_definition(taskDefinition=definition)])
    assert environments_with(f"WORD={word}".encode())
    own.ecs.stop_task(cluster=where or own.name, task=task)
    own.until(task, "STOPPED", cluster=where)


@pytest.mark.parametrize("lacking", READ)
def test_the_execution_roles_policies_are_asked_before_the_store_is(host, own, store, lacking):
    arn, path = store.put("A=1\n")
    role = make_role(host, *PULL, *LOG, *[action for action in READ if action != lacking])
    reason, _ = failed(own, role, own.container("true", environmentFiles=files(arn)))
    assert reason.startswith("ResourceInitializationError: failed to download env files: file download command: "), reason
    assert "AccessDenied: User: arn:aws:sts::" in reason and f"is not authorized to perform: {lacking}" in reason, reason
    assert path not in store.asked
    # One that it would be allowed, of a bucket that is another account's.
    theirs, path = store.put("A=1\n", bucket="theirs")
    reason, _ = failed(own, make_role(host, *PULL, *LOG, *READ), own.container("true", environmentFiles=files(theirs)))
    assert "AccessDenied: Access Denied: the bucket theirs is of another account" in reason, reason
    assert path not in store.asked


def bad_days(store):
    def hang(request):
        time.sleep(60)

    def endless(request):
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"A=1\n" * 4096)
        except OSError:
            request.close_connection = True

    def short(request):
        request.answer(200, b"A=1\n", length=100)
        request.close_connection = True
        request.connection.shutdown(2)

    return {
        "hang": (hang, "ServiceUnavailable: The store did not answer"),
        "endless": (endless, "InvalidRequest: The object is larger than 4 MiB"),
        "short": (short, "ServiceUnavailable: The store did not answer"),
        "403": (lambda request: request.answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"),
                "AccessDenied: Access Denied by the store itself"),
        "404": (None, "NoSuchKey: The specified key does not exist."),
        "500": (lambda request: request.answer(500, b"secrets of the store"), "ServiceUnavailable: The store did not answer"),
        "redirect": (lambda request: request.answer(307, b"", Location=store.endpoint + "/followed"),
                     "InvalidRequest: The store led to another address, which is not followed"),
    }


@pytest.mark.parametrize("day", ["hang", "endless", "short", "403", "404", "500", "redirect"])
def test_a_stores_bad_days_fail_the_task_with_what_happened(host, own, store, day):
    arn, path = store.put("")
    answer, said = bad_days(store)[day]
    if answer is None:
        del store.objects[path]
    else:
        store.objects[path] = answer
    role = make_role(host, *PULL, *LOG, *READ)
    definition = own.define(own.container("true", environmentFiles=files(arn)), fargate=False, executionRoleArn=role)
    task, = own.run(definition, fargate=False, cluster="default")
    stopped = own.until(task, "STOPPED", seconds=90, cluster="default")
    reason = why(stopped)
    lead = (f"ResourceInitializationError: failed to download env files: unable to download env file with key "
            f"{path.removeprefix('/conf/')} from bucket conf, error: ")
    assert reason.startswith(lead + said), reason
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert "secrets of the store" not in reason and "/followed" not in store.asked
    assert 1 <= store.asked.count(path) <= 2


def test_a_file_that_is_no_text_is_named(host, own, store):
    arn, _ = store.put(b"A=1\nB=\xff\xfe\n")
    reason, _ = failed(own, make_role(host, *PULL, *LOG, *READ), own.container("true", environmentFiles=files(arn)))
    assert f"{arn}: line 2 is not UTF-8" in reason, reason


@pytest.mark.parametrize("kind, folder", [("fluentbit", "/fluent-bit/etc"), ("fluentd", "/fluentd/etc")])
def test_a_routers_configuration_is_read_from_the_store(host, own, store, kind, folder):
    arn, _ = store.put("[SERVICE]\n    Flush 1\n", end=".conf")
    router = {**own.container("sh", "-c", f"cat {folder}/*.conf; {IDLE}", name="router", stopTimeout=2),
              "firelensConfiguration": {"type": kind, "options": {"config-file-type": "s3", "config-file-value": arn}}}
    role = make_role(host, *PULL, *LOG, *READ)
    app = {**own.container("sh", "-c", IDLE, name="app", stopTimeout=2),
           "logConfiguration": {"logDriver": "awsfirelens", "options": {"Name": "null", "@type": "null"}}}
    definition = own.define(router, app, fargate=False, executionRoleArn=role)
    task, = own.run(definition, fargate=False, cluster="default")
    own.until(task, "RUNNING", cluster="default")
    lines = wait_for("the configuration", lambda: "    Flush 1" in own.lines(task, "router") and own.lines(task, "router"))
    assert f"@include {folder}/external.conf" in "\n".join(lines).lower()
    own.ecs.stop_task(cluster="default", task=task)


def test_clients_of_s3_read_through_the_region_what_their_policies_allow(host, store):
    arn, path = store.put("A=1\n")
    key = path.removeprefix("/conf/")
    store.objects["/conf/a%20b/%C3%A4%2B.env"] = b"B=2\n"
    s3 = host.client("s3")
    assert s3.get_object(Bucket="conf", Key=key)["Body"].read() == b"A=1\n"
    assert s3.get_object(Bucket="conf", Key="a b/ä+.env")["Body"].read() == b"B=2\n"
    assert s3.get_bucket_location(Bucket="conf")["LocationConstraint"] == "eu-north-1"
    copied = subprocess.run(["aws", "s3api", "get-object", "--bucket", "conf", "--key", key, "/dev/stdout"],
                            env=host.shell(), capture_output=True, text=True, check=True)
    assert copied.stdout.startswith("A=1\n")
    before = len(store.asked)
    for call, code in [
        (lambda: s3.get_object(Bucket="conf", Key="no/such"), "NoSuchKey"),
        (lambda: s3.get_object(Bucket="theirs", Key=key), "AccessDenied"),
        (lambda: host.client("s3", "111111111111").get_object(Bucket="conf", Key=key), "AccessDenied"),
        (lambda: s3.put_object(Bucket="conf", Key="x", Body=b"x"), "NotImplemented"),
        (lambda: s3.list_objects_v2(Bucket="conf"), "NotImplemented"),
        (lambda: s3.get_object(Bucket="conf", Key="../theirs/x"), "InvalidURI"),
    ]:
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            call()
        assert refused.value.response["Error"]["Code"] == code, refused.value
    assert store.asked[before:] == ["/conf/no/such"]
    audit = host.run("audit", "--json").stdout
    assert '"s3:GetObject"' in audit and "storesecret" not in audit


def test_without_a_store_it_is_refused_by_name(cluster):
    definition = cluster.define(cluster.container("true", environmentFiles=files("arn:aws:s3:::b/a.env")))
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        cluster.run(definition)
    assert "uses features that this region does not have: environment files (container 'main')" in str(refused.value)
    override = {"containerOverrides": [{"name": "main", "environmentFiles": files("arn:aws:s3:::b/a.env")}]}
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        cluster.run(cluster.define(cluster.container("true")), overrides=override)
    assert "--s3-endpoint" in str(refused.value)
