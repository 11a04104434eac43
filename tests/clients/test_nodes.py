"""Three hosts, each a namespace of its own, join one region by token over TLS, and leave it in every way there is."""

import json
import os
import time

import pytest

from hosts import PORT, SUBNET, Region, can_encrypt, eventually, fleet, join_all, processes_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

# Until the region knows that a host is silent, and counts it as lost.
LOST_S_MAX = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("hosts"), 3) as world:
        yield world


def instances(ecs):
    """The instances by the names of their hosts."""
    arns = ecs.list_container_instances(cluster="web")["containerInstanceArns"]
    if not arns:
        return {}
    found = ecs.describe_container_instances(cluster="web", containerInstances=arns)["containerInstances"]

    def attribute(instance, name):
        return next((each.get("value") for each in instance["attributes"] if each["name"] == name), None)

    for instance in found:
        instance["zone"] = attribute(instance, "ecs.availability-zone")
        instance["rack"] = attribute(instance, "rack")
        instance["type"] = attribute(instance, "ecs.instance-type")
    return {attribute(instance, "longshore.host-name"): instance for instance in found}


def placed(ecs):
    """The running tasks of the service by the instances that they are on."""
    arns = ecs.list_tasks(cluster="web", serviceName="web")["taskArns"]
    tasks = ecs.describe_tasks(cluster="web", tasks=arns)["tasks"] if arns else []
    return {task["containerInstanceArn"]: task["taskArn"] for task in tasks if task["lastStatus"] == "RUNNING"}


def test_a_token_opens_the_region_to_hosts_that_it_is_for_and_to_nobody_else(world):
    region, (one, two, three) = world
    shared = region.token("--cluster", "web", "--uses", "2", "--attribute", "rack=7")
    revoked = region.token("--cluster", "web")
    listed = region.longshore("node", "token", "ls").stdout
    row = next(line for line in listed.splitlines()[1:] if "rack=7" not in line)
    region.longshore("node", "token", "revoke", row.split()[0])
    assert "was revoked" in one.refused(revoked)
    forged = shared[:20] + ("A" if shared[20] != "A" else "B") + shared[21:]
    assert "not one of this region's" in one.refused(forged)
    assert "no token of" in one.refused("nonsense")
    # Another region's authority, at the right address.
    wrong = shared[:-8] + ("A" * 8 if not shared.endswith("A" * 8) else "B" * 8)
    assert "is not the region that the token is of" in one.refused(wrong)
    assert "without TLS nobody is" in one.refused(shared, url=f"http://{SUBNET}.1:{PORT}")

    one.join(shared, "--zone", "a")
    two.join(shared, "--zone", "b", "--instance-type", "m5.large")
    ecs = region.client("ecs")
    eventually("two hosts", lambda: sum(it["agentConnected"] for it in instances(ecs).values()) == 2)
    assert "used as often" in three.refused(shared)
    three.join(region.token("--cluster", "web", "--zone", "c"), "--zone", "a", "--instance-attribute", "rack=9")
    eventually("three hosts", lambda: sum(it["agentConnected"] for it in instances(ecs).values()) == 3)
    found = instances(ecs)
    assert [found[f"host{n}"]["zone"] for n in (1, 2, 3)] == ["eu-north-1a", "eu-north-1b", "eu-north-1c"]
    assert [found[f"host{n}"]["rack"] for n in (1, 2, 3)] == ["7", "7", "9"]
    assert found["host2"]["type"] == "m5.large"
    assert len({it["containerInstanceArn"] for it in found.values()}) == 3

    # What the host keeps is its own, and no secret is in it as it is.
    kept = one.folder / "data" / "node.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    membership = json.loads(kept.read_text())
    assert membership["endpoint"] == region.url and "secretAccessKey" not in membership
    # Every row of the region was written without what proves the token.
    for path in (region.folder / "data").glob("region.sqlite*"):
        assert shared[20:60].encode() not in path.read_bytes()


def test_it_is_said_of_each_host_whether_what_goes_to_others_is_encrypted(world):
    region, _ = world
    says, word = ("encrypted", "yes") if can_encrypt() else ("in the clear (no ESP with AES-GCM in its kernel)", "no")
    for name in ("host1", "host2"):
        shown = region.longshore("node", "show", name).stdout
        line = next(line for line in shown.splitlines() if line.startswith("between hosts"))
        assert says in line, shown
    listed = region.longshore("node", "ls").stdout.splitlines()
    column = listed[0].split().index("ENCRYPTED")
    assert {line.split()[column] for line in listed[1:]} == {word}, listed


def test_where_all_is_to_be_encrypted_a_host_that_cannot_is_refused_and_one_that_can_is_not(tmp_path):
    with fleet(tmp_path, 1, lambda folder: Region(folder, "--encrypt-between-hosts", "on")) as (region, (host,)):
        if can_encrypt():
            join_all(region, [host])
            assert "encrypted" in region.longshore("node", "show", host.name).stdout
            return
        host.join(region.token("--cluster", "web"))
        said = "encrypts all that goes between hosts (--encrypt-between-hosts on), and this host cannot: no ESP with AES-GCM"
        eventually("the refusal", lambda: said in host.log("agent.log"))
        assert region.client("ecs").list_container_instances(cluster="web")["containerInstanceArns"] == []


