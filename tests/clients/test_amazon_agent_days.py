"""Amazon's agent on bad days: nothing runs twice, nothing is lost, and what it repeats, forgets or says too late does no harm."""

import json
import os
import ssl
import time
import uuid

import pytest

import hosts
from amazon_agent import ORDERLY, Agent, Failed, Held, Keys, sign
from amazon_cluster import AmazonCluster
from conftest import binary, wait_for
from services import only
from web_socket import Closed, Refused, WebSocket


def states(agent, arn):
    """What the agent was asked of a task, in order."""
    return [task["desiredStatus"] for kind, message in agent.history if kind == "PayloadMessage"
            for task in message["tasks"] if task["arn"] == arn]


def test_a_payload_whose_acknowledgement_was_lost_is_said_again_and_runs_once(amazon):
    agent = amazon.join(runs=False)
    agent.acknowledges = False
    arn, = amazon.on_host()
    first = agent.task(arn)
    agent.again()
    assert agent.task(arn) == first
    assert len(set(agent.payloads_of(arn))) == 2, "each message has an id of its own"
    assert len(agent.state.tasks) == 1 and "connectivityAt" not in amazon.describe(arn)
    agent.acknowledges = True
    agent.again()
    agent.task(arn)
    agent.run(arn)
    running = amazon.until(arn, "RUNNING")
    # Whoever comes back hears of all that it is to run: it has that already.
    agent.again()
    agent.task(arn)
    other, = amazon.on_host()
    agent.task(other)
    assert set(states(agent, arn)) == {"RUNNING"} and amazon.describe(arn)["version"] == running["version"]


def test_acknowledgements_that_come_twice_or_are_of_nothing_do_no_harm(amazon):
    agent = amazon.join(runs=False)
    arn, = amazon.on_host()
    agent.task(arn)
    message_id, = agent.payloads_of(arn)
    of = {"cluster": amazon.name, "containerInstance": agent.state.arn}
    for given in [message_id] * 3 + ["00000001-000000000001", "ffffffff-ffffffffffff", "", "x" * 5000, "é-1", str(uuid.uuid4())]:
        agent.say("AckRequest", {**of, "messageId": given})
    agent.say("NackRequest", {**of, "messageId": message_id, "reason": "Updates are disabled"})
    agent.say("HeartbeatAckRequest", {"messageId": message_id})
    agent.say("IAMRoleCredentialsAckRequest", {"messageId": message_id, "credentialsId": "?", "expiration": ""})
    agent.run(arn)
    amazon.until(arn, "RUNNING")
    assert len(agent.payloads_of(arn)) == 1 and not agent.ends


def test_what_the_region_does_not_know_is_passed_over(amazon):
    agent = amazon.join(runs=False)
    for text in ['{"type":"NewRequest","message":{"a":[1,{"b":null}]}}', '{"type":"ErrorMessage","message":{"message":"?"}}',
                 '{"ServerException":"busy"}', '{"type":"AckRequest"}', '{"type":"AckRequest","message":null}', '{"type":7}', "[]", "", "no JSON",
                 '{"type":"TaskStopVerificationMessage","message":{"messageId":"x","stopCandidates":[{"taskArn":"?"}]}}']:
        agent.socket.say(text)
    arn, = amazon.on_host()
    agent.task(arn)
    # In another order, with members of a later release, and as large as it gets: it leaves in several frames.
    message_id, = agent.payloads_of(arn)
    agent.socket.say(json.dumps({"more": 1, "message": {"later": ["x" * 100_000], "messageId": message_id, "cluster": amazon.name,
                                                        "containerInstance": agent.state.arn}, "type": "AckRequest"}))
    # All of it was heard once what comes after it has an answer.
    agent.say("TaskStopVerificationMessage", {"messageId": agent.manifests()[-1]["messageId"], "stopCandidates": [
        {"taskArn": arn + "0", "desiredStatus": "STOPPED"}, {"taskArn": arn.replace("/task", "/x"), "desiredStatus": "STOPPED"}]})
    agent.expect("TaskStopVerificationAck")
    taken = agent.call("SubmitTaskStateChange", cluster=amazon.name, task=arn, status="RUNNING", reason="", later={"a": 1}, containers=[
        {"containerName": "main", "status": "RUNNING", "later": True}, {"containerName": "~internal~ecs~pause", "status": "RUNNING"}])
    assert taken["acknowledgment"] and not agent.ends
    assert only(amazon.until(arn, "RUNNING")["containers"])["lastStatus"] == "RUNNING"


