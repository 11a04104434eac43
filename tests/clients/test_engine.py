"""What a running task does: order, health, restarts, stopping, limits, isolation."""

import gzip
import json
import os
import stat
import time

import pytest

from conftest import unique, wait_for


def by_name(task):
    return {container["name"]: container for container in task["containers"]}


def test_exit_codes_and_timestamps_are_those_of_the_containers(cluster):
    lines, task = cluster.output("sh", "-c", "echo one; echo two >&2; exit 7")
    assert sorted(lines) == ["one", "two"]
    assert task["containers"][0]["exitCode"] == 7
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["stoppedReason"].startswith("Essential container in task exited")
    moments = [task[name] for name in ["createdAt", "pullStartedAt", "pullStoppedAt", "startedAt",
                                       "executionStoppedAt", "stoppedAt"]]
    assert moments == sorted(moments)
    assert task["desiredStatus"] == "STOPPED"


def test_the_last_line_before_exit_is_there_before_the_task_is_stopped(cluster):
    for _ in range(3):
        lines, _ = cluster.output("sh", "-c", "seq 1 500; printf 'no newline at the end'")
        assert lines[-1] == "no newline at the end"
        assert lines[:-1] == [str(n) for n in range(1, 501)]


def test_a_line_of_many_buffers_is_one_event(cluster):
    lines, task = cluster.output("sh", "-c", "head -c 100000 /dev/zero | tr '\\0' 'x'; echo; echo after")
    assert [len(line) for line in lines] == [100000, 5], (task["stoppedReason"], task["containers"], [
        str(task.get(moment)) for moment in ("startedAt", "executionStoppedAt", "stoppedAt")])


def test_a_container_waits_for_what_it_depends_on(cluster):
    definition = cluster.define(
        cluster.container("sh", "-c", "sleep 1; echo migrated", name="migrate", essential=False),
        cluster.container("sh", "-c", "touch /tmp/up; sleep 60", name="db", stopTimeout=2, healthCheck={
            "command": ["CMD-SHELL", "test -f /tmp/up"], "interval": 5, "retries": 2, "timeout": 2}),
        cluster.container("sh", "-c", "echo done", name="main", dependsOn=[
            {"containerName": "migrate", "condition": "SUCCESS"}, {"containerName": "db", "condition": "HEALTHY"}]))
    arn, = cluster.run(definition)
    task = cluster.until(arn, "STOPPED")
    assert by_name(task)["main"]["exitCode"] == 0
    assert cluster.lines(arn, "migrate") == ["migrated"]
    assert cluster.lines(arn) == ["done"]


def test_a_dependency_that_fails_keeps_its_dependents_from_starting_and_says_so(cluster):
    definition = cluster.define(
        cluster.container("sh", "-c", "exit 4", name="migrate", essential=False),
        cluster.container("echo", "never", dependsOn=[{"containerName": "migrate", "condition": "SUCCESS"}]))
    arn, = cluster.run(definition)
    task = cluster.until(arn, "STOPPED")
    assert by_name(task)["migrate"]["exitCode"] == 4
    assert "exitCode" not in by_name(task)["main"] or by_name(task)["main"]["exitCode"] != 0
    assert "migrate" in by_name(task)["main"].get("reason", "") + task["stoppedReason"]


def test_health_is_reported(cluster):
    definition = cluster.define(cluster.container("sh", "-c", "sleep 60", stopTimeout=2, healthCheck={
        "command": ["CMD-SHELL", "exit 0"], "interval": 5, "timeout": 2}))
    arn, = cluster.run(definition)
    cluster.until(arn, "RUNNING")
    wait_for("healthy", lambda: cluster.describe(arn)["healthStatus"] == "HEALTHY", 45, 0.5)
    assert cluster.describe(arn)["containers"][0]["healthStatus"] == "HEALTHY"
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)