def test_in_the_clear_nobody_from_another_machine_is_let_in(world):
    _, (one, _, _) = world
    said = one.run("curl", "-s", "-m", "5", f"http://{SUBNET}.1:{PORT}/health").stdout
    assert "use https://" in said


def test_a_service_is_spread_over_the_hosts_and_outlives_each_of_them(world):
    region, (one, two, three) = world
    ecs = region.client("ecs")
    ecs.register_task_definition(family="web", networkMode="none", requiresCompatibilities=["EC2"],
                                 containerDefinitions=[{"name": "main", "image": f"{SUBNET}.1:{PORT}/box:1",
                                                        "command": ["sleep", "infinity"], "memory": 16, "stopTimeout": 2}])
    ecs.create_service(cluster="web", serviceName="web", taskDefinition="web", desiredCount=3, launchType="EC2",
                       placementStrategy=[{"type": "spread", "field": "instanceId"}])
    eventually("a task on each host", lambda: len(placed(ecs)) == 3, 60)
    arns = {name: it["containerInstanceArn"] for name, it in instances(ecs).items()}
    shown = region.longshore("ps").stdout
    assert all(host in shown for host in ("host1", "host2", "host3")), shown

    # An agent that is killed comes back as itself, and its task has run all the while.
    before = placed(ecs)
    three.kill()
    three.again()
    eventually("host 3's agent", lambda: three.log("agent.log").count("agent ready") == 2)
    eventually("host 3", lambda: instances(ecs)["host3"]["agentConnected"])
    assert {name: it["containerInstanceArn"] for name, it in instances(ecs).items()} == arns
    assert placed(ecs) == before

    # A host that is cut off: its task is replaced elsewhere, and is no more once it is back.
    two.cut_off()
    lost = before[arns["host2"]]
    assert processes_of(lost)

    def replaced():
        arns_now = ecs.list_tasks(cluster="web", serviceName="web")["taskArns"]
        tasks = ecs.describe_tasks(cluster="web", tasks=arns_now)["tasks"] if arns_now else []
        running = [task for task in tasks if task["lastStatus"] == "RUNNING"]
        return lost not in arns_now and len(running) == 3

    _, seconds = eventually("the task of the host that is cut off, elsewhere", replaced, LOST_S_MAX)
    print(f"cut off, and replaced after {seconds:.1f} s")
    two.heal()
    eventually("host 2 once more", lambda: instances(ecs)["host2"]["agentConnected"], 180)
    assert instances(ecs)["host2"]["containerInstanceArn"] == arns["host2"]
    eventually("what was replaced to be stopped on host 2", lambda: not processes_of(lost))

    # A host that is drained runs nothing of the service any more.
    region.longshore("node", "drain", "host1")
    eventually("the drained host to be empty", lambda: arns["host1"] not in placed(ecs) and sum(
        it["runningTasksCount"] for name, it in instances(ecs).items() if name != "host1") >= 3, 90)
    assert instances(ecs)["host1"]["status"] == "DRAINING"
    shown = region.longshore("node", "ls").stdout
    assert "DRAINING" in shown and "host2" in shown


@pytest.mark.parametrize("how", ["cut off", "agent killed"])
def test_a_fenced_task_has_ended_on_a_host_that_is_out_of_touch_before_it_runs_elsewhere(world, how):
    region, (_, two, three) = world
    ecs = region.client("ecs")
    ecs.register_task_definition(family="only", networkMode="none", requiresCompatibilities=["EC2"],
                                 tags=[{"key": "longshore.fence", "value": "true"}],
                                 containerDefinitions=[{"name": "main", "image": f"{SUBNET}.1:{PORT}/box:1",
                                                        "command": ["sleep", "infinity"], "memory": 16, "stopTimeout": 2,
                                                        "restartPolicy": {"enabled": True, "restartAttemptPeriod": 60}}])
    name = how.replace(" ", "-")
    ecs.create_service(cluster="web", serviceName=name, taskDefinition="only", desiredCount=1, launchType="EC2")

    def running():
        arns = ecs.list_tasks(cluster="web", serviceName=name)["taskArns"]
        tasks = ecs.describe_tasks(cluster="web", tasks=arns)["tasks"] if arns else []
        return next((task for task in tasks if task["lastStatus"] == "RUNNING"), None)

    first, _ = eventually("the fenced task", running)
    arns = {name: it["containerInstanceArn"] for name, it in instances(ecs).items()}
    host = next(host for host in (two, three) if arns[host.name] == first["containerInstanceArn"])
    assert processes_of(first["taskArn"])
    began = time.monotonic()
    host.cut_off() if how == "cut off" else host.kill()
    seen = {}

    def replaced():
        # Never both, whenever it is looked at: the newer one first.
        now = running()
        newer = now and now["taskArn"] != first["taskArn"] and processes_of(now["taskArn"])
        older = processes_of(first["taskArn"])
        assert not (newer and older), "the task runs twice"
        if not older:
            seen.setdefault("ended", time.monotonic() - began)
        return newer

    _, seconds = eventually("the fenced task, elsewhere", replaced, LOST_S_MAX)
    print(f"{how}: ended there after {seen['ended']:.1f} s, and elsewhere after {seconds:.1f} s")
    host.heal() if how == "cut off" else host.again()
    eventually("the host once more", lambda: instances(ecs)[host.name]["agentConnected"], 60)
    assert not processes_of(first["taskArn"])
    ecs.delete_service(cluster="web", service=name, force=True)