def test_a_report_that_comes_late_or_twice_changes_nothing(amazon):
    agent = amazon.join(runs=False)
    arn, = amazon.on_host()
    agent.task(arn)

    def submit(status, **more):
        return agent.call("SubmitTaskStateChange", cluster=amazon.name, task=more.pop("task", arn), status=status, reason="", **more)

    for _ in range(2):
        submit("RUNNING", containers=[{"containerName": "main", "status": "RUNNING", "runtimeId": "ab" * 32}])
    submit("PENDING", containers=[{"containerName": "main", "status": "PENDING", "imageDigest": "sha256:" + "1" * 64}])
    running = amazon.describe(arn)
    assert running["lastStatus"] == only(running["containers"])["lastStatus"] == "RUNNING"
    for code in (5, 6):
        submit("STOPPED", containers=[{"containerName": "main", "status": "STOPPED", "exitCode": code}])
    stopped = amazon.describe(arn)
    submit("RUNNING", containers=[{"containerName": "main", "status": "RUNNING"}])
    assert amazon.describe(arn) == stopped and only(stopped["containers"])["exitCode"] == 5
    # Of a task that nobody knows any more it is taken as well, or the agent would say it for ever.
    assert submit("STOPPED", task=arn.rsplit("/", 1)[0] + f"/{uuid.uuid4().hex}")["acknowledgment"]
    for wrong, code in [({"task": "no-arn"}, "InvalidParameterException"), ({"task": None}, "InvalidParameterException")]:
        with pytest.raises(Failed, match=code):
            submit("STOPPED", **wrong)


def test_a_host_whose_clock_is_wrong_by_hours_ends_no_task_before_it_began(amazon):
    agent = amazon.join(runs=False)
    for hours in (-30, 30):
        arn, = amazon.on_host()
        agent.task(arn)
        shifted = time.time() + 3600 * hours
        agent.report(arn, "RUNNING", [{"containerName": "main", "status": "RUNNING"}], pullStartedAt=shifted, pullStoppedAt=shifted + 1.5)
        agent.report(arn, "STOPPED", [{"containerName": "main", "status": "STOPPED", "exitCode": 0}], executionStoppedAt=shifted + 2)
        task = amazon.until(arn, "STOPPED")
        order = ["createdAt", "pullStartedAt", "pullStoppedAt", "startedAt", "executionStoppedAt", "stoppedAt"]
        assert [task[name] for name in order] == sorted(task[name] for name in order)


def test_an_agent_that_starts_anew_keeps_its_tasks_and_says_what_it_had_not_said(amazon):
    agent = amazon.join()
    stays, ends, unwanted = amazon.on_host(count=3)
    for arn in (stays, ends, unwanted):
        amazon.until(arn, "RUNNING")
    before = agent.state.sequence
    agent.stop()
    amazon.until_instance("the agent to be away", agent, lambda found: not found["agentConnected"])
    assert amazon.describe(stays)["connectivity"] == "DISCONNECTED" and amazon.describe(stays)["lastStatus"] == "RUNNING"
    # Meanwhile one has ended on the host, and of another the region has changed its mind.
    agent.end(ends, {"main": 9})
    agent.state = agent.stop()
    assert len(agent.state.unsent) == 1
    amazon.ecs.stop_task(cluster=amazon.name, task=unwanted)
    again = amazon.again(agent)
    assert again.state.sequence > before
    assert only(amazon.until(ends, "STOPPED")["containers"])["exitCode"] == 9
    assert only(amazon.until(unwanted, "STOPPED")["containers"])["exitCode"] == 143
    assert amazon.describe(stays)["lastStatus"] == "RUNNING" and states(again, stays).count("STOPPED") == 0
    assert states(again, unwanted) == ["STOPPED"] and amazon.describe(stays)["connectivity"] == "CONNECTED"