def test_a_task_that_ignores_sigterm_is_killed_after_its_stop_timeout(cluster):
    definition = cluster.define(cluster.container(
        "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done", stopTimeout=2))
    arn, = cluster.run(definition)
    cluster.until(arn, "RUNNING")
    wait_for("the trap is set", lambda: "ready" in cluster.lines(arn), 15)
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
    task = cluster.until(arn, "STOPPED")
    assert task["containers"][0]["exitCode"] == 137
    assert task["stopCode"] == "UserInitiated"


def test_containers_stop_in_reverse_order_of_their_dependencies(cluster):
    last_words = "trap 'echo bye $(date +%s%N); exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    definition = cluster.define(
        cluster.container("sh", "-c", last_words, name="db", stopTimeout=5),
        cluster.container("sh", "-c", last_words, name="main", stopTimeout=5,
                          dependsOn=[{"containerName": "db", "condition": "START"}]))
    arn, = cluster.run(definition)
    cluster.until(arn, "RUNNING")
    for name in ["db", "main"]:
        wait_for("ready", lambda: "ready" in cluster.lines(arn, name), 15)
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
    cluster.until(arn, "STOPPED")
    goodbye = {name: cluster.lines(arn, name)[-1] for name in ["db", "main"]}
    assert all(line.startswith("bye") for line in goodbye.values()), goodbye


def test_a_restart_policy_restarts_in_place(cluster):
    definition = cluster.define(
        cluster.container("sh", "-c", "sleep 90", name="anchor", stopTimeout=2),
        cluster.container("sh", "-c", "echo start; sleep 61; exit 5", essential=False, stopTimeout=2,
                          restartPolicy={"enabled": True, "restartAttemptPeriod": 60}))
    arn, = cluster.run(definition)
    cluster.until(arn, "RUNNING")
    wait_for("the second start", lambda: cluster.lines(arn).count("start") >= 2, 85, 1)
    assert cluster.describe(arn)["lastStatus"] == "RUNNING"
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)


def test_memory_over_the_limit_is_an_out_of_memory_error(cluster):
    _, task = cluster.output("sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' 'x'); echo $x | wc -c", memory=32)
    container = task["containers"][0]
    assert container["exitCode"] == 137, task
    assert container["reason"].startswith("OutOfMemoryError: Container killed due to memory usage")


def test_the_cpu_quota_of_the_task_holds(cluster):
    lines, _ = cluster.output("sh", "-c", "timeout 4 yes > /dev/null & sleep 4; wait; "
                              "cat /proc/self/stat > /dev/null; cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null "
                              "|| grep usage_usec /sys/fs/cgroup/cpu.stat; times", seconds=60)
    used = [float(part[:-1].replace("m", " ").split()[-1]) for line in lines for part in line.split()
            if part.endswith("s") and "m" in part]
    # A quarter of a core for four seconds is one second; without the quota it would be near four.
    assert used and max(used) < 2.2, lines


def test_the_container_is_isolated(cluster):
    lines, _ = cluster.output("sh", "-c", "echo pid $$; ps | wc -l; hostname; cat /proc/1/comm; "
                              "mount -t tmpfs none /tmp 2>&1 | head -1; dd if=/dev/sda count=1 2>&1 | head -1; "
                              "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; "
                              "touch /proc/sys/kernel/domainname 2>&1 | head -1; ls /dev | tr '\\n' ' '")
    text = "\n".join(lines)
    assert lines[0] == "pid 1", text
    assert int(lines[1]) < 8, text
    assert "permission denied" in text.lower() or "not permitted" in text.lower(), text
    assert "Seccomp:\t2" in text, text
    assert "CapEff:\t00000000a80425fb" in text, text


def test_user_workdir_environment_and_entrypoint_are_applied(cluster):
    lines, _ = cluster.output("-c", "id -u; id -g; pwd; echo $COLOUR; echo $HOME", entryPoint=["sh"], user="app",
                              workingDirectory="/www", environment=[{"name": "COLOUR", "value": "blue and green"}])
    assert lines[:4] == ["1000", "1000", "/www", "blue and green"]