def test_a_host_that_is_removed_is_out_at_once_and_comes_back_by_a_token_alone(world):
    region, (one, _, _) = world
    ecs = region.client("ecs")
    gone = instances(ecs)["host1"]["containerInstanceArn"]
    region.longshore("node", "rm", "host1", "--force")
    assert "host1" not in instances(ecs)
    eventually("host 1 to be told", lambda: "does not take this host's keys" in one.log("agent.log"), 90)
    one.end()
    one.join(region.token("--cluster", "web"))
    eventually("host 1 once more", lambda: instances(ecs).get("host1", {}).get("agentConnected"), 60)
    assert instances(ecs)["host1"]["containerInstanceArn"] != gone


def test_links_that_lose_one_direction_alone_have_no_task_run_twice(world):
    """One host hears the region and is not heard, the other is heard and hears nothing."""
    region, hosts = world
    ecs = region.client("ecs")
    ecs.create_service(cluster="web", serviceName="one-way", taskDefinition="only", desiredCount=2, launchType="EC2",
                       placementStrategy=[{"type": "spread", "field": "instanceId"}])

    def running():
        arns = ecs.list_tasks(cluster="web", serviceName="one-way")["taskArns"]
        tasks = ecs.describe_tasks(cluster="web", tasks=arns)["tasks"] if arns else []
        return {task["taskArn"]: task["containerInstanceArn"] for task in tasks if task["lastStatus"] == "RUNNING"}

    first, _ = eventually("both fenced tasks", lambda: running() if len(running()) == 2 else None)
    names = {it["containerInstanceArn"]: name for name, it in instances(ecs).items()}
    cut = [next(host for host in hosts if host.name == names[instance]) for instance in first.values()]
    assert len(set(cut)) == 2, "one on each"
    for host, way in zip(cut, ("out", "in")):
        host.cut_off(way)

    def replaced():
        # The newer ones first, so that one that ends meanwhile is no alarm.
        newer = [arn for arn in running() if arn not in first and processes_of(arn)]
        older = [arn for arn in first if processes_of(arn)]
        assert len(newer) + len(older) <= 2, "a task runs twice"
        return len(newer) == 2

    _, seconds = eventually("both tasks, elsewhere", replaced, LOST_S_MAX)
    print(f"elsewhere after {seconds:.1f} s")
    away = {it["containerInstanceArn"] for it in instances(ecs).values() if not it["agentConnected"]}
    assert away == set(first.values())
    for host in cut:
        host.heal()
    eventually("both hosts once more", lambda: all(it["agentConnected"] for it in instances(ecs).values()), 60)
    assert not any(map(processes_of, first))
    ecs.delete_service(cluster="web", service="one-way", force=True)


def test_a_hosts_keys_are_renewed_while_it_works(world):
    region, (one, _, _) = world
    ecs = region.client("ecs")
    region.longshore("node", "rm", "host1", "--force")
    one.end()
    (one.folder / "agent.log").unlink()
    one.join(region.token("--cluster", "web", "--keys-expire", "16s"))
    eventually("three renewals", lambda: one.log("agent.log").count("key was renewed") >= 3, 60)
    assert instances(ecs)["host1"]["agentConnected"]
    assert "does not take" not in one.log("agent.log")


def test_a_unit_starts_the_agent_of_a_host_that_has_joined_without_its_token(world, tmp_path):
    region, (one, _, _) = world
    one.end()
    token = region.token("--cluster", "web")
    one.longshore("agent", "install", "--no-start", "--unit-dir", tmp_path, "--join", region.url, "--token", token,
                  "--zone", "a")
    unit = (tmp_path / "longshore-agent.service").read_text()
    assert f"agent --data-dir {one.folder}/data" in unit and "--zone a" in unit
    assert token not in unit and "KillMode=process" in unit
    listed = region.longshore("node", "token", "ls").stdout
    assert "0 of 1" in listed, "a host that is a member already uses no token"
    # What a balancer on the host served by has private keys.
    table = one.folder / "data/balancer/table.json"
    table.parent.mkdir(mode=0o700, exist_ok=True)
    table.write_text("{}")
    one.longshore("agent", "uninstall", "--no-start", "--unit-dir", tmp_path)
    assert not (tmp_path / "longshore-agent.service").exists()
    assert not table.exists()