def test_a_task_that_ended_away_is_not_stopped_again_and_one_it_never_had_is_given_up(amazon):
    agent = amazon.join(runs=False)
    agent.acknowledges = False
    arn, = amazon.on_host()
    agent.task(arn)
    # It goes before it has kept the task, which is stopped meanwhile: it hears of its end alone.
    agent.stop()
    agent.state.tasks.clear()
    amazon.ecs.stop_task(cluster=amazon.name, task=arn, reason="enough")
    assert amazon.describe(arn)["lastStatus"] != "STOPPED", "the host has not said so yet"
    again = amazon.again(agent)
    stopped = amazon.until(arn, "STOPPED")
    assert states(again, arn) == ["STOPPED"]
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "enough")


def test_a_task_that_the_agent_can_not_read_ends_and_does_not_come_again(amazon):
    """The agent acknowledges no message with such a task, and says that the task has stopped."""
    agent = amazon.join()
    agent.stumbles_over = lambda task: task["containers"][0]["name"] == "odd" if "containers" in task else False
    odd, = amazon.on_host({"name": "odd"})
    well, = amazon.on_host()
    stopped = amazon.until(odd, "STOPPED")
    assert stopped["stopCode"] == "TaskFailedToStart" and stopped["stoppedReason"].startswith("UnrecogniedTaskError")
    amazon.until(well, "RUNNING")
    agent.again()
    agent.expect("TaskManifestMessage")
    other, = amazon.on_host()
    agent.task(other)
    assert len(agent.payloads_of(odd)) == 1


def test_tasks_that_only_the_host_knows_are_stopped_and_no_others(amazon):
    agent = amazon.join()
    arn, = amazon.on_host()
    amazon.until(arn, "RUNNING")
    stranger = arn.rsplit("/", 1)[0] + f"/{uuid.uuid4().hex}"
    agent.state.tasks[stranger] = Held({"arn": stranger, "containers": [{"name": "main"}]}, known="RUNNING")
    # A region that is asked about one that it wants does not give it up.
    wanted = {"taskArn": arn, "taskClusterArn": agent.state.tasks[arn].task["taskClusterArn"], "desiredStatus": "STOPPED"}
    say = agent.say
    agent.say = lambda kind, message: say(kind, {**message, "stopCandidates": [*message["stopCandidates"], wanted]}
                                          if kind == "TaskStopVerificationMessage" else message)
    agent.again()
    manifest = agent.expect("TaskManifestMessage")
    assert [each["taskArn"] for each in manifest["tasks"]] == [arn]
    answer = agent.expect("TaskStopVerificationAck")
    assert answer["messageId"] == manifest["messageId"] and [each["taskArn"] for each in answer["stopTasks"]] == [stranger]
    wait_for("the stranger to end", lambda: agent.state.tasks[stranger].known == "STOPPED")
    agent.told()
    assert agent.state.tasks[arn].desired == "RUNNING" == amazon.describe(arn)["lastStatus"]


