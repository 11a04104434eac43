"""Amazon's ECS agent, release 1.105, as it is on the wire: what it says, in which shape and order, and what it makes of what it hears.

It runs no container: a task that it is given is said to run, and ends when a test says so or the region wants it. What the agent
would not understand is a fault of the region, and fails the test that the agent is of. What a region can't hear is left out:
time-outs of Docker, images, the endpoints for containers.
"""

import dataclasses
import gzip
import http.client
import itertools
import json
import queue
import random
import ssl
import threading
import time
import urllib.parse
import uuid

import botocore.auth
import botocore.awsrequest
import pytest

from agent_messages import Unfit, check_attach, check_credentials, check_header, check_task
from conftest import wait_for
from web_socket import Closed, Refused, WebSocket

VERSION, HASH, DOCKER = "1.105.1", "a8b3e7d3", "20.10.24+dfsg1"
REGION = "eu-north-1"
# After these, and after an end without a word, the agent is back at once; after others later and later.
ORDERLY = {1000, 1001, 1006, 1011}
# A session that lasted so long was a healthy one.
HEALTHY = 60
DIGEST = "sha256:" + "5f" * 32

ALWAYS = [
    "com.amazonaws.ecs.capability.privileged-container", "com.amazonaws.ecs.capability.ecr-auth",
    *(f"com.amazonaws.ecs.capability.docker-remote-api.1.{minor}" for minor in [*range(17, 26), 28, 29, 30, 32]),
    *(f"com.amazonaws.ecs.capability.logging-driver.{name}" for name in ["json-file", "none", "syslog", "awslogs", "fluentd", "awsfirelens"]),
    "com.amazonaws.ecs.capability.task-iam-role", "com.amazonaws.ecs.capability.task-iam-role-network-host",
    *(f"ecs.capability.{name}" for name in [
        "private-registry-authentication.secretsmanager", "secrets.ssm.environment-variables", "secrets.ssm.bootstrap.log-driver",
        "secrets.asm.environment-variables", "secrets.asm.bootstrap.log-driver", "ecr-endpoint", "container-ordering", "full-sync",
        "env-files.s3", "network.container-port-range", "container-restart-policy", "execution-role-ecr-pull",
        "execution-role-awslogs", "container-health-check", "docker-plugin.local", "firelens.fluentd", "firelens.fluentbit",
        "firelens.non-root-user", "firelens.options.config.file", "firelens.options.config.s3",
        "logging-driver.awsfirelens.log-driver-buffer-limit", "efs", "storage.s3-files", "ipv6-only",
        "task-cpu-mem-limit", "increased-task-cpu-limit", "pid-ipc-namespace-sharing"]),
]
INTERFACES = ["ecs.capability.task-eni", "ecs.capability.task-eni.ipv6", "ecs.capability.task-eni-block-instance-metadata"]
EXTERNAL = {"ecs.os-type": "linux", "ecs.os-family": "LINUX", "ecs.os-type-detailed": "LINUX", "ecs.cpu-architecture": "x86_64"}


class Failed(Exception):
    """An answer of the API that is an error."""

    def __init__(self, status, code, message):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


@dataclasses.dataclass
class Held:
    """A task that the agent has."""

    task: dict
    desired: str = "RUNNING"
    known: str = "NONE"
    runtime_ids: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class State:
    """What the agent has on disk, and finds there when it is started again."""

    arn: str = None
    # The highest number of a payload or a manifest.
    sequence: int = -1
    tasks: dict = dataclasses.field(default_factory=dict)
    # Reports that nobody has taken yet.
    unsent: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Keys:
    """The host's, as botocore signs with them."""

    access_key: str
    secret_key: str
    token: str = None


def sign(keys, method, url, headers=(), body=b""):
    """The headers with a signature over them all, over the host and over the time."""
    request = botocore.awsrequest.AWSRequest(method, url, headers=dict(headers), data=body)
    botocore.auth.SigV4Auth(keys, "ecs", REGION).add_auth(request)
    return dict(request.headers)