def test_a_read_only_root_can_not_be_written(cluster):
    lines, task = cluster.output("sh", "-c", "touch /x 2> /dev/null || echo refused", readonlyRootFilesystem=True)
    assert lines[-1] == "refused"


def test_volumes_are_shared_between_containers(cluster):
    definition = cluster.define(
        cluster.container("sh", "-c", "echo hello > /out/file", name="writer", essential=False,
                          mountPoints=[{"sourceVolume": "v", "containerPath": "/out"}]),
        cluster.container("sh", "-c", "cat /in/file; touch /in/x 2> /dev/null || echo read only",
                          dependsOn=[{"containerName": "writer", "condition": "SUCCESS"}],
                          mountPoints=[{"sourceVolume": "v", "containerPath": "/in", "readOnly": True}]),
        volumes=[{"name": "v"}])
    arn, = cluster.run(definition)
    cluster.until(arn, "STOPPED")
    lines = cluster.lines(arn)
    assert lines[0] == "hello" and lines[-1] == "read only", lines


def test_volumes_from_another_container(cluster):
    definition = cluster.define(
        cluster.container("sh", "-c", "echo hello > /out/file", name="writer", essential=False,
                          mountPoints=[{"sourceVolume": "v", "containerPath": "/out"}]),
        cluster.container("sh", "-c", "cat /out/file",
                          dependsOn=[{"containerName": "writer", "condition": "COMPLETE"}],
                          volumesFrom=[{"sourceContainer": "writer", "readOnly": True}]),
        volumes=[{"name": "v"}])
    arn, = cluster.run(definition)
    cluster.until(arn, "STOPPED")
    assert cluster.lines(arn) == ["hello"]


def test_an_init_process_reaps_and_ulimits_hold(cluster):
    lines, _ = cluster.output("sh", "-c", "echo $$; ulimit -n", linuxParameters={"initProcessEnabled": True},
                              ulimits=[{"name": "nofile", "softLimit": 123, "hardLimit": 456}])
    assert lines[0] != "1" and lines[1] == "123", lines


def test_overrides_are_applied(cluster):
    definition = cluster.define(cluster.container("echo", "from the definition"))
    arn, = cluster.run(definition, overrides={"containerOverrides": [{
        "name": "main", "command": ["sh", "-c", "echo $WHO"], "environment": [{"name": "WHO", "value": "override"}]}]})
    task = cluster.until(arn, "STOPPED")
    assert cluster.lines(arn) == ["override"]
    assert task["overrides"]["containerOverrides"][0]["command"] == ["sh", "-c", "echo $WHO"]


def test_shared_pid_namespace(cluster):
    definition = cluster.define(
        cluster.container("sh", "-c", "sleep 33333", name="a", stopTimeout=2),
        cluster.container("sh", "-c", "sleep 0.5; ps", stopTimeout=2, dependsOn=[{"containerName": "a", "condition": "START"}]),
        pidMode="task")
    arn, = cluster.run(definition)
    cluster.until(arn, "STOPPED")
    assert any("33333" in line for line in cluster.lines(arn)), cluster.lines(arn)


def test_a_multiline_pattern_joins_events(cluster):
    container = cluster.container("sh", "-c", "echo '[1] first'; echo ' more'; echo '[2] second'")
    container["logConfiguration"]["options"]["awslogs-multiline-pattern"] = r"^\["
    arn, = cluster.run(cluster.define(container))
    cluster.until(arn, "STOPPED")
    assert [line.rstrip("\n") for line in cluster.lines(arn)] == ["[1] first\n more", "[2] second"]


def test_awslogs_creates_its_group_when_asked(cluster):
    group = unique("/made")
    container = cluster.container("echo", "hi")
    container["logConfiguration"]["options"].update({"awslogs-group": group, "awslogs-create-group": "true"})
    arn, = cluster.run(cluster.define(container))
    cluster.until(arn, "STOPPED")
    streams = cluster.logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == [f"t/main/{arn.rsplit('/', 1)[1]}"]