def test_a_host_that_is_to_go_drains_itself_and_its_tasks_are_replaced_first(amazon):
    agent, other = amazon.join(), amazon.agent()
    made = amazon.ecs.register_task_definition(family=amazon.name, containerDefinitions=[{"name": "main", "image": "box:1", "memory": 64}])
    service = amazon.create(made["taskDefinition"]["taskDefinitionArn"], count=2, fargate=False)
    wait_for("the service", lambda: amazon.service(service)["runningCount"] == 2)
    first = amazon.arns(service)
    alone, = amazon.on_host()
    amazon.until(alone, "RUNNING")
    # As on a notice that the machine is taken back.
    answer = agent.call("UpdateContainerInstancesState", cluster=amazon.name, containerInstances=[agent.state.arn], status="DRAINING")
    assert only(answer["containerInstances"])["status"] == "DRAINING" and not answer["failures"]
    other.register()
    other.start()
    wait_for("other tasks", lambda: amazon.arns(service) and not first & amazon.arns(service)
             and amazon.service(service)["runningCount"] == 2)
    for arn in first:
        amazon.until(arn, "STOPPED")
    assert set(other.state.tasks) == amazon.arns(service)
    assert amazon.describe(alone)["lastStatus"] == "RUNNING", "what is not a service's stays"
    # It registers again while it drains, which does not change its mind.
    amazon.again(agent)
    assert amazon.instance(agent)["status"] == "DRAINING"


def test_a_deregistered_instance_is_told_so_and_waits(amazon):
    agent = amazon.join()
    arn, = amazon.on_host()
    amazon.until(arn, "RUNNING")
    with pytest.raises(Exception, match="Found running tasks on the instance."):
        amazon.ecs.deregister_container_instance(cluster=amazon.name, containerInstance=agent.state.arn)
    telemetry = agent.telemetry()
    amazon.deregister(agent)
    assert agent.is_inactive.wait(10), agent.ends
    closed, refused = agent.ends
    assert (closed.code, closed.reason) == (1000, "this container instance was deregistered")
    assert list(json.loads(refused.body)) == ["InactiveInstanceException"] and 400 <= refused.status < 500
    task = amazon.describe(arn)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "TerminationNotice")
    telemetry.socket.close()
    with pytest.raises(Refused, match="InactiveInstanceException"):
        agent.telemetry()
    # What it still says is taken, and a registration of what is no more is refused, by which it ends.
    assert agent.call("SubmitTaskStateChange", cluster=amazon.name, task=arn, status="STOPPED", reason="")["acknowledgment"]
    with pytest.raises(Failed, match="ClientException"):
        amazon.agent(state=agent.state).register()


def test_two_agents_with_one_identity_take_turns_and_wait_between_them(amazon):
    first = amazon.join()
    arn, = amazon.on_host()
    amazon.until(arn, "RUNNING")
    # The disk of a host was copied: the other one has its tasks as well.
    twin = amazon.agent(state=first.state)
    twin.start()
    wait_for("the first to be told", lambda: first.ends)
    assert first.ends[0].reason == "another session took over"
    assert first.ends[0].code not in ORDERLY, "or each would be back at once and end the other's session, hundreds of times a second"
    wait_for("the second to be told in turn", lambda: twin.ends)
    assert amazon.describe(arn)["lastStatus"] == "RUNNING" and amazon.instance(twin)["runningTasksCount"] == 1
    first.stop()
    # The other goes on alone, once it is back.
    family = amazon.describe(arn)["taskDefinitionArn"]
    other = wait_for("a task for the other", lambda: amazon.ecs.run_task(cluster=amazon.name, taskDefinition=family)["tasks"])
    amazon.until(only(other)["taskArn"], "RUNNING")


def test_keys_that_are_not_the_instances_open_no_socket(amazon, region):
    agent = amazon.join()
    account = Keys(f"{uuid.uuid4().int % 10**12:012}", "swordfish")
    for keys, words in [(Keys(agent.keys.access_key, "guessed", agent.keys.token), "Signature"), (account, "Exception"),
                        (Keys(agent.keys.access_key, agent.keys.secret_key), "Exception")]:
        stranger = Agent(region.endpoint, keys, amazon.name, state=agent.state)
        stranger.sockets_of = agent.discover()
        with pytest.raises(Refused, match=words) as refused:
            stranger.session()
        assert 400 <= refused.value.status < 500 and json.loads(refused.value.body), refused.value
    # The query is signed with the rest.
    url = agent.discover()[0] + "ws?containerInstanceArn=" + agent.state.arn
    with pytest.raises(Refused):
        WebSocket(url + "&seqNum=2", sign(agent.keys, "GET", url + "&seqNum=1"))
    assert not agent.ends