class Agent:
    def __init__(self, endpoint, keys, cluster, state=None, attributes=None, tags=None, document="", kind="ec2", runs=True, gpus=(),
                 authorities=None):
        self.endpoint, self.keys, self.cluster = endpoint, keys, cluster
        self.state = state or State()
        self.custom, self.tags, self.document, self.is_external = attributes or {}, tags or [], document, kind == "external"
        self.gpus = gpus
        # As SSL_CERT_FILE names them.
        self.authorities = authorities
        # Whether tasks are said to run without a word of the test.
        self.runs = runs
        # Set by tests: what is acknowledged, and tasks that it pretends not to understand.
        self.acknowledges, self.stumbles_over = True, lambda task: False
        self.faults = []
        self.history, self.unread, self.news = [], [], threading.Condition()
        self.over, self.is_inactive = threading.Event(), threading.Event()
        self.ends, self.handshakes, self.socket = [], 0, None
        self.had_session, self.sockets_of = False, []
        self.verifying, self.credentials = None, {}
        self.reports, self.ports = queue.Queue(), itertools.count(32768)
        while self.state.unsent:
            self.reports.put(self.state.unsent.pop(0))
        self.threads = []

    # --- the API ---------------------------------------------------------------------------------

    def call(self, operation, attempts=3, **members):
        body = json.dumps(members).encode()
        parts = urllib.parse.urlsplit(self.endpoint)
        headers = sign(self.keys, "POST", self.endpoint + "/", {
            "Amz-Sdk-Invocation-Id": str(uuid.uuid4()), "Amz-Sdk-Request": f"attempt=1; max={attempts}",
            "Content-Length": str(len(body)), "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"AmazonEC2ContainerServiceV20141113.{operation}"}, body)
        headers |= {"Accept-Encoding": "gzip", "Host": parts.netloc,
                    "User-Agent": f"Amazon ECS Agent - v{VERSION} (*{HASH}) (linux; LINUX) (+http://aws.amazon.com/ecs/)"}
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.authorities)
            connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=42, context=context)
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=42)
        try:
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.headers.get("Content-Encoding") == "gzip":
            said = gzip.decompress(said)
        said = json.loads(said or "{}")
        if answer.status != 200:
            raise Failed(answer.status, said["__type"].rsplit("#")[-1], said.get("message", ""))
        return said

    def attributes(self):
        names = [*ALWAYS, *(["ecs.capability.external"] if self.is_external else INTERFACES)]
        own = EXTERNAL if self.is_external else {"ecs.vpc-id": "vpc-0a1b2c3d", "ecs.subnet-id": "subnet-0a1b2c3d"}
        # What an operator gave it is said at the first registration only.
        custom = {} if self.state.arn else self.custom
        return [{"name": name} for name in names] + [{"name": name, "value": value} for name, value in {**custom, **own}.items()]

    def register(self, client_token=None):
        """As the agent does it; what it ends for is an error here."""
        cluster = self.cluster or "default"
        try:
            answer = self.register_in(cluster, client_token)
        except Failed as failed:
            is_absent = failed.code == "ClusterNotFoundException" or "Cluster not found." in failed.message
            if self.cluster or not is_absent:
                raise
            self.call("CreateCluster", clusterName="default")
            answer = self.register_in(cluster, client_token)
        instance = answer["containerInstance"]
        echoed = {each["name"]: each.get("value") or "" for each in instance["attributes"]}
        for each in self.attributes():
            assert echoed.get(each["name"]) == each.get("value", ""), f"AttributeError: {each}"
        if self.state.arn:
            assert instance["containerInstanceArn"] == self.state.arn, "a registration is of the instance that it names"
        self.cluster, self.state.arn = cluster, instance["containerInstanceArn"]
        self.zone = echoed.get("ecs.availability-zone")
        return instance

    def register_in(self, cluster, client_token):
        known = {"containerInstanceArn": self.state.arn} if self.state.arn else {}
        resources = [{"name": "CPU", "type": "INTEGER", "integerValue": 2048}, {"name": "MEMORY", "type": "INTEGER", "integerValue": 4096},
                     {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2375", "2376", "51678", "51679"]},
                     {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []}]
        devices = {"platformDevices": [{"id": gpu, "type": "GPU"} for gpu in self.gpus]} if self.gpus else {}
        return self.call("RegisterContainerInstance", cluster=cluster, **known, **devices, clientToken=client_token or str(uuid.uuid4()),
                         instanceIdentityDocument=self.document, instanceIdentityDocumentSignature="c2lnbmVk" if self.document else "",
                         attributes=self.attributes(), totalResources=resources, **({"tags": self.tags} if self.tags else {}))

    def discover(self):
        if not self.sockets_of:
            answer = self.call("DiscoverPollEndpoint", cluster=self.cluster, containerInstance=self.state.arn, zoneId="")
            self.sockets_of = [answer["endpoint"], answer["telemetryEndpoint"]]
        return self.sockets_of

    def open(self, base, query):
        """A socket at an endpoint that was discovered, whose query is written as Go does it and signed as SigV4 has it."""
        url = base.rstrip("/") + "/ws?"
        written = urllib.parse.urlencode(sorted(query.items()))
        headers = sign(self.keys, "GET", url + written.replace("+", "%20"))
        assert base.startswith(("http://", "https://")), "the agent knows no other schemes"
        return WebSocket(url + written, headers, self.authorities)

    # --- the work socket -------------------------------------------------------------------------

    def start(self):
        """Begins to work; a test goes on once there is a session."""
        for work in (self.live, self.tell):
            self.threads.append(threading.Thread(target=work, daemon=True))
            self.threads[-1].start()
        self.expect("HeartbeatMessage")
        return self

    def stop(self):
        """As when its process is killed: what is on disk stays."""
        self.over.set()
        self.reports.put(None)
        if self.socket:
            self.socket.tear()
        for thread in self.threads:
            thread.join(10)
        while not self.reports.empty():
            self.state.unsent += filter(None, [self.reports.get()])
        return self.state

    def live(self):
        pause = 0.25
        while not self.over.is_set():
            began = time.monotonic()
            try:
                self.session()
            except Closed as closed:
                self.ends.append(closed)
                if closed.code in ORDERLY or time.monotonic() > began + HEALTHY:
                    pause = 0.25
                if closed.code in ORDERLY:
                    continue
            except Refused as refused:
                self.ends.append(refused)
                if "InactiveInstanceException" in refused.body:
                    self.is_inactive.set()
                    return  # for an hour
            except OSError as error:
                self.ends.append(error)
            with self.news:
                self.news.notify_all()
            self.over.wait(pause * random.uniform(1, 1.2))
            pause = min(pause * 1.5, 120)

    def session(self):
        self.handshakes += 1
        query = {"agentHash": HASH, "agentVersion": VERSION, "clusterArn": self.cluster, "containerInstanceArn": self.state.arn,
                 "dockerVersion": f"DockerVersion: {DOCKER}", "protocolVersion": "2", "seqNum": "1",
                 "sendCredentials": "false" if self.had_session else "true"}
        self.socket = self.open(self.discover()[0], query)
        if self.over.is_set():
            self.socket.tear()
        while True:
            text = self.socket.hear()
            self.had_session = True
            frame = json.loads(text)
            kind, message = frame.get("type"), frame.get("message", {})
            try:
                self.take(kind, message)
            except Unfit as unfit:
                self.faults.append(f"{kind}: {unfit}: {text}")
            with self.news:
                self.history.append((kind, message))
                self.unread.append((kind, message))
                self.news.notify_all()

    def say(self, kind, message):
        self.socket.say(json.dumps({"type": kind, "message": message}))

    def acknowledge(self, message):
        if self.acknowledges:
            self.say("AckRequest", {"cluster": message["clusterArn"], "containerInstance": message["containerInstanceArn"],
                                    "messageId": message["messageId"]})

    def take(self, kind, message):
        if kind == "HeartbeatMessage":
            self.say("HeartbeatAckRequest", {"messageId": message["messageId"]})
        elif kind == "PayloadMessage":
            self.take_payload(message)
        elif kind == "TaskManifestMessage":
            self.take_manifest(message)
        elif kind == "TaskStopVerificationAck":
            if self.verifying == message["messageId"]:
                self.verifying = None
                for each in message["stopTasks"]:
                    self.want_stopped(each["taskArn"])
        elif kind == "IAMRoleCredentialsMessage":
            check_credentials(message["roleCredentials"])
            if message["roleType"] not in ("TaskApplication", "TaskExecution"):
                raise Unfit("there is no such type of role")
            if message["taskArn"] in self.state.tasks:
                self.take_credentials(message["messageId"], message["roleType"], message["taskArn"], message["roleCredentials"])
        elif kind == "AttachTaskNetworkInterfacesMessage":
            check_attach(message)
            self.acknowledge(message)
        else:
            raise Unfit("the agent would pass it over")

    def take_credentials(self, message_id, role_type, task, given):
        self.credentials[task, role_type] = given
        if self.acknowledges:
            self.say("IAMRoleCredentialsAckRequest", {"messageId": message_id, "credentialsId": given["credentialsId"],
                                                      "expiration": given["expiration"]})

    def take_payload(self, message):
        check_header(message)
        self.state.sequence = max(self.state.sequence, message.get("seqNum", 0))
        # What is to stop comes first.
        tasks = sorted(message["tasks"], key=lambda task: task["desiredStatus"] != "STOPPED")
        is_whole, given = True, []
        for task in tasks:
            arn, held = task["arn"], self.state.tasks.get(task["arn"])
            if self.stumbles_over(task):
                is_whole = False
                self.report(arn, "STOPPED", reason="UnrecogniedTaskError: Error loading task - invalid task")
            elif task["desiredStatus"] == "STOPPED" and held is None:
                self.report(arn, "STOPPED", reason="TaskStateError: Agent could not progress task's state to stopped")
            elif task["desiredStatus"] == "STOPPED":
                self.want_stopped(arn)
            else:
                check_task(task)
                given += [(role, arn, task[member]) for role, member in (
                    ("TaskApplication", "roleCredentials"), ("TaskExecution", "executionRoleCredentials")) if member in task]
                if held is None:
                    self.state.tasks[arn] = Held(task)
                    if self.runs:
                        self.run(arn)
        for role, arn, credentials in given:
            self.take_credentials(message["messageId"], role, arn, credentials)
        if is_whole:
            self.acknowledge(message)

    def take_manifest(self, message):
        check_header(message)
        if message["timeline"] <= self.state.sequence:
            raise Unfit(f"{self.state.sequence} was said before: the agent passes it over")
        self.state.sequence = message["timeline"]
        wanted = {each["taskArn"] for each in message["tasks"] if each["desiredStatus"] == "RUNNING"}
        beside = [{"taskArn": arn, "taskClusterArn": held.task.get("taskClusterArn", message["clusterArn"]), "desiredStatus": "STOPPED"}
                  for arn, held in self.state.tasks.items() if held.desired == "RUNNING" and arn not in wanted]
        if beside:
            self.verifying = message["messageId"]
            self.say("TaskStopVerificationMessage", {"messageId": message["messageId"], "stopCandidates": beside})
        self.acknowledge(message)

    # --- tasks -----------------------------------------------------------------------------------

    def run(self, arn):
        """A task whose image was pulled by its digest: it is PENDING, and then it runs."""
        held, names = self.state.tasks[arn], self.names(arn)
        pulled = {"pullStartedAt": round(time.time(), 3)}
        time.sleep(0.002)
        pulled["pullStoppedAt"] = round(time.time(), 3)
        self.report(arn, "PENDING", [{"containerName": name, "imageDigest": DIGEST, "status": "PENDING"} for name in names])
        containers = []
        for container in held.task["containers"]:
            name = container["name"]
            held.runtime_ids[name] = uuid.uuid4().hex * 2
            bindings = [self.binding(mapping) for mapping in container.get("portMappings", []) if held.task["networkMode"] == "bridge"]
            containers.append({"containerName": name, "runtimeId": held.runtime_ids[name], "imageDigest": DIGEST, "status": "RUNNING",
                               **({"networkBindings": bindings} if bindings else {})})
        self.report(arn, "RUNNING", containers, **pulled)

    def binding(self, mapping):
        said = {"bindIP": "0.0.0.0", "protocol": mapping["protocol"]}
        if "containerPort" in mapping:
            return {**said, "containerPort": mapping["containerPort"], "hostPort": mapping.get("hostPort") or next(self.ports)}
        first, last = map(int, mapping["containerPortRange"].split("-"))
        ports = [next(self.ports) for _ in range(first, last + 1)]
        return {**said, "containerPortRange": mapping["containerPortRange"], "hostPortRange": f"{ports[0]}-{ports[-1]}"}

    def names(self, arn):
        return [container["name"] for container in self.state.tasks[arn].task["containers"]]

    def want_stopped(self, arn):
        held = self.state.tasks[arn]
        held.desired = "STOPPED"
        if self.runs and held.known != "STOPPED":
            self.end(arn, {name: 143 for name in self.names(arn)})

    def end(self, arn, codes):
        """The containers of a task have ended, and so has the task."""
        self.state.tasks[arn].desired = "STOPPED"
        self.report(arn, "STOPPED", [self.ended(arn, name, code) for name, code in codes.items()],
                    executionStoppedAt=round(time.time(), 3))

    def ended(self, arn, name, code):
        return {"containerName": name, "runtimeId": self.state.tasks[arn].runtime_ids.get(name, ""), "status": "STOPPED", "exitCode": code}

    def report(self, arn, status, containers=(), reason="", **times):
        """Puts down what is to be told of a task: one after the other, each until it is taken."""
        if arn in self.state.tasks:
            self.state.tasks[arn].known = status
        event = {"cluster": self.cluster, "task": arn, "status": status, "reason": reason, **times}
        if containers:
            event["containers"] = list(containers)
        self.reports.put(("SubmitTaskStateChange", event))

    def attached(self, arn, attachment):
        self.reports.put(("SubmitTaskStateChange", {
            "cluster": self.cluster, "task": arn, "attachments": [{"attachmentArn": attachment, "status": "ATTACHED"}]}))

    def tell(self):
        while (event := self.reports.get()) is not None:
            pause = 0.05
            while not self.is_taken(*event):
                if self.over.wait(pause):
                    self.state.unsent.insert(0, event)
                    return
                pause = min(2 * pause, 300)
            self.reports.task_done()

    def is_taken(self, operation, members):
        try:
            return bool(self.call(operation, 298, **members)["acknowledgment"])
        except Failed as failed:
            if failed.code == "InvalidParameterException":
                self.faults.append(f"{members} was dropped: {failed}")
            return failed.code == "InvalidParameterException"
        except (OSError, http.client.HTTPException):
            return False  # the region is away

    def told(self):
        """Waits until all that was put down is taken."""
        wait_for("the reports to be taken", lambda: not self.reports.unfinished_tasks, 20)

    # --- what tests ask --------------------------------------------------------------------------

    def expect(self, kind, where=lambda message: True, seconds=20):
        """The first message of the kind that no test has asked for yet."""
        with self.news:
            def found():
                return next((each for each in self.unread if each[0] == kind and where(each[1])), None)
            if not self.news.wait_for(found, seconds):
                pytest.fail(f"no {kind} came; faults: {self.faults}; ends: {self.ends}; of {[each[0] for each in self.history]}")
            each = found()
            self.unread.remove(each)
            return each[1]

    def task(self, arn, desired="RUNNING", seconds=20):
        """The task as a payload has it, which must come."""
        def has(message):
            return any(task["arn"] == arn and task["desiredStatus"] == desired for task in message["tasks"])
        return next(task for task in self.expect("PayloadMessage", has, seconds)["tasks"] if task["arn"] == arn)

    def payloads_of(self, arn, desired="RUNNING"):
        with self.news:
            return [message["messageId"] for kind, message in self.history if kind == "PayloadMessage"
                    for task in message["tasks"] if task["arn"] == arn and task["desiredStatus"] == desired]

    def manifests(self):
        return [message for kind, message in self.history if kind == "TaskManifestMessage"]

    def again(self):
        """Has the socket torn; the agent connects anew by itself."""
        self.socket.tear()
        return self.expect("HeartbeatMessage")

    def telemetry(self):
        return Telemetry(self)


class Telemetry:
    """The telemetry socket: each text is signed as if it were a request."""

    def __init__(self, agent):
        query = {"agentHash": HASH, "agentVersion": VERSION, "cluster": agent.cluster, "containerInstance": agent.state.arn,
                 "dockerVersion": DOCKER}
        self.agent, self.base = agent, agent.discover()[1]
        self.url = self.base.rstrip("/") + "/ws"
        self.socket = agent.open(self.base, query)
        self.heard = []

    def metadata(self, **more):
        return {"cluster": self.agent.cluster, "containerInstance": self.agent.state.arn, "messageId": str(uuid.uuid4()), **more}

    def publish(self, kind, **members):
        """Says it, and waits until it is acknowledged."""
        text = json.dumps({"type": kind, "message": {**members, "timestamp": round(time.time(), 3)}})
        headers = {"Host": urllib.parse.urlsplit(self.base).netloc, **sign(self.agent.keys, "GET", self.url, body=text.encode())}
        block = "".join(f"{name}: {headers[name]}\r\n" for name in sorted(headers))
        self.socket.say(f"{block}\r\n{text}")
        wanted = {"PublishMetricsRequest": "AckPublishMetric", "PublishHealthRequest": "AckPublishHealth",
                  "PublishInstanceStatusRequest": "AckPublishInstanceStatus"}[kind]
        while (said := json.loads(self.socket.hear()))["type"] != wanted:
            assert said["type"] == "HeartbeatMessage", said
            self.heard.append(said)

    def health(self, arn, **verdicts):
        task = self.agent.state.tasks[arn].task
        containers = [{"containerName": name, "healthStatus": verdict, "statusSince": round(time.time(), 3)}
                      for name, verdict in verdicts.items()]
        self.publish("PublishHealthRequest", metadata=self.metadata(fin=True), tasks=[{
            "taskArn": arn, "taskDefinitionFamily": task["family"], "taskDefinitionVersion": task["version"], "containers": containers}])