def test_no_logging_at_all_is_fine(cluster):
    for driver in ["none", "json-file"]:
        definition = cluster.ecs.register_task_definition(
            family=unique("f"), containerDefinitions=[{"name": "a", "image": cluster.box, "memory": 64,
                                                        "command": ["echo", "x"],
                                                        "logConfiguration": {"logDriver": driver}}],
        )["taskDefinition"]["taskDefinitionArn"]
        arn, = cluster.run(definition, fargate=False, cluster="default")
        assert cluster.until(arn, "STOPPED", cluster="default")["containers"][0]["exitCode"] == 0


def test_json_files_say_what_is_asked_for_and_are_kept_compressed(region, cluster):
    def run(**options):
        container = {"name": "a", "image": cluster.box, "memory": 64, "command": ["sh", "-c", "seq 1 9999"],
                     "environment": [{"name": "STAGE", "value": "beta"}, {"name": "OTHER", "value": "x"}],
                     "dockerLabels": {"team": "blue", "tier": "front"},
                     "logConfiguration": {"logDriver": "json-file", "options": options}}
        arn, = cluster.run(cluster.ecs.register_task_definition(family=unique("f"), containerDefinitions=[container])
                           ["taskDefinition"]["taskDefinitionArn"], fargate=False, cluster="default")
        return arn, cluster.until(arn, "STOPPED", cluster="default")

    arn, task = run(**{"tag": "{{.ImageName}}|{{.Name}}", "labels": "team", "env-regex": "^ST", "max-size": "100k",
                       "max-file": "3", "compress": "true"})
    assert task["containers"][0]["exitCode"] == 0, task
    files = {path.name.partition("-json.log")[2]: path for path in region.data_dir.rglob(f"*{arn.rsplit('/', 1)[1]}*-json.log*")}
    assert sorted(files) == ["", ".1.gz", ".2.gz"], files
    texts = [gzip.decompress(files[".2.gz"].read_bytes()), gzip.decompress(files[".1.gz"].read_bytes()), files[""].read_bytes()]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    assert [line["log"] for line in lines] == [f"{number}\n" for number in range(10000 - len(lines), 10000)]
    image, _, name = lines[0]["attrs"].pop("tag").partition("|")
    assert image == cluster.box and name.endswith("-a-" + name.rsplit("-", 1)[1]), (image, name)
    assert lines[0]["attrs"] == {"team": "blue", "STAGE": "beta"} and lines[0]["stream"] == "stdout"

    _, task = run(compress="true")
    assert "compress cannot be true when max-file is less than 2" in task["containers"][0]["reason"] + task["stoppedReason"], task


def test_nothing_of_a_region_is_open_to_other_users_and_containers_know_nothing_of_it(region, cluster):
    definition = cluster.define(
        cluster.container("sh", "-c", "umask; stat -c %a / /data; touch /tmp/x && stat -c %a /tmp/x; sleep 60",
                          user="1000", mountPoints=[{"sourceVolume": "v", "containerPath": "/data"}]),
        volumes=[{"name": "v"}])
    arn, = cluster.run(definition)
    cluster.until(arn, "RUNNING")
    wait_for("its lines", lambda: len(cluster.lines(arn)) == 4)
    assert cluster.lines(arn) == ["0022", "755", "755", "644"]
    # What a container or an image gave its modes lies below one of these, which nobody else can enter.
    theirs = ["layers", "layer", "volumes", "shared-volumes"]
    mounted = ["hosts", "resolv.conf", "hostname"]
    open_ones = []
    for path, dirs, files in os.walk(region.data_dir):
        names = ["."] + dirs + [name for name in files if name not in mounted]
        for name in names:
            try:
                mode = os.lstat(os.path.join(path, name)).st_mode
            except FileNotFoundError:
                continue  # gone since
            if mode & 0o077 and not stat.S_ISLNK(mode):
                open_ones.append((os.path.join(path, name), oct(mode)))
        dirs[:] = [name for name in dirs if name not in theirs]
    assert not open_ones
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