def test_a_session_that_is_over_for_its_agent_is_closed_in_turn(amazon):
    agent = amazon.join()
    agent.socket.close(1000, "ConnectionExpired: Reconnect to continue")
    agent.expect("HeartbeatMessage")
    assert (agent.ends[0].code, agent.handshakes) == (1000, 2)
    assert amazon.instance(agent)["agentConnected"]


class AtTheUsualPort(hosts.Region):
    """Where the agent comes to by TLS: it says no port, and no port is advertised."""

    def words(self):
        return [binary(), "region", "--listen", "0.0.0.0:443", "--advertise", f"https://{hosts.SUBNET}.1", "--region", "eu-north-1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_by_tls_it_comes_to_the_usual_port(tmp_path):
    region = AtTheUsualPort(tmp_path / "region")
    try:
        env = region.env()
        keys, authorities = Keys(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), env["AWS_CA_BUNDLE"]
        ecs = region.client("ecs")
        ecs.create_cluster(clusterName="tls")
        made = ecs.register_task_definition(family="f", containerDefinitions=[{"name": "main", "image": "box:1", "memory": 64}])
        agent = Agent(env["AWS_ENDPOINT_URL"], keys, "tls", authorities=authorities)

        def work():
            # Threads that begin in the region's network stay there.
            agent.register()
            agent.start()
            assert all(address.startswith(f"https://{hosts.SUBNET}.1/") for address in agent.discover())
            agent.telemetry().publish("PublishMetricsRequest", metadata={"cluster": "tls", "idle": True, "fin": True})
            with pytest.raises(ssl.SSLError):
                WebSocket(f"https://{hosts.SUBNET}.1:443/acs/ws?x", {}, authorities)
            with pytest.raises(ssl.SSLCertVerificationError):
                WebSocket(f"https://{hosts.SUBNET}.1/acs/ws?x", {})

        region.pool.submit(work).result(60)
        task = only(ecs.run_task(cluster="tls", taskDefinition=made["taskDefinition"]["taskDefinitionArn"])["tasks"])["taskArn"]
        agent.task(task)
        wait_for("the task", lambda: ecs.describe_tasks(cluster="tls", tasks=[task])["tasks"][0]["lastStatus"] == "RUNNING")
        agent.stop()
        assert not agent.faults
    finally:
        region.close()


def test_a_region_that_starts_anew_finds_its_agents_and_their_tasks_again(start_region):
    region = start_region(name="anew")
    amazon = AmazonCluster(region, "box:1")
    agent = amazon.join()
    stays, ends = amazon.on_host(count=2)
    for arn in (stays, ends):
        amazon.until(arn, "RUNNING")
    before = agent.state.sequence
    telemetry = agent.telemetry()
    region.run("down", "--keep-tasks")
    with pytest.raises(Closed) as closed:
        while True:
            telemetry.socket.hear()
    assert closed.value.code == 1001
    # What is said meanwhile is said until it is taken.
    agent.end(ends, {"main": 11})
    region.process.wait(30)
    region.up()
    manifest = agent.expect("TaskManifestMessage")
    assert agent.ends[0].code == 1001 and manifest["timeline"] > before
    assert stays in [each["taskArn"] for each in manifest["tasks"]]
    assert only(amazon.until(ends, "STOPPED")["containers"])["exitCode"] == 11
    assert amazon.describe(stays)["lastStatus"] == "RUNNING"
    other, = amazon.on_host()
    amazon.until(other, "RUNNING")
    amazon.clean_up()
